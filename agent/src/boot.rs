//! Names the boot that the host runs in: what a reboot is proved by. Reads one file of the kernel.

use std::path::Path;

use comber_machine::BootId;
use comber_runtime::fsx::{self, FileError};
use thiserror::Error;

/// Where the kernel says it. Made at random at each boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The longest that is accepted; a UUID has 36 bytes, and the wire takes 64.
const BOOT_ID_MAX: u64 = 64;

/// The boot cannot be told. The agent must not start: it could not tell a reboot from a start of its own.
#[derive(Debug, Error)]
pub enum BootError {
    /// The file is not there, as in a container without `/proc`.
    #[error("cannot tell which boot the host runs in; the agent needs /proc")]
    Unreadable(#[from] FileError),
    /// It does not hold one line of text.
    #[error("{BOOT_ID} does not hold the name of a boot")]
    Malformed,
}

/// The boot that the host runs in.
pub fn current() -> Result<BootId, BootError> {
    let bytes = fsx::read_limited(Path::new(BOOT_ID), BOOT_ID_MAX)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| BootError::Malformed)?;
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(BootError::Malformed);
    }
    Ok(BootId(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_boot_has_one_name() {
        let boot = current().unwrap();
        assert_eq!(boot.0.len(), 36, "{boot} is no UUID");
        assert_eq!(current().unwrap(), boot);
    }
}
