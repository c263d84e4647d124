//! The hold of each member and wave: the one rule that keeps it from moving now.
//!
//! Where several rules hold something, the outermost is named: what a person would have to lift first. Every member
//! that has not ended has a hold.

use std::cell::OnceCell;

use comber_model::rollout::{AttemptClock, Member, MemberState, RollBack, Rollout, RolloutState};
use comber_model::{AgentState, Hold, Link};
use jiff::Timestamp;

use crate::books::Room;
use crate::spread::Spreads;
use crate::steps::{assign, observe};
use crate::windows::{Leave, Leaves};
use crate::{HostView, PlanInput, RolloutView, attention, fence, gate, order, questions, time};

/// What the holds of many members are found from at one moment.
pub(crate) struct Moment<'a> {
    pub(crate) input: &'a PlanInput,
    pub(crate) leaves: Leaves,
    pub(crate) now: Timestamp,
    room: OnceCell<Room<'a>>,
}

impl<'a> Moment<'a> {
    pub(crate) fn new(input: &'a PlanInput, now: Timestamp) -> Self {
        Self {
            input,
            leaves: Leaves::default(),
            now,
            room: OnceCell::new(),
        }
    }

    fn room(&self) -> &Room<'a> {
        self.room.get_or_init(|| Room::now(self.input, self.now))
    }
}

/// What holds a rollout as a whole.
pub(crate) fn of_rollout(input: &PlanInput, rollout: &Rollout) -> Option<Hold> {
    let since = rollout.since;
    match rollout.state {
        RolloutState::Draft => Some(Hold::Draft),
        RolloutState::Paused => Some(paused(rollout)),
        RolloutState::Halted => {
            let why = rollout.halt.as_ref().map(|halt| halt.reason.to_string());
            let why = why.unwrap_or_else(|| "it was rolled back".to_owned());
            Some(Hold::Halted { since, why })
        }
        RolloutState::RollingBack => Some(Hold::RollingBack),
        RolloutState::Running if rollout.waves.is_empty() => {
            let start = rollout.spec.starts_at();
            let start = start.map(|at| Hold::Scheduled { at });
            order::waits_for(input, rollout).or(start)
        }
        RolloutState::Running | RolloutState::Completed | RolloutState::Aborted => None,
    }
}

/// Who paused it: a person, or a gate that nobody could decide.
fn paused(rollout: &Rollout) -> Hold {
    let since = rollout.since;
    match questions::undecided(rollout, since) {
        Some((wave, question, why)) => Hold::GateUndecided {
            wave: gate::number(wave),
            question,
            why,
            since,
        },
        None => Hold::Paused { since },
    }
}

/// What the next wave waits for.
pub(crate) fn next_gate(input: &PlanInput, view: &RolloutView, now: Timestamp) -> Option<Hold> {
    let look = gate::Look {
        members: Box::new(view.members.values()),
        host: Box::new(|host| input.hosts.get(host)),
        now,
    };
    gate::next_hold(&view.rollout, &view.tally, look)
}

/// What holds a wave that is not open.
pub(crate) fn of_wave(
    input: &PlanInput,
    view: &RolloutView,
    (index, now): (usize, Timestamp),
) -> Option<Hold> {
    let last = gate::last_open(&view.rollout).map(usize::from);
    let own = of_rollout(input, &view.rollout);
    match last {
        _ if own.is_some() => own,
        Some(last) if index == last + 1 => next_gate(input, view, now),
        None if index == 0 && view.rollout.state == RolloutState::Running => {
            next_gate(input, view, now)
        }
        Some(_) | None => {
            let wave = u16::try_from(index.saturating_sub(1)).unwrap_or(u16::MAX);
            Some(Hold::WaveClosed { wave })
        }
    }
}

/// Hosts of a wave that are down or may be.
pub(crate) fn in_flight(input: &PlanInput, view: &RolloutView, wave: usize, now: Timestamp) -> u32 {
    let members = view
        .attention
        .iter()
        .filter_map(|host| view.members.get(host));
    let down = members.filter(|member| {
        let host = input.hosts.get(&member.host);
        usize::from(member.wave) == wave
            && host.is_some_and(|host| fence::is_in_flight(member, host, now))
    });
    u32::try_from(down.count()).unwrap_or(u32::MAX)
}

/// What holds a member; absent where it has ended.
pub(crate) fn of_member(moment: &Moment<'_>, view: &RolloutView, member: &Member) -> Option<Hold> {
    let input = moment.input;
    let host = input.hosts.get(&member.host)?;
    let place = Place {
        moment,
        input,
        view,
        member,
        host,
        now: moment.now,
    };
    if member.roll_back == Some(RollBack::Wanted) {
        return Some(place.way_back());
    }
    match &member.state {
        MemberState::Waiting => Some(place.waiting()),
        MemberState::Unreached { overdue: false } => Some(place.unreached()),
        MemberState::Unreached { overdue: true } => Some(place.given_up()),
        MemberState::Received | MemberState::Activating => Some(place.working()),
        MemberState::Backoff { until } => {
            let (until, attempt) = (*until, member.attempts);
            let backoff = Hold::Backoff { until, attempt };
            Some(of_rollout(input, &view.rollout).unwrap_or(backoff))
        }
        MemberState::Succeeded { .. }
        | MemberState::Failed { .. }
        | MemberState::Excluded { .. } => None,
    }
}

/// One member and all that can hold it.
struct Place<'a, 'm> {
    moment: &'a Moment<'m>,
    input: &'a PlanInput,
    view: &'a RolloutView,
    member: &'a Member,
    host: &'a HostView,
    now: Timestamp,
}

impl Place<'_, '_> {
    fn waiting(&self) -> Hold {
        let rollout = &self.view.rollout;
        if let Some(hold) = of_rollout(self.input, rollout) {
            return hold;
        }
        if !attention::wave_is_open(rollout, self.member.wave) {
            return Hold::WaveClosed {
                wave: self.member.wave,
            };
        }
        let release = self.input.releases.get(&rollout.spec.release);
        if let Some(release) = release.and_then(|release| assign::lacking(release, self.host)) {
            return Hold::Requires { release };
        }
        // It was taken back, and the host has not said yet that it heard so.
        if let Some(grant) = self.member.grant {
            return Hold::PermitOpen {
                until: grant.dead_at(),
            };
        }
        if let Some(rollout) = self.busy_with() {
            return Hold::HostBusy { rollout };
        }
        match self.host.link {
            Link::Down { since } => Hold::HostSilent {
                since,
                deadline: None,
            },
            // Nothing holds it: the next plan gives it its work.
            Link::Up { .. } => self.awaiting_receipt(),
        }
    }

    /// The rollout that the host works on instead: by its assignment, by what it does, or by a permit that may be alive.
    fn busy_with(&self) -> Option<comber_model::RolloutId> {
        let id = self.view.rollout.id;
        let assigned = self
            .host
            .desired
            .assignment
            .as_ref()
            .map(|assignment| assignment.rollout);
        let status = self
            .host
            .status
            .as_ref()
            .filter(|status| status.state.is_active());
        let active = status.and_then(|status| Some(status.attempt.as_ref()?.rollout));
        let permitted = || {
            let others = self.input.rollouts.values();
            let mut others = others.filter(|other| {
                let member = other.attention.get(&self.member.host);
                let member = member.and_then(|host| other.members.get(host));
                member.is_some_and(|member| fence::is_in_flight(member, self.host, self.now))
            });
            others.next().map(|other| other.rollout.id)
        };
        assigned
            .filter(|other| *other != id)
            .or(active)
            .or_else(permitted)
    }

    fn unreached(&self) -> Hold {
        self.awaiting_receipt()
    }

    fn awaiting_receipt(&self) -> Hold {
        let since = self.member.since;
        let after = self.view.rollout.spec.budget.unreached.after;
        Hold::AwaitingReceipt {
            since,
            deadline: time::after(since, after),
        }
    }

    fn given_up(&self) -> Hold {
        match self.host.link {
            Link::Down { since } => Hold::HostSilent {
                since,
                deadline: None,
            },
            Link::Up { .. } => self.awaiting_receipt(),
        }
    }

    fn working(&self) -> Hold {
        if let Link::Down { since } = self.host.link {
            return Hold::HostSilent {
                since,
                deadline: self.silence_deadline(since),
            };
        }
        if !observe::waits_for_permit(self.member, self.host) {
            return self.at_work();
        }
        if let Some(grant) = self.member.grant {
            return Hold::PermitOpen {
                until: grant.dead_at(),
            };
        }
        of_rollout(self.input, &self.view.rollout)
            .or_else(|| self.shut())
            .or_else(|| self.full())
            .unwrap_or_else(|| self.at_work())
    }

    /// What windows and freezes say.
    fn shut(&self) -> Option<Hold> {
        let rollout = (self.view.rollout.id, self.view.rollout.spec.as_ref());
        let goes_back = self.member.roll_back.is_some();
        let host = (&self.host.host, goes_back);
        match self
            .moment
            .leaves
            .of(&self.input.freezes, rollout, host, self.now)
        {
            Leave::Open { .. } => None,
            Leave::Shut(hold) => Some(hold),
        }
    }

    fn silence_deadline(&self, since: Timestamp) -> Option<Timestamp> {
        let silent = &self.view.rollout.spec.budget.silent;
        match silent.counts_as {
            comber_model::rollout::CountsAs::Failed => Some(time::after(since, silent.after)),
            comber_model::rollout::CountsAs::Pending => self.attempt_deadline(),
        }
    }

    fn attempt_deadline(&self) -> Option<Timestamp> {
        self.member.clock.map(|clock| match clock {
            AttemptClock::Running { deadline } => deadline,
            AttemptClock::Stopped { left } => time::after(self.now, left),
        })
    }

    fn at_work(&self) -> Hold {
        let state = self
            .host
            .status
            .as_ref()
            .map_or(AgentState::Idle, |status| status.state);
        Hold::Working {
            state,
            since: self.member.since,
            deadline: self.attempt_deadline().unwrap_or(self.now),
        }
    }

    fn full(&self) -> Option<Hold> {
        let wave = usize::from(self.member.wave);
        let counts = self.view.tally.wave(wave);
        let (max, limit) = gate::in_flight_limit(&self.view.rollout.spec, wave, &counts);
        let in_flight = in_flight(self.input, self.view, wave, self.now);
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let wave_is_full = (in_flight >= limit).then_some(Hold::InFlight {
            in_flight,
            max,
            limit,
        });
        wave_is_full
            .or_else(|| self.spread())
            .or_else(|| self.moment.room().hold(&self.member.host))
    }

    /// What the spread of its wave says.
    fn spread(&self) -> Option<Hold> {
        let rollout = &self.view.rollout;
        let wave = rollout.spec.waves.get(usize::from(self.member.wave))?;
        wave.spread.as_ref()?;
        let mut spreads = Spreads::default();
        let members = self.view.attention.iter();
        for member in members.filter_map(|host| self.view.members.get(host)) {
            let host = self.input.hosts.get(&member.host);
            if let Some(host) = host.filter(|h| fence::is_in_flight(member, h, self.now)) {
                spreads.take(rollout, &host.host);
            }
        }
        spreads.hold(rollout, self.member.wave, &self.host.host)
    }

    fn way_back(&self) -> Hold {
        if let Link::Down { since } = self.host.link {
            let after = self.view.rollout.spec.budget.silent.after;
            let from = since.max(self.view.rollout.since);
            return Hold::HostSilent {
                since,
                deadline: Some(time::after(from, after)),
            };
        }
        let assigned = self.host.desired.assignment.as_ref();
        match assigned.map(|assignment| assignment.rollout) {
            Some(id) if id == self.view.rollout.id => {}
            Some(rollout) => return Hold::HostBusy { rollout },
            None => return self.awaiting_receipt(),
        }
        match (self.member.clock, self.member.grant) {
            (None, _) => self.awaiting_receipt(),
            (Some(_), Some(grant)) => Hold::PermitOpen {
                until: grant.dead_at(),
            },
            (Some(_), None) if observe::waits_for_permit(self.member, self.host) => {
                let held = self.shut().or_else(|| self.full());
                held.unwrap_or_else(|| self.at_work())
            }
            (Some(_), None) => self.at_work(),
        }
    }
}
