//! The operations that make up a history.

/// What happens next in the world.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// The controller plans this.
    Plan(Wish),
    /// It plans something else, that is nothing.
    Cancel,
    /// It says again what it wants.
    Say,
    /// A message of an older plan comes late, with a permit for the request that stands.
    SayOld,
    /// It gives leave for the request that it was shown.
    Grant {
        seconds: u64,
    },
    /// The same, but the message comes when the stream may be down by now.
    GrantLate {
        seconds: u64,
    },
    /// A permit for a request that never was.
    GrantOther,
    /// It has the reports it was shown.
    Acknowledge,
    /// Its database is another one from now on.
    NewDatabase,
    Connect,
    Disconnect,
    Wait {
        seconds: u64,
    },
    WallJump {
        hours: i64,
    },
    /// The next ledger takes this long to be durable.
    SlowDisk {
        seconds: u64,
    },
    /// Whatever leads the attempt one step on: leave where it is asked for, else a good end of the effect in hand.
    Advance,
    /// The effect in hand ends.
    Finish(Outcome),
    /// The agent is killed: before the effect in hand did anything, half way, or before it was heard.
    Kill {
        done: Done,
        power: bool,
    },
    /// The agent is killed at the next transition, before or after it is durable.
    KillAtNext {
        durable: bool,
        power: bool,
    },
    /// The timer fires.
    Deadline,
    /// Somebody else switches the product.
    Tamper {
        version: u8,
    },
    /// The driver looks at the disk.
    Look,
}

#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the assignment's own"
)]
pub(crate) struct Wish {
    pub(crate) version: u8,
    pub(crate) remove: bool,
    pub(crate) retry_bad: bool,
    pub(crate) rolls_back: bool,
    pub(crate) disconnected: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Good,
    Bad,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Nothing,
    Half,
    All,
}
