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
        matches!(refused, ArtifactError::TooLarge { .. }),
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
