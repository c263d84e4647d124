//! Holds: the typed reason why a host or a wave does not move now. Shown to people verbatim.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::calendar::Zone;
use crate::rollout::RolloutState;
use crate::{AgentState, Amount, BudgetName, Percent, ReleaseId, RolloutId, duration};

/// Why something does not move, and when that can change by itself at the earliest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "rule")]
#[expect(missing_docs, reason = "the fields are the numbers that Display words")]
pub enum Hold {
    /// The rollout was never started.
    Draft,
    /// An operator paused the rollout.
    Paused { since: Timestamp },
    /// A gate or budget stopped the rollout.
    Halted { since: Timestamp, why: String },
    /// The rollout is going back; it brings nothing new to any host.
    RollingBack,
    /// The host's wave has not opened; the hold of that wave is another one.
    WaveClosed { wave: u16 },
    /// Too few hosts of the wave before have succeeded so far.
    GateSuccess {
        wave: u16,
        succeeded: u32,
        counted: u32,
        success: Percent,
    },
    /// The wave before is good and must stay so for a while.
    Soaking {
        wave: u16,
        soak: Soak,
        until: Timestamp,
    },
    /// The wave has its own start, which has not come.
    WaveScheduled { wave: u16, at: Timestamp },
    /// Too few environments have a host that succeeded.
    GateCoverage {
        wave: u16,
        covered: u32,
        environments: u32,
        coverage: Percent,
        missing: String,
    },
    /// Too many hosts that succeeded were lost afterwards.
    GateHealthy {
        wave: u16,
        healthy: u32,
        succeeded: u32,
        share: Percent,
        lost: String,
    },
    /// Sources were asked and have not all answered.
    GateAsked {
        wave: u16,
        question: String,
        since: Timestamp,
        until: Timestamp,
    },
    /// A source did not say pass or fail; all are asked again.
    GateInconclusive {
        wave: u16,
        question: String,
        why: String,
        number: u32,
        tries: u32,
        until: Timestamp,
    },
    /// The rollout paused itself, as no source of a gate could say pass or fail.
    GateUndecided {
        wave: u16,
        question: String,
        why: String,
        since: Timestamp,
    },
    /// As many hosts are down as may be.
    InFlight {
        in_flight: u32,
        max: Amount,
        limit: u32,
    },
    /// The host works on another rollout.
    HostBusy { rollout: RolloutId },
    /// The host was sent its assignment and has not confirmed receipt.
    AwaitingReceipt {
        since: Timestamp,
        deadline: Timestamp,
    },
    /// The host is not connected.
    HostSilent {
        since: Timestamp,
        deadline: Option<Timestamp>,
    },
    /// The host works; it moves by itself.
    Working {
        state: AgentState,
        since: Timestamp,
        deadline: Timestamp,
    },
    /// The last attempt failed; the next waits.
    Backoff { until: Timestamp, attempt: u32 },
    /// The host lacks a release that this one requires.
    Requires { release: ReleaseId },
    /// A permit was given and the host has not begun to use it.
    PermitOpen { until: Timestamp },
    /// The rollout is started and its time has not come.
    Scheduled { at: Timestamp },
    /// Everything is staged, and no window is open; `opens` is absent where none is in sight.
    Window {
        opens: Option<Timestamp>,
        zone: Zone,
    },
    /// Everything is staged, and a freeze is in force until then; `opens` is when the host may move at the earliest.
    Frozen {
        freeze: String,
        until: Timestamp,
        opens: Option<Timestamp>,
        zone: Zone,
    },
    /// Windows or freezes count by the host's own clock, and its zone is not known here.
    ZoneUnknown { zone: String },
    /// As many hosts of a failure domain are down, for whatever reason, as a disruption budget lets be; `who` names the
    /// first of them and why.
    DisruptionBudget {
        budget: BudgetName,
        domain: String,
        down: u32,
        max: Amount,
        limit: u32,
        who: Vec<String>,
    },
    /// As many hosts of a failure domain are down for this rollout as its wave lets be.
    Spread { domain: String, down: u32, max: u32 },
    /// Another rollout must be completed first.
    AfterRollout {
        rollout: RolloutId,
        state: Option<RolloutState>,
    },
}

/// A soak's length, for display.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Soak(#[serde(with = "duration")] pub Duration);

impl Hold {
    /// The rule's name, as in JSON output.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Paused { .. } => "paused",
            Self::Halted { .. } => "halted",
            Self::RollingBack => "rolling_back",
            Self::WaveClosed { .. } => "wave_closed",
            Self::GateSuccess { .. } => "gate_success",
            Self::Soaking { .. } => "soaking",
            Self::WaveScheduled { .. } => "wave_scheduled",
            Self::GateCoverage { .. } => "gate_coverage",
            Self::GateHealthy { .. } => "gate_healthy",
            Self::GateAsked { .. } => "gate_asked",
            Self::GateInconclusive { .. } => "gate_inconclusive",
            Self::GateUndecided { .. } => "gate_undecided",
            Self::InFlight { .. } => "in_flight",
            Self::HostBusy { .. } => "host_busy",
            Self::AwaitingReceipt { .. } => "awaiting_receipt",
            Self::HostSilent { .. } => "host_silent",
            Self::Working { .. } => "working",
            Self::Backoff { .. } => "backoff",
            Self::Requires { .. } => "requires",
            Self::PermitOpen { .. } => "permit_open",
            Self::Scheduled { .. } => "scheduled",
            Self::Window { .. } => "window",
            Self::Frozen { .. } => "frozen",
            Self::ZoneUnknown { .. } => "zone_unknown",
            Self::DisruptionBudget { .. } => "disruption_budget",
            Self::Spread { .. } => "spread",
            Self::AfterRollout { .. } => "after_rollout",
        }
    }

    /// When this can change without anybody's doing, at the earliest or, for a deadline, at the latest.
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Soaking { until, .. }
            | Self::Backoff { until, .. }
            | Self::PermitOpen { until }
            | Self::GateAsked { until, .. }
            | Self::GateInconclusive { until, .. }
            | Self::WaveScheduled { at: until, .. }
            | Self::Scheduled { at: until } => Some(*until),
            Self::Window { opens, .. } | Self::Frozen { opens, .. } => *opens,
            Self::AwaitingReceipt { deadline, .. } | Self::Working { deadline, .. } => {
                Some(*deadline)
            }
            Self::HostSilent { deadline, .. } => *deadline,
            Self::Draft
            | Self::Paused { .. }
            | Self::Halted { .. }
            | Self::RollingBack
            | Self::WaveClosed { .. }
            | Self::GateSuccess { .. }
            | Self::GateCoverage { .. }
            | Self::GateHealthy { .. }
            | Self::GateUndecided { .. }
            | Self::InFlight { .. }
            | Self::HostBusy { .. }
            | Self::Requires { .. }
            | Self::ZoneUnknown { .. }
            | Self::DisruptionBudget { .. }
            | Self::Spread { .. }
            | Self::AfterRollout { .. } => None,
        }
    }
}

impl fmt::Display for Hold {
    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each rule, in words; parts of it would hide that none is missing"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draft => {
                f.write_str("the rollout is a draft; start it with: comber rollout start")
            }
            Self::Paused { since } => {
                write!(
                    f,
                    "the rollout is paused since {since:.0}; go on with: comber rollout resume"
                )
            }
            Self::Halted { since, why } => write!(f, "the rollout halted at {since:.0}: {why}"),
            Self::RollingBack => f.write_str("the rollout is being rolled back"),
            Self::WaveClosed { wave } => write!(f, "wave {} is not open", wave + 1),
            Self::GateSuccess {
                wave,
                succeeded,
                counted,
                success,
            } => write!(
                f,
                "wave {} opens when {success} of wave {wave} succeeded; now {succeeded} of {counted}",
                wave + 1
            ),
            Self::Soaking { wave, soak, until } => write!(
                f,
                "wave {} opens when wave {wave} has stayed good for {}, at {until:.0}",
                wave + 1,
                duration::format(soak.0)
            ),
            Self::WaveScheduled { wave, at } => {
                write!(f, "wave {wave} opens not before its start at {at:.0}")
            }
            Self::GateCoverage {
                wave,
                covered,
                environments,
                coverage,
                missing,
            } => write!(
                f,
                "wave {wave} opens when hosts on {coverage} of the environments succeeded; now {covered} of {environments}, not covered: {missing}"
            ),
            Self::GateHealthy {
                wave,
                healthy,
                succeeded,
                share,
                lost,
            } => write!(
                f,
                "wave {} opens when {share} of the hosts that succeeded in wave {wave} are there and well; now {healthy} of {succeeded}, not so: {lost}",
                wave + 1
            ),
            Self::GateAsked {
                wave,
                question,
                since,
                until,
            } => write!(
                f,
                "wave {wave} opens when {question} says pass; asked at {since:.0}, to be answered by {until:.0}"
            ),
            Self::GateInconclusive {
                wave,
                question,
                why,
                number,
                tries,
                until,
            } => write!(
                f,
                "wave {wave} opens when {question} says pass; try {number} of {tries} was inconclusive ({why}), asked again at {until:.0}"
            ),
            Self::GateUndecided {
                wave,
                question,
                why,
                since,
            } => write!(
                f,
                "the rollout paused itself at {since:.0}: {question}, which the gate of wave {wave} asks, says neither pass nor fail ({why}); ask anew with: comber rollout resume"
            ),
            Self::InFlight {
                in_flight,
                max,
                limit,
            } => {
                write!(
                    f,
                    "{in_flight} hosts of the wave are in flight, at most {limit} ({max}) may be"
                )
            }
            Self::HostBusy { rollout } => write!(f, "the host works on rollout {rollout} first"),
            Self::AwaitingReceipt { since, deadline } => write!(
                f,
                "assigned at {since:.0}, receipt not confirmed; the wave goes on without it at {deadline:.0}"
            ),
            Self::HostSilent { since, deadline } => {
                write!(f, "the host is not connected since {since:.0}")?;
                deadline.map_or(Ok(()), |at| write!(f, "; that has consequences at {at:.0}"))
            }
            Self::Working {
                state,
                since,
                deadline,
            } => {
                write!(
                    f,
                    "the host is {state} since {since:.0}; it must end by {deadline:.0}"
                )
            }
            Self::Backoff { until, attempt } => {
                write!(
                    f,
                    "attempt {attempt} failed; the next one begins at {until:.0}"
                )
            }
            Self::Requires { release } => {
                write!(f, "the host lacks {release}, which this release requires")
            }
            Self::PermitOpen { until } => {
                write!(
                    f,
                    "a permit is given and not yet used; it ends at {until:.0}"
                )
            }
            Self::Scheduled { at } => write!(f, "the rollout is started and begins at {at:.0}"),
            Self::Window { opens, zone } => {
                f.write_str("it is staged and waits for a window; ")?;
                opening(f, *opens, zone)
            }
            Self::Frozen {
                freeze,
                until,
                opens,
                zone,
            } => {
                write!(
                    f,
                    "it is staged and frozen by {freeze} until {until:.0} ({}); ",
                    zone.local(*until)
                )?;
                opening(f, *opens, zone)
            }
            Self::ZoneUnknown { zone } => write!(
                f,
                "its time zone {zone:?} is not known, so no window of it is; set one with: comber host label HOST timezone=Europe/Berlin"
            ),
            Self::DisruptionBudget { .. } | Self::Spread { .. } | Self::AfterRollout { .. } => {
                self.others(f)
            }
        }
    }
}

impl Hold {
    /// The holds that others than the rollout itself are behind.
    fn others(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::DisruptionBudget {
            budget,
            domain,
            down,
            max,
            limit,
            who,
        } = self
        {
            let names = who.join(", ");
            write!(
                f,
                "budget {budget}, {domain}: {down} down, at most {limit} ({max}) may be: {names}"
            )?;
            let more = down.saturating_sub(u32::try_from(who.len()).unwrap_or(u32::MAX));
            if more > 0 {
                write!(f, ", {more} more")?;
            }
        }
        if let Self::Spread { domain, down, max } = self {
            write!(
                f,
                "{domain}: {down} down for this rollout, at most {max} may be"
            )?;
        }
        if let Self::AfterRollout { rollout, state } = self {
            write!(f, "rollout {rollout} must be completed first")?;
            match state {
                Some(state) => write!(f, "; it is {state}")?,
                None => f.write_str(", and there is none of that number")?,
            }
        }
        Ok(())
    }
}

/// When a host may move at the earliest, also by its own clock.
fn opening(f: &mut fmt::Formatter<'_>, opens: Option<Timestamp>, zone: &Zone) -> fmt::Result {
    match opens {
        Some(at) => write!(f, "it may activate from {at:.0} on ({})", zone.local(at)),
        None => f.write_str("none is in sight, so only other windows could move it"),
    }
}
