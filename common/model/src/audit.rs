//! The audit log: what one entry says, and the chain that ties it to all before.
//!
//! Pure. An entry is kept as the exact text that was hashed, so that checking it needs no agreement on how it is written.
//! The text holds its number and the hash of the entry before; a changed, removed or inserted entry breaks the chain at
//! its place. What was removed by age is said by an entry itself. Invariant: two logs that [`Verifier`] accepts and that
//! end in the same [`Head`] say the same from the first entry that both hold.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Digest, Invalid};

/// Longest text of what was before, and of what is after.
pub const SIDE_MAX: usize = 1000;
/// The hash before the first entry.
const NOTHING: Digest = Digest([0; 32]);

/// One thing that somebody changed, or was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place, from 1, without gaps.
    pub number: u64,
    /// Hash of the entry before; zeroes before the first.
    pub previous: Digest,
    /// When, by the controller's clock.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What was called, or `plan`, `trim`.
    pub action: String,
    /// What it changed, for example `rollout r7`; absent where nothing single.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// What changed of it as it was; absent where it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What changed of it as it is; absent where it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The sha256 of all records that were written, where one entry stands for many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<Digest>,
    /// Why it was refused; absent where it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// How often, where one entry stands for many refusals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// Who acted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Actor {
    /// `operator`, `host`, `stranger`, `planner` or `controller`.
    pub kind: String,
    /// Its name; empty where the kind says all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// In which role; empty where in none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// `certificate`, or `token` and its id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proof: String,
    /// Where it called from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
}

impl Actor {
    /// One that the kind says all of.
    pub fn of_kind(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            name: String::new(),
            role: String::new(),
            proof: String::new(),
            from: String::new(),
        }
    }
}

/// An entry as it is kept: the text, and its sha256.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// [`Entry`] as JSON.
    pub body: String,
    /// The sha256 of the text.
    pub hash: Digest,
}

/// A place in the log: who keeps one elsewhere can tell later that nothing up to it was changed. The default is before
/// the first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of the entry.
    pub number: u64,
    /// Its hash.
    pub hash: Digest,
}

impl Head {
    /// Before the first entry.
    pub const START: Self = Self {
        number: 0,
        hash: NOTHING,
    };
}

impl Default for Head {
    fn default() -> Self {
        Self::START
    }
}

/// `NUMBER:HASH`.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

impl FromStr for Head {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || {
            Invalid::new(
                "head",
                "must be NUMBER:HASH, as `comber audit verify` prints it",
            )
        };
        let (number, hash) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self {
            number: number.parse().map_err(|_| wrong())?,
            hash: hash.parse().map_err(|_| wrong())?,
        })
    }
}

impl Entry {
    /// The entry behind `head`, sealed; moves the head on to it.
    #[expect(
        clippy::missing_panics_doc,
        reason = "an entry is plain data, which can always be written"
    )]
    pub fn seal(mut self, head: &mut Head) -> (u64, Sealed) {
        self.number = head.number + 1;
        self.previous = head.hash;
        let body = serde_json::to_string(&self)
            .expect("an entry is plain data: no maps, no failing serializers");
        let hash = Digest(Sha256::digest(body.as_bytes()).into());
        *head = Head {
            number: self.number,
            hash,
        };
        (self.number, Sealed { body, hash })
    }

    /// What the entry of a removal by age says was the last that is gone.
    fn trimmed(&self) -> Option<Head> {
        let is_trim = self.action == TRIM && self.actor.kind == "controller";
        self.after.as_deref().filter(|_| is_trim)?.parse().ok()
    }
}

/// The action of an entry that says which are gone by age.
pub const TRIM: &str = "trim";

/// What is wrong with a log, by the number of the entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The text is not what was hashed, or no entry at all.
    #[error("entry {0} was changed: its text does not have its hash")]
    Changed(u64),
    /// It stands where another should.
    #[error("entry {0} was removed or moved: entry {1} stands in its place")]
    Missing(u64, u64),
    /// Its text is whole, and does not follow upon the one before.
    #[error("entry {0} was replaced, or the one before it: they do not belong together")]
    Unchained(u64),
    /// The log begins late and no entry says why.
    #[error("entries up to {0} were removed, and none that is left says that they were by age")]
    BeginRemoved(u64),
    /// It ends before a place that it once had.
    #[error("the log ends with entry {0}, and once had entry {1}: what followed was removed")]
    EndRemoved(u64, u64),
    /// It has another entry at a place that is known.
    #[error("entry {0} is not the one that was there when {1} was noted: the log was made anew")]
    Other(u64, Head),
    /// The place that is known is no longer kept.
    #[error(
        "entry {0} is not kept any more, so that the head cannot be compared; the oldest is {1}"
    )]
    TooOld(u64, u64),
}

/// Checks a log, entry after entry.
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    first: Option<(u64, Digest)>,
    last: Option<Head>,
    known: Option<Head>,
    seen: bool,
    /// Whether an entry says that what is gone before the first one is gone by age.
    explained: bool,
}

impl Verifier {
    /// Compares with a place noted earlier, too.
    pub fn knowing(known: Option<Head>) -> Self {
        Self {
            known,
            ..Self::default()
        }
    }

    /// The next entry, as it is kept under its number.
    pub fn take(&mut self, number: u64, sealed: &Sealed) -> Result<Entry, Broken> {
        let hash = Digest(Sha256::digest(sealed.body.as_bytes()).into());
        let entry: Option<Entry> = serde_json::from_str(&sealed.body).ok();
        let due = self.last.map(|last| last.number + 1);
        if let Some(due) = due.filter(|due| *due != number) {
            return Err(Broken::Missing(due, number));
        }
        let entry = entry.filter(|entry| hash == sealed.hash && entry.number == number);
        let entry = entry.ok_or(Broken::Changed(number))?;
        match self.last {
            Some(last) if entry.previous != last.hash => return Err(Broken::Unchained(number)),
            Some(_) => {}
            None => self.first = Some((number, entry.previous)),
        }
        self.compare(number.saturating_sub(1), entry.previous)?;
        self.compare(number, hash)?;
        self.explained |= entry
            .trimmed()
            .is_some_and(|gone| self.before() == Some(gone));
        self.last = Some(Head { number, hash });
        Ok(entry)
    }

    /// That nothing follows. Gives the place where the log ends.
    pub fn finish(&self) -> Result<Head, Broken> {
        let last = self.last.unwrap_or(Head::START);
        let before = self.before().unwrap_or(Head::START);
        if before != Head::START && !self.explained {
            return Err(Broken::BeginRemoved(before.number));
        }
        match self.known {
            Some(known) if known.number > last.number => {
                Err(Broken::EndRemoved(last.number, known.number))
            }
            Some(known) if !self.seen && known != Head::START => {
                let first = self.first.map_or(0, |(first, _)| first);
                Err(Broken::TooOld(known.number, first))
            }
            Some(_) | None => Ok(last),
        }
    }

    /// The place before the first entry.
    fn before(&self) -> Option<Head> {
        let (first, hash) = self.first?;
        let number = first.saturating_sub(1);
        Some(Head { number, hash })
    }

    fn compare(&mut self, number: u64, hash: Digest) -> Result<(), Broken> {
        let Some(known) = self.known.filter(|known| known.number == number) else {
            return Ok(());
        };
        self.seen = true;
        if known.hash == hash {
            Ok(())
        } else {
            Err(Broken::Other(number, known))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(text: &str) -> Entry {
        Entry {
            number: 0,
            previous: NOTHING,
            at: Timestamp::UNIX_EPOCH,
            actor: Actor::of_kind("controller"),
            action: "test".to_owned(),
            object: Some(text.to_owned()),
            before: None,
            after: None,
            records: None,
            refused: None,
            times: None,
        }
    }

    fn log(length: usize) -> Vec<(u64, Sealed)> {
        let mut head = Head::START;
        let texts = (0..length).map(|index| entry(&format!("object {index}")));
        texts.map(|entry| entry.seal(&mut head)).collect()
    }

    fn verify(log: &[(u64, Sealed)], known: Option<Head>) -> Result<Head, Broken> {
        let mut verifier = Verifier::knowing(known);
        for (number, sealed) in log {
            verifier.take(*number, sealed)?;
        }
        verifier.finish()
    }

    fn head(log: &[(u64, Sealed)], at: usize) -> Head {
        let (number, sealed) = &log[at];
        Head {
            number: *number,
            hash: sealed.hash,
        }
    }

    #[test]
    fn a_whole_log_ends_in_its_head_and_holds_every_earlier_one() {
        let log = log(9);
        assert_eq!(verify(&log, None), Ok(head(&log, 8)));
        for at in 0..9 {
            let known = head(&log, at);
            assert_eq!(known.to_string().parse(), Ok(known));
            assert_eq!(verify(&log, Some(known)), Ok(head(&log, 8)));
        }
        assert_eq!(verify(&[], None), Ok(Head::START));
    }

    #[test]
    fn a_changed_or_removed_entry_is_named() {
        let whole = log(9);
        let mut changed = whole.clone();
        changed[4].1.body = changed[4].1.body.replace("object 4", "object 5");
        assert_eq!(verify(&changed, None), Err(Broken::Changed(5)));
        // Whoever can hash can change it and its hash; then the next one does not follow.
        changed[4].1.hash = Digest(Sha256::digest(changed[4].1.body.as_bytes()).into());
        assert_eq!(verify(&changed, None), Err(Broken::Unchained(6)));
        let mut removed = whole.clone();
        removed.remove(4);
        assert_eq!(verify(&removed, None), Err(Broken::Missing(5, 6)));
        assert_eq!(verify(&whole[3..], None), Err(Broken::BeginRemoved(3)));
    }

    #[test]
    fn a_cut_end_and_a_log_made_anew_are_found_by_an_earlier_head() {
        let whole = log(9);
        let known = head(&whole, 8);
        assert!(
            verify(&whole[..7], None).is_ok(),
            "the chain alone cannot tell"
        );
        assert_eq!(
            verify(&whole[..7], Some(known)),
            Err(Broken::EndRemoved(7, 9))
        );
        let mut anew = Head::START;
        let anew: Vec<_> = (0..12).map(|_| entry("other").seal(&mut anew)).collect();
        assert_eq!(verify(&anew, Some(known)), Err(Broken::Other(9, known)));
        assert_eq!(verify(&[], Some(known)), Err(Broken::EndRemoved(0, 9)));
    }

    #[test]
    fn what_is_gone_by_age_is_said_by_the_log_itself() {
        let mut log = log(9);
        let mut end = head(&log, 8);
        let gone = head(&log, 2);
        let trim = Entry {
            action: TRIM.to_owned(),
            after: Some(gone.to_string()),
            ..entry("")
        };
        log.push(trim.seal(&mut end));
        assert_eq!(verify(&log[3..], None), Ok(end));
        assert_eq!(
            verify(&log[3..], Some(gone)),
            Ok(end),
            "the last that is gone is still known"
        );
        assert_eq!(verify(&log[4..], None), Err(Broken::BeginRemoved(4)));
        let older = head(&log, 0);
        assert_eq!(verify(&log[3..], Some(older)), Err(Broken::TooOld(1, 4)));
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_found(at in 0_usize..5, byte in 0_usize..200, to in "[a-z0-9]") {
            let mut log = log(5);
            let body = log[at].1.body.clone();
            let byte = byte % body.len();
            prop_assume!(body[byte..=byte] != to);
            log[at].1.body = format!("{}{to}{}", &body[..byte], &body[byte + 1..]);
            prop_assert_eq!(verify(&log, None), Err(Broken::Changed(at as u64 + 1)));
        }
    }
}
