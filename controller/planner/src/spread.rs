//! How many hosts of each failure domain a rollout has down, for waves that are spread over domains.

use std::collections::BTreeMap;

use comber_model::rollout::{Rollout, Spread};
use comber_model::{Hold, Host};

/// Counts by domain of each wave that says a spread; hosts of the rollout count whatever their own wave is.
#[derive(Debug, Default)]
pub(crate) struct Spreads {
    down: BTreeMap<(u16, String), u32>,
}

fn of_wave(rollout: &Rollout, wave: u16) -> Option<&Spread> {
    rollout.spec.waves.get(usize::from(wave))?.spread.as_ref()
}

impl Spreads {
    /// Counts a host that is or may be down.
    pub(crate) fn take(&mut self, rollout: &Rollout, host: &Host) {
        for (wave, spec) in (0..).zip(&rollout.spec.waves) {
            if let Some(spread) = &spec.spread {
                let domain = spread.by.value(&host.labels).to_owned();
                *self.down.entry((wave, domain)).or_insert(0) += 1;
            }
        }
    }

    /// What keeps one more host of that wave up; absent where nothing does.
    pub(crate) fn hold(&self, rollout: &Rollout, wave: u16, host: &Host) -> Option<Hold> {
        let spread = of_wave(rollout, wave)?;
        let value = spread.by.value(&host.labels);
        let down = self.down.get(&(wave, value.to_owned())).copied();
        let down = down.unwrap_or(0);
        (down >= spread.max).then(|| Hold::Spread {
            domain: format!("{}={value}", spread.by),
            down,
            max: spread.max,
        })
    }
}
