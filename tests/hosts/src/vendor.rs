//! What a trial needs to know of a product and its installer, whatever that is.
//!
//! Implement [`Vendor`] for a release of the `package` or `module` installer and every trial runs with it.

use anyhow::{Result, ensure};

use crate::{Host, HostLab};

/// Makes releases of one product, one installer.
pub trait Vendor: Sync {
    /// Brings onto a host what the product needs beforehand. Called once for each host, before anything is rolled out.
    fn prepare(&self, host: &Host) -> Result<()>;

    /// Builds and publishes another version, never one that was there. May be called from several threads at once.
    fn make(&self, lab: &HostLab, wish: &Wish) -> Result<Made>;

    /// The version that is on the host, found without the agent's help; none where there is none.
    fn installed(&self, host: &Host) -> Result<Option<String>>;

    /// Fails where the host is neither whole in one version nor free of it: files of two versions, a service that runs
    /// another one than is installed. Only called when the host is at rest.
    fn prove_whole(&self, host: &Host) -> Result<()>;

    /// Whether a good release that was cut off is always taken further. Where not, it may also end undone.
    fn goes_on(&self) -> bool {
        true
    }
}

/// A release that is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// `name@version`.
    pub release: String,
    /// As [`Vendor::installed`] tells it.
    pub version: String,
}

/// How a release shall behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Its checks after activation pass.
    pub good: bool,
    /// It says that it needs a reboot.
    pub reboot: bool,
    /// It says that there is no way back.
    pub irreversible: bool,
    /// About how long it is.
    pub length: usize,
}

impl Wish {
    /// A good release that needs nothing.
    pub const GOOD: Self = Self {
        good: true,
        reboot: false,
        irreversible: false,
        length: 256 << 10,
    };
    /// One whose checks fail.
    pub const BAD: Self = Self {
        good: false,
        ..Self::GOOD
    };

    /// The lines of `release.toml` that say so.
    pub fn head(&self) -> String {
        let reboot = if self.reboot {
            "reboot = \"required\"\n"
        } else {
            ""
        };
        format!("{reboot}irreversible = {}\n", self.irreversible)
    }

    /// That many bytes, no two releases the same, of which [`Self::prove`] sees whether they are whole. They do not compress
    /// to nothing.
    pub fn bytes(&self) -> Vec<u8> {
        let mut state = comber_e2e::chance(u64::MAX) | 1;
        let mut bytes = Vec::with_capacity(self.length + 8);
        while bytes.len() < self.length {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        let sum = sum(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Insists that bytes are whole.
    pub fn prove(bytes: &[u8]) -> Result<()> {
        let (data, told) = bytes.split_at(bytes.len().saturating_sub(8));
        ensure!(
            told == sum(data).to_le_bytes(),
            "bytes of the release are torn"
        );
        Ok(())
    }
}

/// FNV-1a: the test's own, since torn bytes are to be seen and not attacks.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
