//! What an operator may tell a rollout to do, from which state, and what else to do where it may not.
//!
//! A command changes the rollout's record only; the next plan draws the consequences for hosts. So a command that was
//! made durable is never half carried out.

use comber_model::event::{Event, EventKind};
use comber_model::rollout::{
    Halt, HaltReason, MemberState, Outcomes, RollBackScope, Rollout, RolloutState,
};
use comber_model::{Invalid, RolloutId};
use jiff::Timestamp;

use crate::{Finding, PlanInput, RolloutView, gate, preview, questions};

/// What an operator asks of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Begin: select hosts and open the first wave.
    Start,
    /// Give no permits until resumed.
    Pause,
    /// Go on after a pause or a halt. After a halt, budgets count only what ends from now on.
    Resume,
    /// Stop for good; hosts that have not activated are cancelled.
    Abort,
    /// Take every host back to what it had, then stop for good.
    RollBack,
}

impl Command {
    /// Every command, in the order of a rollout's life.
    pub const ALL: [Self; 5] = [
        Self::Start,
        Self::Pause,
        Self::Resume,
        Self::Abort,
        Self::RollBack,
    ];

    /// The word used in logs and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::RollBack => "roll back",
        }
    }
}

/// What a command changes: to be made durable together, then [`PlanInput::put_rollout`] and a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandEffect {
    /// The record afterwards.
    pub rollout: Rollout,
    /// What happened.
    pub events: Vec<Event>,
}

/// Why a command is not carried out; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandRefused {
    /// There is no such rollout.
    #[error("there is no rollout {id}; list them with: comber rollout list")]
    Unknown {
        /// As asked.
        id: RolloutId,
    },
    /// The rollout's state does not allow it.
    #[error("cannot {} rollout {id}: it is {state}; {remedy}", command.as_str())]
    State {
        /// Which rollout.
        id: RolloutId,
        /// What was asked.
        command: Command,
        /// Where the rollout stands.
        state: RolloutState,
        /// What can be done instead.
        remedy: String,
    },
    /// The rollout cannot start as it is written.
    #[error("cannot start rollout {id}: {}", join(problems))]
    Invalid {
        /// Which rollout.
        id: RolloutId,
        /// Everything that is wrong, by field of the rollout file.
        problems: Vec<Invalid>,
    },
}

fn join(problems: &[Invalid]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Decides a command on a rollout.
pub fn command(
    input: &PlanInput,
    id: RolloutId,
    command: Command,
    actor: &str,
    now: Timestamp,
) -> Result<CommandEffect, CommandRefused> {
    let view = input
        .rollouts
        .get(&id)
        .ok_or(CommandRefused::Unknown { id })?;
    let remedy = refusal(view, command).or_else(|| rivalry(input, view, command));
    if let Some(remedy) = remedy {
        let state = view.rollout.state;
        return Err(CommandRefused::State {
            id,
            command,
            state,
            remedy,
        });
    }
    if command == Command::Start {
        preview::preview_as(input, &view.rollout.spec, id, now)
            .map_err(|problems| CommandRefused::Invalid { id, problems })?;
    }
    Ok(carry_out(view, command, actor, now))
}

/// Stops a rollout whose plan broke a rule. Used by the controller in place of committing that plan.
pub fn halt_refused(
    input: &PlanInput,
    id: RolloutId,
    finding: &Finding,
    now: Timestamp,
) -> Option<CommandEffect> {
    let view = input.rollouts.get(&id)?;
    let mut rollout = view.rollout.clone();
    if matches!(rollout.state, RolloutState::Halted | RolloutState::Aborted) {
        return None;
    }
    let reason = HaltReason::PlanRefused {
        finding: finding.text.clone(),
    };
    let text = format!("{id} halted: {reason}");
    rollout.halt = Some(Halt {
        at: now,
        wave: gate::last_open(&rollout).unwrap_or(0),
        reason,
    });
    rollout.state = RolloutState::Halted;
    rollout.since = now;
    let event = event(
        &rollout,
        EventKind::RolloutHalted,
        None,
        text,
        view.outcomes(),
        now,
    );
    Some(CommandEffect {
        rollout,
        events: vec![event],
    })
}

/// The remedy where the state does not allow the command.
fn refusal(view: &RolloutView, command: Command) -> Option<String> {
    use RolloutState as S;
    let state = view.rollout.state;
    let create = "create a new rollout with: comber rollout create";
    let remedy = match (command, state) {
        (Command::Start, S::Draft)
        | (Command::Pause, S::Running)
        | (Command::Resume, S::Paused)
        | (Command::Abort, S::Draft | S::Running | S::Paused | S::Halted | S::Completed)
        | (Command::RollBack, S::Running | S::Paused) => return None,
        (Command::Resume, S::Halted) => return resume_refusal(view),
        (Command::RollBack, S::Halted | S::Completed | S::Aborted) => {
            return roll_back_refusal(view);
        }
        (Command::Start, S::Paused | S::Halted) => "go on with: comber rollout resume",
        (Command::Start | Command::Resume, S::Running) => "watch it with: comber rollout watch",
        (Command::Start | Command::Resume | Command::Pause, S::Completed | S::Aborted) => create,
        (Command::Pause | Command::Resume, S::Draft) => "start it with: comber rollout start",
        (Command::RollBack, S::Draft) => "no host was changed; abort it with: comber rollout abort",
        (Command::Pause, S::Paused | S::Halted) => "it gives no permits already",
        (Command::Abort, S::Aborted) => "nothing is left to abort",
        (
            Command::Start | Command::Pause | Command::Resume | Command::Abort | Command::RollBack,
            S::RollingBack,
        ) => "wait for it with: comber rollout watch",
    };
    Some(remedy.to_owned())
}

fn resume_refusal(view: &RolloutView) -> Option<String> {
    if view.rollout.roll_back.is_some() {
        return Some("it was rolled back; create a new rollout with: comber rollout create".into());
    }
    let reason = gate::impossible(&view.rollout, &view.tally)?;
    Some(format!("{reason}; abort it and create a new rollout"))
}

fn roll_back_refusal(view: &RolloutView) -> Option<String> {
    let whole = matches!(
        view.rollout.roll_back,
        Some(RollBackScope::WavesFrom { wave: 0, .. })
    );
    whole.then(|| "it was rolled back already; see comber rollout show for each host".to_owned())
}

/// Going back is refused while a later rollout of the product may still bring these hosts on: two wills for one host.
fn rivalry(input: &PlanInput, view: &RolloutView, command: Command) -> Option<String> {
    use RolloutState as S;
    if command != Command::RollBack {
        return None;
    }
    let changed = |host| {
        let member = view.members.get(host);
        member.is_some_and(|member| member.state == MemberState::Succeeded { already: false })
    };
    let own = &view.rollout;
    let rival = input.rollouts.values().find(|other| {
        let theirs = &other.rollout;
        let going = matches!(
            theirs.state,
            S::Running | S::Paused | S::Halted | S::RollingBack
        );
        going
            && theirs.spec.release.name == own.spec.release.name
            && (theirs.started_at, theirs.id) > (own.started_at, own.id)
            && other
                .members
                .values()
                .any(|member| !member.is_settled() && changed(&member.host))
    });
    rival.map(|rival| {
        let id = rival.rollout.id;
        format!("rollout {id} may still bring its hosts on; abort that first with: comber rollout abort {id}")
    })
}

fn carry_out(view: &RolloutView, command: Command, actor: &str, now: Timestamp) -> CommandEffect {
    let mut rollout = view.rollout.clone();
    let id = rollout.id;
    let (state, kind, verb) = match command {
        Command::Start => (RolloutState::Running, EventKind::RolloutStarted, "started"),
        Command::Pause => (RolloutState::Paused, EventKind::RolloutPaused, "paused"),
        Command::Resume => (RolloutState::Running, EventKind::RolloutResumed, "resumed"),
        Command::Abort => (RolloutState::Aborted, EventKind::RolloutAborted, "aborted"),
        Command::RollBack => (
            RolloutState::RollingBack,
            EventKind::RolloutRollingBack,
            "is rolled back",
        ),
    };
    match command {
        Command::Start => rollout.started_at = Some(now),
        Command::Resume if rollout.state == RolloutState::Paused => questions::forget(&mut rollout),
        Command::Resume if rollout.state == RolloutState::Halted => {
            rollout.resumed_at = Some(now);
            rollout.halt = None;
            questions::forget(&mut rollout);
        }
        Command::RollBack => {
            let then = RolloutState::Aborted;
            rollout.roll_back = Some(RollBackScope::WavesFrom { wave: 0, then });
        }
        Command::Pause | Command::Resume | Command::Abort => {}
    }
    rollout.state = state;
    rollout.since = now;
    let text = format!("{id} {verb} by {actor}");
    let mut events = vec![event(
        &rollout,
        kind,
        Some(actor),
        text,
        view.outcomes(),
        now,
    )];
    // Where no host has to be told anything, no plan will change anything, so the fence closes here.
    if command == Command::Abort && !has_unfenced(view) {
        let text = format!("{id} is fenced: no host can activate it any more");
        let kind = EventKind::RolloutFenced;
        events.push(event(&rollout, kind, None, text, view.outcomes(), now));
    }
    CommandEffect { rollout, events }
}

fn has_unfenced(view: &RolloutView) -> bool {
    let waits = |member: &comber_model::rollout::Member| {
        matches!(member.state, MemberState::Waiting) || crate::fence::is_unresolved(member)
    };
    view.members.values().any(waits)
}

fn event(
    rollout: &Rollout,
    kind: EventKind,
    actor: Option<&str>,
    text: String,
    outcomes: Outcomes,
    now: Timestamp,
) -> Event {
    Event {
        at: now,
        kind,
        rollout: Some(rollout.id),
        wave: None,
        host: None,
        actor: actor.map(ToOwned::to_owned),
        text,
        change: None,
        outcomes: Some(outcomes),
    }
}
