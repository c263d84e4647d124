//! One transition: the ledger that follows, what to do once it is durable, and what to say of it.

use std::fmt;

use comber_model::{AgentState, Generation};

use crate::{Effect, Epoch, Ledger, Now, Policy, State, actual};

/// What follows from one event. The driver makes `next` durable, then runs `effects` in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The ledger from now on; equal to the old one where the event was ignored.
    pub next: Ledger,
    /// What to do.
    pub effects: Vec<Effect>,
    /// For the log.
    pub note: Note,
}

/// What to say of a transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The machine moved, perhaps through more than one state.
    Moved {
        /// From here.
        from: AgentState,
        /// To here.
        to: AgentState,
    },
    /// It stays where it is; the ledger may have changed.
    Stayed,
    /// The controller has another database: it was restored or replaced. Generations count anew. To be said loudly.
    OtherDatabase {
        /// The database before.
        was: Epoch,
    },
    /// Nothing changed.
    Ignored {
        /// Why.
        reason: Reason,
    },
}

/// Why an event changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A plan older than one already accepted.
    LowerGeneration {
        /// What came.
        got: Generation,
        /// The highest accepted.
        accepted: Generation,
    },
    /// All of it was known.
    NothingNew,
    /// The permit answers another request than the last one.
    OtherRequest,
    /// Nothing in this state waits for the event.
    Unexpected {
        /// The state.
        state: AgentState,
    },
    /// The timer fired before its time, or in another boot.
    TooEarly,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LowerGeneration { got, accepted } => {
                write!(f, "generation {got} is lower than {accepted}")
            }
            Self::NothingNew => f.write_str("nothing new"),
            Self::OtherRequest => f.write_str("the permit answers another request"),
            Self::Unexpected { state } => write!(f, "not expected while {state}"),
            Self::TooEarly => f.write_str("the deadline is not reached"),
        }
    }
}

/// A transition in the making. An event that is ignored is an `Err` and leaves no trace of what was begun.
#[derive(Debug)]
pub(crate) struct Moving<'a> {
    pub(crate) next: Ledger,
    pub(crate) effects: Vec<Effect>,
    pub(crate) policy: &'a Policy,
    pub(crate) now: &'a Now,
    pub(crate) other_database: Option<Epoch>,
}

impl<'a> Moving<'a> {
    pub(crate) fn new(ledger: Ledger, policy: &'a Policy, now: &'a Now) -> Self {
        Self {
            next: ledger,
            effects: Vec::new(),
            policy,
            now,
            other_database: None,
        }
    }

    pub(crate) fn enter(&mut self, state: State) {
        self.next.state = state;
        self.next.since = self.now.wall;
    }

    pub(crate) fn run(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// The refusal of an event that nothing waits for.
    pub(crate) fn unexpected(&self) -> Result<(), Reason> {
        Err(Reason::Unexpected {
            state: self.next.state.kind(),
        })
    }

    /// Ends it. What the controller must see is published exactly where it changed.
    pub(crate) fn finish(mut self, before: &Ledger, outcome: Result<(), Reason>) -> Transition {
        if let Err(reason) = outcome {
            return Transition {
                next: before.clone(),
                effects: Vec::new(),
                note: Note::Ignored { reason },
            };
        }
        if actual(before) != actual(&self.next) {
            self.run(Effect::Publish);
        }
        let (from, to) = (before.state.kind(), self.next.state.kind());
        let note = match self.other_database {
            Some(was) => Note::OtherDatabase { was },
            None if from == to => Note::Stayed,
            None => Note::Moved { from, to },
        };
        Transition {
            next: self.next,
            effects: self.effects,
            note,
        }
    }
}
