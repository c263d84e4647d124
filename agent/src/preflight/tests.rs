//! Preflight against real file systems; a small one is made where the tests may mount.

use std::process::Command;

use super::*;

fn need(path: impl Into<PathBuf>, bytes: u64) -> Need {
    Need {
        path: path.into(),
        bytes,
    }
}

#[test]
fn needs_on_one_file_system_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let available = fsx::free_space(dir.path()).unwrap().available;
    let absent = dir.path().join("not/there/yet");
    let most = available / 3 * 2;
    space(&[need(dir.path(), most)]).unwrap();
    space(&[need(&absent, most)]).unwrap();
    let error = space(&[need(dir.path(), most), need(&absent, most)]).unwrap_err();
    let PreflightError::Space {
        needed, available, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(*needed, most * 2);
    let told = error.to_string();
    assert!(
        told.contains(&format!("needs {needed} bytes, {available} are free")),
        "{told}"
    );
    assert!(space(&[need("/", u64::MAX), need("/", u64::MAX)]).is_err());
}

#[test]
fn needs_are_the_missing_bytes_and_twice_the_unpacked_ones() {
    let artifact = Artifact {
        digest: comber_model::Digest([0; 32]),
        length: 1000,
        carried_length: 300,
    };
    let needs = needs(&artifact, 120, Path::new("/a"), Path::new("/b"));
    assert_eq!(needs, [need("/a", 120), need("/b", 2000)]);
}

/// A file system of that size, unmounted when dropped.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Nothing, with the reason printed, where this process may not mount.
    pub(crate) fn mount(size: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            other => {
                eprintln!("skipped: a small file system cannot be mounted here: {other:?}");
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_full_file_system_is_found_before_anything_is_written() {
    let Some(disk) = SmallDisk::mount(1 << 20) else {
        return;
    };
    space(&[need(disk.path(), 1 << 20)]).unwrap();
    std::fs::write(disk.path().join("fill"), vec![0; 768 << 10]).unwrap();
    let error = space(&[need(disk.path(), 512 << 10)]).unwrap_err();
    assert!(
        matches!(
            error,
            PreflightError::Space {
                needed: 524_288,
                available: 262_144,
                ..
            }
        ),
        "{error:?}"
    );
    // Another file system has its own space.
    space(&[need(disk.path(), 128 << 10), need("/", 512 << 10)]).unwrap();
}

fn manifest(requires: &str) -> Manifest {
    let source = format!(
        "name = \"webapp\"\nversion = \"1\"\nrequires = {requires}\n\
         [installer]\ntype = \"archive\"\npath = \"/opt/webapp\"\n"
    );
    Manifest::parse(&source).unwrap()
}

#[test]
fn what_is_required_must_be_active_in_that_version() {
    let manifest = manifest("[\"runtime@3.1\"]");
    let active =
        |version: &str| BTreeMap::from([("runtime".parse().unwrap(), version.parse().unwrap())]);
    requires(&manifest, &active("3.1")).unwrap();
    let other = requires(&manifest, &active("3.0")).unwrap_err().to_string();
    assert_eq!(
        other,
        "runtime@3.1 must be active on this host before, version 3.0 is"
    );
    let none = requires(&manifest, &BTreeMap::new())
        .unwrap_err()
        .to_string();
    assert_eq!(
        none,
        "runtime@3.1 must be active on this host before, it is not installed"
    );
}

#[test]
fn a_directory_belongs_to_one_product() {
    let name = |text: &str| -> ReleaseName { text.parse().unwrap() };
    let others = [(name("other"), PathBuf::from("/opt/other"))];
    let check = |dir: &str| place(&name("webapp"), Path::new(dir), &others);
    check("/opt/webapp").unwrap();
    check("/opt/other2").unwrap();
    for taken in ["/opt/other", "/opt/other/releases", "/opt"] {
        let error = check(taken).unwrap_err();
        assert!(
            matches!(error, PreflightError::Taken { .. }),
            "{taken}: {error:?}"
        );
    }
    let moved = place(&name("other"), Path::new("/srv/other"), &others).unwrap_err();
    assert!(matches!(moved, PreflightError::Moved { .. }), "{moved:?}");
    place(&name("other"), Path::new("/opt/other"), &others).unwrap();
}
