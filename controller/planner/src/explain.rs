//! Why something does not move: the typed holds behind `comber why`.

use comber_model::rollout::{Member, Outcome, Outcomes, RollBack, RolloutState};
use comber_model::{Hold, HostId, Link, RolloutId};
use jiff::Timestamp;

use crate::hold::Moment;
use crate::{Fence, PlanInput, RolloutView, fence, gate, hold};

/// One host in every rollout that it is a member of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostExplanation {
    /// Whether it is there.
    pub link: Link,
    /// The rollout whose assignment it has, where it has one.
    pub assigned: Option<RolloutId>,
    /// Its memberships, latest rollout first.
    pub rollouts: Vec<MemberExplanation>,
}

/// One host in one rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberExplanation {
    /// Which rollout.
    pub rollout: RolloutId,
    /// Which host.
    pub host: HostId,
    /// Index of its wave, from 0.
    pub wave: u16,
    /// How it stands.
    pub outcome: Outcome,
    /// Why it does not move; absent where it has ended.
    pub hold: Option<Hold>,
    /// Its way back, where there is one.
    pub roll_back: Option<RollBack>,
}

/// One rollout: what holds each wave and each host that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutExplanation {
    /// Where it stands.
    pub state: RolloutState,
    /// How many hosts stand where.
    pub outcomes: Outcomes,
    /// What holds the rollout as a whole: draft, paused, halted, rolling back.
    pub hold: Option<Hold>,
    /// Every wave, in order.
    pub waves: Vec<WaveExplanation>,
    /// What the next wave waits for, with its numbers; absent where all are open.
    pub next_gate: Option<Hold>,
    /// Hosts of open waves that have not ended, by wave and order.
    pub members: Vec<MemberExplanation>,
    /// Hosts that could still activate after a stop.
    pub fence: Fence,
}

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveExplanation {
    /// What people call it.
    pub name: String,
    /// When it opened.
    pub opened_at: Option<Timestamp>,
    /// Its hosts' outcomes.
    pub outcomes: Outcomes,
    /// Hosts of it that are or may be down.
    pub in_flight: u32,
    /// Why it is not open; absent where it is.
    pub hold: Option<Hold>,
}

/// Explains one host; absent where it is not enrolled.
pub fn explain_host(input: &PlanInput, host: &HostId, now: Timestamp) -> Option<HostExplanation> {
    let view = input.hosts.get(host)?;
    let rollouts = input.rollouts.values().rev();
    let moment = Moment::new(input, now);
    let explain = |rollout: &RolloutView| {
        let member = rollout.members.get(host)?;
        Some(explain_member(&moment, rollout, member))
    };
    Some(HostExplanation {
        link: view.link,
        assigned: view
            .desired
            .assignment
            .as_ref()
            .map(|assignment| assignment.rollout),
        rollouts: rollouts.filter_map(explain).collect(),
    })
}

/// Explains one rollout; absent where there is none of that number.
pub fn explain_rollout(
    input: &PlanInput,
    id: RolloutId,
    now: Timestamp,
) -> Option<RolloutExplanation> {
    let view = input.rollouts.get(&id)?;
    let rollout = &view.rollout;
    let opened = gate::last_open(rollout);
    let next_gate = opened.and_then(|_| hold::next_gate(input, view, now));
    let waves = rollout.spec.waves.iter().enumerate();
    let mut members: Vec<&Member> = view
        .attention
        .iter()
        .filter_map(|host| view.members.get(host))
        .collect();
    members.sort_by_key(|member| (member.wave, member.order));
    let moment = Moment::new(input, now);
    let members = members
        .into_iter()
        .map(|member| explain_member(&moment, view, member));
    Some(RolloutExplanation {
        state: rollout.state,
        outcomes: view.outcomes(),
        hold: hold::of_rollout(input, rollout),
        waves: waves
            .map(|(index, _)| explain_wave(input, view, index, now))
            .collect(),
        next_gate,
        members: members.filter(|member| member.hold.is_some()).collect(),
        fence: fence(input, id, now),
    })
}

fn explain_member(moment: &Moment<'_>, view: &RolloutView, member: &Member) -> MemberExplanation {
    MemberExplanation {
        rollout: view.rollout.id,
        host: member.host.clone(),
        wave: member.wave,
        outcome: member.outcome(),
        hold: hold::of_member(moment, view, member),
        roll_back: member.roll_back.clone(),
    }
}

fn explain_wave(
    input: &PlanInput,
    view: &RolloutView,
    index: usize,
    now: Timestamp,
) -> WaveExplanation {
    let rollout = &view.rollout;
    let opened_at = rollout.waves.get(index).and_then(|wave| wave.opened_at);
    WaveExplanation {
        name: rollout.spec.wave_name(index),
        opened_at,
        outcomes: view.tally.wave(index).outcomes,
        in_flight: hold::in_flight(input, view, index, now),
        hold: if opened_at.is_some() {
            None
        } else {
            hold::of_wave(input, view, (index, now))
        },
    }
}
