//! The audit log as the controller writes it: what each batch of changes says of itself.
//!
//! Entries are made where a batch is cut into transactions, from the very records that are written, and stand in the same
//! transaction as these: neither exists without the other. A person's change has one entry for each record; what the
//! planner writes has one for each transaction. What hosts report of themselves is no entry. Invariant: secrets never
//! enter an entry, and no entry is longer than a few kilobytes.

mod refusals;
mod words;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use comber_model::audit::{Actor, Entry, Head, Sealed, TRIM};
use comber_model::{Digest, Generation};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::caller::{Caller, Proof, Who};
use super::changes::put;
use super::{Core, CoreError, LoadError, records};
use crate::store::{Key, Op, Store};

pub use refusals::Refusal;
pub(crate) use refusals::{Refusals, WINDOW};

/// Entries that are kept; older ones go, and an entry says so.
pub(crate) const KEPT: u64 = 1_000_000;
/// Entries that are removed at once.
const CUT: u64 = 90;
/// Hosts and rollouts that an entry of the planner names.
const NAMED: usize = 10;
/// Records of one group that have an entry each; more have one together.
const SINGLE: usize = 16;
/// Entries of one page from the store.
const PAGE: usize = 1000;

/// Who is behind a group of records.
#[derive(Debug, Clone, Default)]
pub(crate) enum Source {
    /// What hosts say, and what the controller keeps for itself.
    #[default]
    Silent,
    /// The controller by itself, or whoever is root on its machine.
    Controller,
    /// A person, or whoever holds a token.
    Caller(Arc<Caller>),
    /// The planner.
    Plan(Generation),
}

/// A line of its own, without a record that changes.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    /// Who.
    pub(crate) actor: Actor,
    /// What.
    pub(crate) action: String,
    /// The last entry that is removed.
    pub(crate) trimmed: Option<Head>,
    /// Why it was refused.
    pub(crate) refused: Option<String>,
    /// How often.
    pub(crate) times: Option<u32>,
}

impl Source {
    /// Of an edit with this caller.
    pub(crate) fn of(by: Option<&Arc<Caller>>) -> Self {
        match by {
            None => Self::Controller,
            Some(caller) => match &caller.who {
                // Its own reports; a renewed certificate is a change that somebody should find.
                Who::Host(_) if !caller.rpc.ends_with("/Renew") => Self::Silent,
                Who::Host(_) | Who::Stranger | Who::Operator(_) => Self::Caller(Arc::clone(caller)),
            },
        }
    }
}

/// Writes entries for one batch.
pub(crate) struct Scribe<'a> {
    pub(crate) head: Head,
    now: Timestamp,
    store: &'a Store,
    /// What earlier groups of the batch left of each record.
    seen: HashMap<Key, Option<Bytes>>,
    plan: Planned,
}

/// What the planner wrote in the transaction at hand.
#[derive(Default)]
struct Planned {
    generation: Option<Generation>,
    hasher: Sha256,
    counts: BTreeMap<&'static str, u32>,
    named: Vec<String>,
    rollouts: BTreeMap<String, String>,
}

impl<'a> Scribe<'a> {
    pub(crate) fn new(head: Head, now: Timestamp, store: &'a Store) -> Self {
        Self {
            head,
            now,
            store,
            seen: HashMap::new(),
            plan: Planned::default(),
        }
    }

    /// The entries of a group, to stand beside its records.
    pub(crate) fn group(&mut self, source: &Source, note: Option<Note>, ops: &[Op]) -> Vec<Op> {
        if let Some(note) = note {
            return vec![self.note(note)];
        }
        let (actor, action) = match source {
            Source::Silent => return Vec::new(),
            Source::Plan(generation) => {
                self.planned(*generation, ops);
                return Vec::new();
            }
            Source::Controller => (Actor::of_kind("controller"), "controller".to_owned()),
            Source::Caller(caller) => (
                caller.actor(),
                caller.rpc.trim_start_matches('/').to_owned(),
            ),
        };
        let told: Vec<&Op> = ops.iter().filter(|op| words::is_told(op.key())).collect();
        if told.len() > SINGLE {
            let mut hasher = Sha256::new();
            for op in &told {
                feed(&mut hasher, op);
            }
            let mut entry = self.entry(actor, action);
            entry.object = Some(format!("{} records", told.len()));
            entry.records = Some(Digest(hasher.finalize().into()));
            return vec![self.seal(entry)];
        }
        let entries = told.into_iter().map(|op| {
            let before = self.before(op);
            let (before, after) = words::difference(before.as_deref(), value(op));
            let mut entry = self.entry(actor.clone(), action.clone());
            entry.object = Some(words::object(op.key()));
            (entry.before, entry.after) = (before, after);
            self.seal(entry)
        });
        entries.collect()
    }

    /// The entry of what the planner wrote since the last call, for the transaction that ends here.
    pub(crate) fn planned_entry(&mut self) -> Option<Op> {
        let plan = std::mem::take(&mut self.plan);
        let generation = plan.generation?;
        let mut entry = self.entry(Actor::of_kind("planner"), "plan".to_owned());
        let told = serde_json::json!({
            "generation": generation, "wrote": plan.counts, "rollouts": plan.rollouts, "among": plan.named,
        });
        entry.object = Some(format!("plan {}", generation.0));
        entry.after = Some(words::bounded(told.to_string()));
        entry.records = Some(Digest(plan.hasher.finalize().into()));
        Some(self.seal(entry))
    }

    fn planned(&mut self, generation: Generation, ops: &[Op]) {
        self.plan.generation = Some(generation);
        for op in ops {
            feed(&mut self.plan.hasher, op);
            let kind = words::kind(op.key());
            *self.plan.counts.entry(kind).or_default() += 1;
            if kind == "rollout" {
                let state = |value: Option<&[u8]>| words::field(value?, "state");
                let before = self.before(op);
                let (before, after) = (state(before.as_deref()), state(value(op)));
                let text = [before, after].map(Option::unwrap_or_default).join(" -> ");
                self.plan.rollouts.insert(words::object(op.key()), text);
            } else if kind == "assignment" && self.plan.named.len() < NAMED {
                self.plan.named.push(words::name(op.key()).to_owned());
            }
        }
    }

    /// The record as it was, and remembers what it becomes.
    fn before(&mut self, op: &Op) -> Option<Bytes> {
        let now = value(op).map(Bytes::copy_from_slice);
        if let Some(before) = self.seen.insert(op.key().clone(), now) {
            return before;
        }
        // A store that cannot be read fails the batch, which follows.
        let stored = self.store.get(op.key()).ok().flatten();
        stored.map(|record| record.value)
    }

    fn note(&mut self, note: Note) -> Op {
        let mut entry = self.entry(note.actor, note.action);
        entry.after = note.trimmed.map(|head| head.to_string());
        entry.refused = note.refused.map(words::bounded);
        entry.times = note.times;
        self.seal(entry)
    }

    fn entry(&self, actor: Actor, action: String) -> Entry {
        Entry {
            number: 0,
            previous: Digest([0; 32]),
            at: self.now,
            actor,
            action,
            object: None,
            before: None,
            after: None,
            records: None,
            refused: None,
            times: None,
        }
    }

    fn seal(&mut self, entry: Entry) -> Op {
        let (number, sealed) = entry.seal(&mut self.head);
        put(records::audit_key(number), &sealed)
    }
}

impl Caller {
    /// Who calls, in the words of the log.
    pub fn actor(&self) -> Actor {
        let from = self.address.to_string();
        match &self.who {
            Who::Stranger => Actor {
                from,
                ..Actor::of_kind("stranger")
            },
            Who::Host(name) => Actor {
                name: name.clone(),
                proof: "certificate".to_owned(),
                from,
                ..Actor::of_kind("host")
            },
            Who::Operator(authority) => Actor {
                kind: "operator".to_owned(),
                name: authority.name.clone(),
                role: authority.role.to_string(),
                proof: match &authority.proof {
                    Proof::Certificate(_) => "certificate".to_owned(),
                    Proof::Token(hash) => format!("token {}", hash.short()),
                },
                from,
            },
        }
    }
}

fn value(op: &Op) -> Option<&[u8]> {
    match op {
        Op::Put { value, .. } => Some(value),
        Op::Delete { .. } => None,
    }
}

/// Lengths first, so that no two lists of records have the same bytes.
fn feed(hasher: &mut Sha256, op: &Op) {
    let value = value(op).unwrap_or_default();
    for part in [op.key().as_ref(), value] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
}

/// Entries that are too old, to be removed: their keys, and the last of them.
pub(crate) fn outdated(
    store: &Store,
    oldest: u64,
    head: Head,
    kept: u64,
) -> Option<(Vec<String>, Head)> {
    if head.number < oldest + kept + CUT {
        return None;
    }
    let last = oldest + CUT - 1;
    let stored = store
        .get(records::audit_key(last).as_bytes())
        .ok()
        .flatten();
    let sealed = stored.and_then(|record| records::decode::<Sealed>(b"", &record.value).ok());
    let hash = sealed.map_or(Digest([0; 32]), |sealed| sealed.hash);
    let keys = (oldest..=last).map(records::audit_key).collect();
    Some((keys, Head { number: last, hash }))
}

impl Note {
    /// That entries up to this one are gone by age.
    pub(crate) fn trimmed(last: Head) -> Self {
        Self {
            actor: Actor::of_kind("controller"),
            action: TRIM.to_owned(),
            trimmed: Some(last),
            refused: None,
            times: None,
        }
    }
}

/// Where the log ends, read from the store. `floor` is an entry that was surely durable.
pub(crate) fn head(store: &Store, floor: u64) -> Result<Head, LoadError> {
    let mut head = Head::START;
    let mut after = records::audit_key(floor.saturating_sub(1));
    loop {
        let page = store.range(records::AUDIT.as_bytes(), Some(after.as_bytes()), PAGE)?;
        for item in &page.items {
            // One that was tampered with must not keep the controller from starting; whoever verifies finds it.
            let sealed = records::decode::<Sealed>(&item.key, &item.record.value).ok();
            let hash = sealed.map_or(Digest([0; 32]), |sealed| sealed.hash);
            let number = records::audit_number(&item.key).unwrap_or(head.number);
            head = Head { number, hash };
        }
        match page.items.last() {
            Some(last) if page.more => after = String::from_utf8_lossy(&last.key).into_owned(),
            Some(_) | None => break,
        }
    }
    if head.number < floor {
        tracing::error!(
            entry = floor,
            "entries of the audit log are gone; see: comber audit verify"
        );
        head.number = floor;
    }
    Ok(head)
}

impl Core {
    /// Entries behind a number as they are kept, at most `limit`. One that cannot be read has an empty text.
    pub async fn audit(&self, after: u64, limit: usize) -> Result<Vec<(u64, Sealed)>, CoreError> {
        let read = self.store.read(move |store| {
            let key = records::audit_key(after);
            let page = store.range(
                records::AUDIT.as_bytes(),
                Some(key.as_bytes()),
                limit.min(PAGE),
            )?;
            let unreadable = || Sealed {
                body: String::new(),
                hash: Digest([0; 32]),
            };
            let entries = page.items.iter().map(|item| {
                let sealed = records::decode::<Sealed>(&item.key, &item.record.value);
                let number = records::audit_number(&item.key).unwrap_or(0);
                (number, sealed.unwrap_or_else(|_| unreadable()))
            });
            Ok(entries.collect())
        });
        read.await
            .map_err(|error| CoreError::Stopped(error.to_string()))
    }

    /// Notes that somebody was refused; coalesced, so that refusals cannot fill the disk.
    pub fn refused(&self, refusal: Refusal) {
        if !self.refusals.lock().note(&refusal) {
            return;
        }
        self.write_note(refusal.into_note(None));
    }

    /// Writes down how often refusals were repeated; to be called now and then.
    pub(crate) fn tell_refusals(&self) {
        let notes = self.refusals.lock().flush();
        for note in notes {
            self.write_note(note);
        }
    }

    fn write_note(&self, note: Note) {
        let job: super::task::Job = Box::new(move |edit| {
            edit.changes.note(note);
            Box::new(|_| {})
        });
        // Where edits wait already, a refusal is the least of them.
        let _full = self.inputs.try_send(super::task::Input::Job(job));
    }
}

/// A JSON value of a stored record, without its envelope.
fn stored(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice::<Value>(bytes)
        .ok()?
        .get_mut("d")
        .map(Value::take)
}

#[cfg(test)]
mod tests;
