//! A small disk to fill: a file system in memory of a few megabytes, mounted for the length of a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; unmounted when it goes.
#[derive(Debug)]
pub struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many megabytes; needs root. Where that is not to be had, says so and gives none.
    pub fn mount(place: &Path, megabytes: u32) -> Option<Self> {
        fs::create_dir_all(place).ok()?;
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "comber-test"])
            .arg(place)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: mounting a small disk needs root");
            return None;
        }
        Some(Self {
            place: place.to_owned(),
        })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that still holds it open must not keep the test's directory for ever.
        let _unmounted = Command::new("umount")
            .arg("--lazy")
            .arg(&self.place)
            .status();
    }
}
