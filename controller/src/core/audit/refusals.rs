//! Refusals, counted so that an attacker cannot fill the disk with them.
//!
//! Pure. The first refusal of its kind in a window is written at once; those that follow are counted, and told in one
//! line when the window ends. Invariant: one window writes at most `2 * KINDS + 1` entries, whatever is tried.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use comber_model::audit::Actor;

use super::Note;

/// Length of a window.
pub(crate) const WINDOW: Duration = Duration::from_mins(1);
/// Kinds of refusal that are told apart in one window.
const KINDS: usize = 20;

/// Somebody was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who it says it is, as far as that is known.
    pub actor: Actor,
    /// From where; the port says nothing.
    pub address: IpAddr,
    /// What was called.
    pub rpc: String,
    /// Why it was refused.
    pub why: String,
}

type Kind = (Actor, IpAddr, String);

/// Refusals of the window at hand.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    kinds: BTreeMap<Kind, (u32, String)>,
    others: u32,
}

impl Refusals {
    /// Counts one; true where it is to be written at once.
    pub(crate) fn note(&mut self, refusal: &Refusal) -> bool {
        let actor = Actor {
            // The port is another with each connection and would make each a kind of its own.
            from: String::new(),
            ..refusal.actor.clone()
        };
        let kind = (actor, refusal.address, refusal.rpc.clone());
        if let Some((times, _)) = self.kinds.get_mut(&kind) {
            *times = times.saturating_add(1);
            return false;
        }
        if self.kinds.len() >= KINDS {
            self.others = self.others.saturating_add(1);
            return false;
        }
        self.kinds.insert(kind, (0, refusal.why.clone()));
        true
    }

    /// Ends the window: what was repeated in it, to be written.
    pub(crate) fn flush(&mut self) -> Vec<Note> {
        let kinds = std::mem::take(&mut self.kinds).into_iter();
        let repeated = kinds.filter(|(_, (times, _))| *times > 0);
        let mut notes: Vec<Note> = repeated
            .map(|((actor, address, rpc), (times, why))| {
                let refusal = Refusal {
                    actor,
                    address,
                    rpc,
                    why,
                };
                refusal.into_note(Some(times))
            })
            .collect();
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            notes.push(Note {
                actor: Actor::of_kind("stranger"),
                action: "any".to_owned(),
                trimmed: None,
                refused: Some("refusals of many kinds, not told apart".to_owned()),
                times: Some(others),
            });
        }
        notes
    }
}

impl Refusal {
    pub(super) fn into_note(self, times: Option<u32>) -> Note {
        Note {
            actor: Actor {
                from: self.address.to_string(),
                ..self.actor
            },
            action: self.rpc.trim_start_matches('/').to_owned(),
            trimmed: None,
            refused: Some(self.why),
            times,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(number: u8) -> Refusal {
        Refusal {
            actor: Actor::of_kind("stranger"),
            address: [127, 0, 0, number].into(),
            rpc: "/x/Y".to_owned(),
            why: "no".to_owned(),
        }
    }

    #[test]
    fn the_first_is_written_and_the_others_are_counted() {
        let mut refusals = Refusals::default();
        assert!(refusals.note(&refusal(1)));
        for _ in 0..1000 {
            assert!(!refusals.note(&refusal(1)));
        }
        let notes = refusals.flush();
        assert_eq!(notes.len(), 1);
        assert_eq!(
            (notes[0].times, notes[0].action.as_str()),
            (Some(1000), "x/Y")
        );
        assert!(refusals.flush().is_empty());
        assert!(refusals.note(&refusal(1)), "a new window begins anew");
    }

    #[test]
    fn a_window_writes_so_many_and_no_more_whatever_is_tried() {
        let mut refusals = Refusals::default();
        let mut written = 0;
        for round in 0..50 {
            for number in 0..=255 {
                written += usize::from(refusals.note(&refusal(number)));
            }
            assert_eq!(written, KINDS, "round {round}");
        }
        let notes = refusals.flush();
        assert!(written + notes.len() <= 2 * KINDS + 1);
        let told: u32 = notes.iter().filter_map(|note| note.times).sum();
        assert_eq!(told as usize + written, 50 * 256, "some were lost");
    }
}
