//! A model of one host, its disk, its boots and its controller, driven by random operations. It keeps the driver's
//! contract (durable before effects) and breaks everything else: kills, power cuts, slow disks, late messages.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use comber_machine::{
    Answer, Effect, Event, Ledger, Now, Policy, Recipe, State, Transition, actual, next_deadline,
    resume, step,
};
use comber_model::assignment::Desired;
use comber_model::release::RebootPolicy;
use comber_model::{AgentState, ReleaseId};
use jiff::{SignedDuration, Timestamp};

use crate::build;
use crate::ops::{Op, Outcome};
use crate::promises::{Promise, Scene, Watch};

mod controller;
mod host;

use controller::{assignment, grant};

/// What `current` points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Side {
    Nothing,
    Release(ReleaseId),
    /// Between two releases: stopped, or not started.
    Half,
}

#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) active: Side,
    kept: BTreeSet<ReleaseId>,
    /// What was active when the host last booted.
    pub(crate) booted_into: Side,
    /// Whether it booted since the last activation began.
    pub(crate) booted_since_begin: bool,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) ledger: Ledger,
    pub(crate) disk: Disk,
    pub(crate) watch: Watch,
    hands: VecDeque<Effect>,
    boot: u64,
    since_boot: Duration,
    wall: Timestamp,
    nonces: u64,
    connected: bool,
    slow: Duration,
    kill: Option<(bool, bool)>,
    tampered: bool,
    epoch: u8,
    plan: Desired,
    old: Option<(u8, Desired)>,
}

/// Versions 1 to 4 of one product differ in what they need: nothing, a reboot, perhaps a reboot, no way back.
pub(crate) fn recipe_of(release: &ReleaseId) -> Recipe {
    match release.version.as_str() {
        "2" => build::recipe(RebootPolicy::Required, false),
        "3" => build::recipe(RebootPolicy::Auto, false),
        "4" => build::recipe(RebootPolicy::Never, true),
        _ => build::recipe(RebootPolicy::Never, false),
    }
}

fn version(number: u8) -> ReleaseId {
    build::release(&format!("webapp@{number}"))
}

impl World {
    pub(crate) fn new(installed: Option<u8>) -> Self {
        let wall: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let active = installed.map_or(Side::Nothing, |number| Side::Release(version(number)));
        let mut world = Self {
            ledger: Ledger::new(wall),
            disk: Disk {
                active: active.clone(),
                kept: BTreeSet::new(),
                booted_into: active,
                booted_since_begin: false,
            },
            watch: Watch::default(),
            hands: VecDeque::new(),
            boot: 1,
            since_boot: Duration::from_mins(1),
            wall,
            nonces: 0,
            connected: false,
            slow: Duration::ZERO,
            kill: None,
            tampered: false,
            epoch: 1,
            plan: Desired::default(),
            old: None,
        };
        world.start(false);
        world
    }

    pub(crate) fn run(&mut self, op: &Op) {
        match op {
            Op::Plan(wish) => self.replan(Some(assignment(wish))),
            Op::Cancel => self.replan(None),
            Op::Say => self.say(),
            Op::SayOld => self.say_old(),
            Op::Grant { seconds } => {
                if !self.connected {
                    self.run(&Op::Connect);
                }
                self.grant(Duration::from_secs(*seconds));
            }
            Op::GrantLate { seconds } => self.grant(Duration::from_secs(*seconds)),
            Op::GrantOther => {
                self.plan.grant = Some(grant(u64::MAX, Duration::from_hours(1)));
                self.say();
            }
            Op::Acknowledge => self.acknowledge(),
            Op::NewDatabase => {
                self.old = None;
                self.epoch = self.epoch.wrapping_add(1);
                self.plan = Desired {
                    acknowledged: self.plan.acknowledged,
                    ..Desired::default()
                };
                self.replan(None);
            }
            Op::Connect => {
                self.connected = true;
                self.happen(Event::Connected, true);
                self.show();
                self.say();
            }
            Op::Disconnect => {
                self.connected = false;
                self.happen(Event::Disconnected, true);
            }
            Op::Wait { seconds } => self.pass(Duration::from_secs(*seconds)),
            Op::WallJump { hours } => self.wall += SignedDuration::from_hours(*hours),
            Op::SlowDisk { seconds } => self.slow = Duration::from_secs(*seconds),
            Op::Advance => match self.ledger.state {
                State::AwaitingPermit { .. } => self.run(&Op::Grant { seconds: 600 }),
                _ => self.finish(Outcome::Good),
            },
            Op::Finish(outcome) => self.finish(*outcome),
            Op::Kill { done, power } => self.killed(*done, *power),
            Op::KillAtNext { durable, power } => self.kill = Some((*durable, *power)),
            Op::Deadline => self.happen(Event::Deadline, false),
            Op::Tamper { version: number } => self.tamper(*number),
            Op::Look => {
                let found = self.found();
                self.happen(Event::Observed(found), true);
            }
        }
    }

    /// Lets everything in hand end well, until nothing happens by itself any more.
    pub(crate) fn settle(&mut self) {
        self.kill = None;
        self.slow = Duration::ZERO;
        for _ in 0..40 {
            if !self.hands.is_empty() {
                self.finish(Outcome::Good);
            } else if next_deadline(&self.ledger).is_some() {
                self.pass(Duration::from_hours(1));
                self.happen(Event::Deadline, false);
            }
        }
        self.at_rest();
    }

    /// A host at rest is whole, and the ledger knows what is on the disk.
    fn at_rest(&mut self) {
        let state = self.ledger.state.kind();
        let resting = matches!(
            state,
            AgentState::Idle
                | AgentState::AwaitingPermit
                | AgentState::Committed
                | AgentState::RolledBack
                | AgentState::Broken
        );
        let whole = self.disk.active != Side::Half || !self.ledger.broken.is_empty();
        let knows = match &self.disk.active {
            _ if self.tampered => true,
            Side::Nothing | Side::Half => self.ledger.installed.is_empty(),
            Side::Release(release) => {
                let known = self.ledger.installed.get(&release.name);
                known.is_some_and(|known| known.installed.version == release.version)
            }
        };
        if !resting || !whole || !knows {
            let what = format!(
                "at rest in {state}: whole {whole}, knows {knows}, disk {:?}, ledger {:?}",
                self.disk, self.ledger
            );
            self.watch.breach(Promise::Truth, what);
        }
    }

    fn now(&mut self) -> Now {
        self.nonces += 1;
        Now {
            connected: self.connected,
            ..build::now(self.boot, self.since_boot, self.wall, self.nonces)
        }
    }

    fn pass(&mut self, by: Duration) {
        self.since_boot += by;
        self.wall += by;
    }

    fn happen(&mut self, event: Event, outside: bool) {
        let now = self.now();
        let transition = step(&self.ledger, event, &Policy::default(), &now);
        self.follow(transition, &now, outside);
    }

    /// The driver's part: durable first, then the effects.
    fn follow(&mut self, transition: Transition, now: &Now, outside: bool) {
        let kill = self.kill.take();
        if let Some((false, power)) = kill {
            return self.start(power);
        }
        let disk = &self.disk;
        let scene = Scene { now, disk, outside };
        self.watch.moved(&self.ledger, &transition, &scene);
        let before = std::mem::replace(&mut self.ledger, transition.next);
        // A kill may come before the effect begins; the attempt's activation counts from its entry in the ledger.
        let activating = |ledger: &Ledger| matches!(ledger.state, State::Activating { .. });
        if activating(&self.ledger) && !activating(&before) {
            self.disk.booted_since_begin = false;
        }
        let slow = std::mem::take(&mut self.slow);
        self.pass(slow);
        if let Some((true, power)) = kill {
            return self.start(power);
        }
        let mut lapsed = false;
        for effect in transition.effects {
            lapsed |= self.take(effect, &before);
        }
        if lapsed {
            self.happen(Event::Answer(Answer::LeaveLapsed), false);
        }
    }

    /// Takes one effect in hand. True where it must not begin.
    fn take(&mut self, effect: Effect, before: &Ledger) -> bool {
        match &effect {
            Effect::Publish => {
                self.show();
                return false;
            }
            Effect::Cancel => {
                let stays =
                    |effect: &Effect| matches!(effect, Effect::Inspect | Effect::Cleanup { .. });
                self.hands.retain(stays);
                return false;
            }
            Effect::Activate {
                leave: Some(leave), ..
            } => {
                let now = self.now();
                if !leave.is_ahead(&now) {
                    return true;
                }
                self.watch.began(before, &self.ledger, &now, self.connected);
            }
            Effect::Activate { leave: None, .. }
            | Effect::Fetch { .. }
            | Effect::Preflight { .. }
            | Effect::Reboot { .. }
            | Effect::Verify { .. }
            | Effect::RollBack { .. }
            | Effect::VerifyBack { .. }
            | Effect::Inspect
            | Effect::Cleanup { .. } => {}
        }
        self.hands.push_back(effect);
        false
    }

    /// The controller sees the actual state, where it is there.
    fn show(&mut self) {
        if self.connected {
            let status = actual(&self.ledger);
            self.watch.published(self.ledger.epoch, status);
        }
    }

    fn start(&mut self, power: bool) {
        self.hands.clear();
        self.connected = false;
        if power {
            self.boot += 1;
            self.since_boot = Duration::from_secs(20);
            self.disk.booted_into = self.disk.active.clone();
            self.disk.booted_since_begin = true;
        }
        self.tampered = false;
        let (now, found) = (self.now(), self.found());
        let transition = resume(self.ledger.clone(), &found, &Policy::default(), &now);
        // While an attempt is active the disk is not looked at, so what somebody did to it stays unseen.
        self.tampered = self.ledger.state.kind().is_active();
        self.follow(transition, &now, false);
    }

    /// True while an effect that could answer is in hand.
    pub(crate) fn is_busy(&self) -> bool {
        !self.hands.is_empty() || matches!(self.ledger.state, State::Rebooting { .. })
    }
}
