//! What bounds the machine, beyond what each release says of itself.

use std::time::Duration;

use comber_model::duration;
use comber_model::release::{Installer, Manifest, RebootPolicy, SystemChecks, Timeouts};
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
    /// release that kills the agent or the host again and again is not healthy: one that boots and crashes goes back in
    /// the boot after the third crash.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// How long its steps may take.
    pub timeouts: Timeouts,
    /// Whether its activation needs a reboot.
    pub reboot: RebootPolicy,
    /// True where it is never rolled back.
    pub irreversible: bool,
    /// After a reboot: how long the host may take to come up before its checks. The default is not written, so that an
    /// older agent, which knows none, reads the ledger.
    #[serde(default = "up", with = "duration", skip_serializing_if = "is_usual")]
    pub up: Duration,
    /// How long its installer may prove the change before the checks.
    #[serde(default, skip_serializing_if = "Duration::is_zero")]
    pub proof: Duration,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            reboot: RebootPolicy::default(),
            irreversible: false,
            up: up(),
            proof: Duration::ZERO,
        }
    }
}

fn up() -> Duration {
    SystemChecks::default().up
}

fn is_usual(duration: &Duration) -> bool {
    *duration == up()
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
            up: manifest.system.up,
            proof: match &manifest.installer {
                Installer::Agent(agent) => agent.deadline,
                Installer::Archive(_) | Installer::Package(_) | Installer::Module(_) => {
                    Duration::ZERO
                }
            },
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

    /// Longest verification; one after a reboot also waits for the host to come up.
    pub(crate) fn verifying(&self, policy: &Policy, rebooted: bool) -> Duration {
        let up = if rebooted { self.up } else { Duration::ZERO };
        up.saturating_add(self.timeouts.verify)
            .saturating_add(self.proof)
            .saturating_add(policy.slack)
    }

    /// Longest proof that the host came up on what it had before.
    pub(crate) fn coming_up(&self, policy: &Policy) -> Duration {
        self.up.saturating_add(policy.slack)
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

    /// Where the installer proves the change first, the checks must still have their whole time.
    #[test]
    fn an_agent_has_the_time_of_its_proof_beside_that_of_its_checks() {
        let source = "name = 'comber-agent'\nversion = '2'\n[installer]\ntype = 'agent'\ndeadline = '15m'\n[timeouts]\nverify = '3m'";
        let manifest = Manifest::parse(source).unwrap();
        let recipe = Recipe::from(&manifest);
        let within = recipe.verifying(&Policy::default(), false);
        assert_eq!(within, Duration::from_mins(18) + Duration::from_secs(30));
        assert_eq!(Recipe::default().proof, Duration::ZERO);
    }
}
