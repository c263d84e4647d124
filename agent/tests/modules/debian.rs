//! Debian's packages, fetched once and unpacked below `target/`, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the expectations of these tests were made with.
const VERSION: &str = "3.4.0";

/// Debian's client and what belongs to it, unpacked.
pub(crate) struct Debian {
    root: PathBuf,
}

impl Debian {
    /// None where it is not to be had; says so.
    pub(crate) fn get() -> Option<Self> {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-mender");
        if !root.is_dir()
            && let Err(why) = fetch(&root)
        {
            println!("skipped: Debian's mender {VERSION} cannot be had: {why}");
            return None;
        }
        Some(Self { root })
    }

    pub(crate) fn module(&self, name: &str) -> PathBuf {
        self.root.join("usr/share/mender/modules/v3").join(name)
    }

    pub(crate) fn client(&self) -> PathBuf {
        self.root.join("usr/bin/mender")
    }

    pub(crate) fn artifact_tool(&self) -> PathBuf {
        self.root.join("usr/bin/mender-artifact")
    }
}

fn fetch(root: &Path) -> Result<(), String> {
    let parent = root.parent().ok_or("target/ has no place for it")?;
    fs::create_dir_all(parent).map_err(|error| error.to_string())?;
    let fresh = tempfile::tempdir_in(parent).map_err(|error| error.to_string())?;
    let mut download = Command::new("timeout");
    download.args([
        "120",
        "apt-get",
        "download",
        "mender-client",
        "mender-artifact",
    ]);
    run(download.current_dir(fresh.path()))?;
    let unpacked = fresh.path().join("root");
    let mut found = false;
    for entry in fs::read_dir(fresh.path()).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        found |= name.starts_with(&format!("mender-client_{VERSION}"));
        if path.extension().is_some_and(|ending| ending == "deb") {
            run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&unpacked))?;
        }
    }
    if !found {
        return Err("the archive has another version".to_owned());
    }
    match fs::rename(&unpacked, root) {
        // Another test was quicker.
        Err(_) if root.is_dir() => Ok(()),
        renamed => renamed.map_err(|error| error.to_string()),
    }
}

pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let last = told.lines().last().unwrap_or_default();
    Err(format!("{}: {last}", command.get_program().display()))
}
