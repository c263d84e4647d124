//! Small builders of the nouns that the tests speak of.

use std::time::Duration;

use comber_machine::{Active, BootId, Epoch, Found, Now, Recipe};
use comber_model::release::{RebootPolicy, Timeouts};
use comber_model::{Action, Artifact, Assignment, Digest, Nonce, ReleaseId, RolloutId};
use jiff::Timestamp;

/// The release that a text such as `webapp@2` names.
#[track_caller]
pub(crate) fn release(text: &str) -> ReleaseId {
    text.parse().unwrap()
}

/// A digest that differs by version and is the same on every run.
pub(crate) fn digest(release: &ReleaseId) -> Digest {
    let mut bytes = [0; 32];
    for (index, byte) in release.version.as_str().bytes().enumerate() {
        bytes[index % 32] = byte;
    }
    Digest(bytes)
}

pub(crate) fn install(release: &ReleaseId) -> Action {
    Action::Install {
        artifact: Artifact {
            digest: digest(release),
            length: 1_000,
            carried_length: 400,
        },
    }
}

pub(crate) fn assignment(action: Action, release: ReleaseId) -> Assignment {
    Assignment {
        rollout: RolloutId(7),
        release,
        action,
        rolls_back: false,
        attempt: 1,
        retry_bad: false,
        disconnected: false,
    }
}

/// A recipe with round times: 5 minutes 30 for a switch, 15 minutes for a reboot, 5 minutes 30 for checks.
pub(crate) fn recipe(reboot: RebootPolicy, irreversible: bool) -> Recipe {
    let timeouts = Timeouts {
        activate: Duration::from_secs(100),
        ..Timeouts::default()
    };
    Recipe {
        timeouts,
        reboot,
        irreversible,
        proof: Duration::ZERO,
    }
}

pub(crate) fn epoch(name: u8) -> Epoch {
    Epoch([name; 16])
}

pub(crate) fn now(boot: u64, since_boot: Duration, wall: Timestamp, nonce: u64) -> Now {
    Now {
        wall,
        boot: since_boot,
        boot_id: BootId(format!("boot-{boot}")),
        connected: true,
        nonce: Nonce(nonce),
    }
}

/// A disk on which `active` is what `current` points to and `kept` are there beside it.
pub(crate) fn found(active: Option<&ReleaseId>, kept: &[ReleaseId], recipe: &Recipe) -> Found {
    let mut found = Found::default();
    if let Some(active) = active {
        let value = Active {
            version: active.version.clone(),
            digest: digest(active),
            recipe: recipe.clone(),
        };
        found.active.insert(active.name.clone(), value);
    }
    for release in kept.iter().chain(active) {
        let versions = found.kept.entry(release.name.clone()).or_default();
        versions.insert(release.version.clone());
    }
    found
}
