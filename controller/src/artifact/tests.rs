//! Uploads that are broken off, altered, too long or raced for; and what becomes of them.

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const MAX: u64 = 1 << 20;

struct Bundle {
    digest: Digest,
    bytes: Vec<u8>,
}

fn bundle(dir: &Path) -> Bundle {
    let source = dir.join("source");
    fs::create_dir_all(source.join("files")).unwrap();
    fs::write(source.join("files/data"), vec![b'x'; 5000]).unwrap();
    let manifest =
        "name = \"app\"\nversion = \"1\"\n[installer]\ntype = \"archive\"\npath = \"/opt/app\"\n";
    fs::write(source.join("release.toml"), manifest).unwrap();
    let out = dir.join("app.comber");
    let built = comber_bundle::build(&source, &out, &mut |_| {}).unwrap();
    Bundle {
        digest: built.artifact.digest,
        bytes: fs::read(out).unwrap(),
    }
}

async fn put(artifacts: &Artifacts, digest: Digest, bytes: &[u8]) -> Result<u64, ArtifactError> {
    let length = bytes.len() as u64;
    let from = artifacts.stat(digest, length)?.received;
    let mut upload = artifacts.upload(digest, length, from).await?;
    upload
        .append(&bytes[usize::try_from(from).unwrap()..])
        .await?;
    upload.finish().await
}

#[tokio::test]
async fn an_upload_broken_off_goes_on_where_it_stood() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    let artifacts = Artifacts::open(&dir.path().join("a"), MAX, NOW).unwrap();
    let length = bundle.bytes.len() as u64;
    let mut upload = artifacts.upload(bundle.digest, length, 0).await.unwrap();
    upload.append(&bundle.bytes[..100]).await.unwrap();
    assert_eq!(upload.finish().await.unwrap(), 100);
    let stat = artifacts.stat(bundle.digest, length).unwrap();
    assert_eq!(
        stat,
        Stat {
            received: 100,
            complete: false
        }
    );
    assert_eq!(
        put(&artifacts, bundle.digest, &bundle.bytes).await.unwrap(),
        length
    );
    let contents = artifacts.finish(bundle.digest).await.unwrap();
    assert_eq!(contents.listing.manifest().id().to_string(), "app@1");
    let path = artifacts.path(bundle.digest).unwrap();
    assert_eq!(fs::read(path).unwrap(), bundle.bytes);
    assert!(artifacts.stat(bundle.digest, length).unwrap().complete);
    artifacts.finish(bundle.digest).await.unwrap();
    artifacts.remove(bundle.digest).unwrap();
    assert!(artifacts.path(bundle.digest).is_none());
}

#[tokio::test]
async fn what_is_altered_or_truncated_never_becomes_an_artifact() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    let artifacts = Artifacts::open(&dir.path().join("a"), MAX, NOW).unwrap();
    let mut altered = bundle.bytes.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    for bytes in [
        &altered[..],
        &bundle.bytes[..bundle.bytes.len() - 1],
        &b""[..],
    ] {
        put(&artifacts, bundle.digest, bytes).await.unwrap();
        let refused = artifacts.finish(bundle.digest).await.unwrap_err();
        assert!(matches!(refused, ArtifactError::Bundle { .. }), "{refused}");
        assert!(artifacts.path(bundle.digest).is_none());
        // It is gone, so that a good one can follow.
        let stat = artifacts.stat(bundle.digest, 10).unwrap();
        assert_eq!(stat.received, 0);
    }
    let other = Digest([9; 32]);
    put(&artifacts, other, &bundle.bytes).await.unwrap();
    let refused = artifacts.finish(other).await.unwrap_err();
    assert!(
        matches!(refused, ArtifactError::OtherDigest { .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn limits_hold_and_uploads_do_not_race() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open(&dir.path().join("a"), MAX, NOW).unwrap();
    let digest = Digest([1; 32]);
    let refused = artifacts.upload(digest, MAX + 1, 0).await.unwrap_err();
    assert!(
        matches!(refused, ArtifactError::TooLarge { .. }),
        "{refused}"
    );
    let mut upload = artifacts.upload(digest, 3, 0).await.unwrap();
    let refused = artifacts.upload(digest, 3, 0).await.unwrap_err();
    assert!(matches!(refused, ArtifactError::Busy { .. }), "{refused}");
    let refused = upload.append(b"four").await.unwrap_err();
    assert!(
        matches!(refused, ArtifactError::Longer { length: 3 }),
        "{refused}"
    );
    drop(upload);
    let refused = artifacts.upload(digest, 3, 2).await.unwrap_err();
    assert!(
        matches!(refused, ArtifactError::Offset { there: 0, .. }),
        "{refused}"
    );
    let missing = artifacts.finish(Digest([2; 32])).await.unwrap_err();
    assert!(
        matches!(missing, ArtifactError::Missing { .. }),
        "{missing}"
    );
}

#[tokio::test]
async fn a_stale_upload_is_removed_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let artifacts = Artifacts::open(&path, MAX, NOW).unwrap();
    let digest = Digest([1; 32]);
    put(&artifacts, digest, b"abc").await.unwrap();
    let now = Timestamp::try_from(fs::metadata(&path).unwrap().modified().unwrap()).unwrap();
    let soon = Artifacts::open(&path, MAX, now).unwrap();
    assert_eq!(soon.stat(digest, 3).unwrap().received, 3);
    let later = now + Duration::from_hours(25);
    let later = Artifacts::open(&path, MAX, later).unwrap();
    assert_eq!(later.stat(digest, 3).unwrap().received, 0);
}

#[tokio::test]
async fn an_artifact_that_the_disk_damaged_is_removed_and_can_be_published_again() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = bundle(dir.path());
    let artifacts = Artifacts::open(&dir.path().join("a"), MAX, NOW).unwrap();
    put(&artifacts, bundle.digest, &bundle.bytes).await.unwrap();
    artifacts.finish(bundle.digest).await.unwrap();
    let path = artifacts.path(bundle.digest).unwrap();
    let mut damaged = bundle.bytes.clone();
    damaged.truncate(bundle.bytes.len() / 2);
    fs::write(&path, damaged).unwrap();
    let refused = artifacts.finish(bundle.digest).await.unwrap_err();
    assert!(
        matches!(refused, ArtifactError::Damaged { .. }),
        "{refused}"
    );
    let length = bundle.bytes.len() as u64;
    let stat = artifacts.stat(bundle.digest, length).unwrap();
    assert!(!stat.complete && stat.received == 0, "{stat:?}");
    put(&artifacts, bundle.digest, &bundle.bytes).await.unwrap();
    artifacts.finish(bundle.digest).await.unwrap();
}

/// A file system in memory of a few megabytes; needs root.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(place: &Path) -> Option<Self> {
        fs::create_dir_all(place).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m", "comber-test"]);
        let mounted = mount.arg(place).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(place.to_owned()));
        }
        println!("skipped: mounting a small disk needs root");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut unmount = std::process::Command::new("umount");
        // Where it fails the directory cannot be removed, which the test's own end then shows.
        let _unmounted = unmount.arg("--lazy").arg(&self.0).output();
    }
}

#[tokio::test]
async fn what_would_fill_the_disk_is_refused_before_a_byte_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("disk")) else {
        return;
    };
    let artifacts = Artifacts::open(&disk.0.join("a"), 1 << 30, NOW).unwrap();
    let digest = Digest([1; 32]);
    let refused = artifacts.upload(digest, 8 << 20, 0).await.unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, ArtifactError::Space { .. }), "{text}");
    assert!(
        text.contains("artifacts.dir") && text.contains("disk/a"),
        "{text}"
    );
    assert_eq!(artifacts.stat(digest, 8 << 20).unwrap().received, 0);
    // What fits is taken.
    put(&artifacts, digest, &vec![0; 1 << 20]).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_fills_meanwhile_keeps_what_was_acknowledged_and_gets_the_rest_back() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("disk")) else {
        return;
    };
    let artifacts = Artifacts::open(&disk.0.join("a"), 1 << 30, NOW).unwrap();
    let (digest, length) = (Digest([1; 32]), 6 << 20);
    let mut upload = artifacts.upload(digest, length, 0).await.unwrap();
    upload.append(&[1; 1000]).await.unwrap();
    assert_eq!(upload.finish().await.unwrap(), 1000);
    let mut upload = artifacts.upload(digest, length, 1000).await.unwrap();
    // Somebody else fills the disk now.
    let other = disk.0.join("other");
    fs::write(&other, vec![0; 7 << 20]).unwrap();
    let piece = vec![1; 256 << 10];
    let mut failed = None;
    while failed.is_none() {
        failed = upload.append(&piece).await.err();
    }
    let failed = failed.unwrap();
    assert!(matches!(failed, ArtifactError::Full { .. }), "{failed}");
    drop(upload);
    let stat = artifacts.stat(digest, length).unwrap();
    assert_eq!(stat.received, 1000, "more was kept than acknowledged");
    fs::remove_file(other).unwrap();
    let mut upload = artifacts.upload(digest, length, 1000).await.unwrap();
    upload.append(&piece).await.unwrap();
    assert_eq!(upload.finish().await.unwrap(), 1000 + piece.len() as u64);
}
