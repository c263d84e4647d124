//! What bounds the machine, beyond what each release says of itself.

use std::time::Duration;

use comber_model::release::{Installer, Manifest, RebootPolicy, Timeouts};
use serde::{Deserialize, Serialize};

/// Bounds that the agent's configuration may change; the defaults fit a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Longest preflight, all checks before activation included. Thirty-two checks of the default ten seconds fit.
    pub preflight: Duration,
    /// Added to the release's own timeouts, whose steps stop themselves; the deadline catches the one that hangs.
    pub slack: Duration,
    /// Pause before a refused reboot is asked for again. An inhibitor, such as a running backup, holds for minutes.
    pub reboot_again: Duration,
    /// How often an activation or a verification is taken up again after a crash before the host goes back instead. A
    /// release that kills the agent or the host again and again is not healthy.
    pub resumes_max: u32,
    /// The same for going back, before the host is called broken. Higher: going back is the last way out.
    pub roll_back_resumes_max: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            preflight: Duration::from_mins(10),
            slack: Duration::from_secs(30),
            reboot_again: Duration::from_mins(1),
            resumes_max: 2,
            roll_back_resumes_max: 10,
        }
    }
}

/// What the machine must know of a release; the rest of the manifest is the installer's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// How long its steps may take.
    pub timeouts: Timeouts,
    /// Whether its activation needs a reboot.
    pub reboot: RebootPolicy,
    /// True where it is never rolled back.
    pub irreversible: bool,
}

impl From<&Manifest> for Recipe {
    fn from(manifest: &Manifest) -> Self {
        let mut timeouts = manifest.timeouts.clone();
        if let Installer::Module(module) = &manifest.installer {
            // A module's calls stop themselves, each at the module's own limit. One comes before the checks and one after
            // them.
            timeouts.activate = timeouts.activate.max(module.timeout);
            timeouts.verify = timeouts
                .verify
                .saturating_add(module.timeout.saturating_mul(2));
        }
        Self {
            timeouts,
            reboot: manifest.reboot,
            irreversible: manifest.irreversible,
        }
    }
}

impl Recipe {
    /// Whether to reboot after an activation that says it needs one or not.
    pub(crate) fn reboots(&self, needs_reboot: bool) -> bool {
        match self.reboot {
            RebootPolicy::Never => false,
            RebootPolicy::Required => true,
            RebootPolicy::Auto => needs_reboot,
        }
    }

    /// Longest activation or way back: the timeout holds for each of stop, switch and start.
    pub(crate) fn switching(&self, policy: &Policy) -> Duration {
        self.timeouts
            .activate
            .saturating_mul(3)
            .saturating_add(policy.slack)
    }

    /// Longest verification.
    pub(crate) fn verifying(&self, policy: &Policy) -> Duration {
        self.timeouts.verify.saturating_add(policy.slack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_own_limit_fits_into_the_steps_around_it() {
        let manifest = |recipe: &str| {
            let source = format!("name = 'a'\nversion = '1'\n[installer]\n{recipe}");
            Recipe::from(&Manifest::parse(&source).unwrap()).timeouts
        };
        let plain = manifest("type = 'archive'\npath = '/a'");
        assert_eq!(plain, Timeouts::default());
        let module = manifest("type = 'module'\nmodule = 'm'\ntimeout = '1h'");
        assert_eq!(module.activate, Duration::from_hours(1));
        assert_eq!(module.verify, plain.verify + Duration::from_hours(2));
        let short = manifest("type = 'module'\nmodule = 'm'\ntimeout = '1s'");
        assert_eq!(short.activate, plain.activate);
    }
}
