//! A model of one host, its disk, its boots and its controller, driven by random operations. It keeps the driver's
//! contract (durable before effects) and breaks everything else: kills, power cuts, slow disks, late messages.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use comber_machine::{
    Answer, Effect, Event, Found, Ledger, Now, Policy, Recipe, State, Transition, actual,
    next_deadline, resume, step,
};
use comber_model::assignment::Desired;
use comber_model::release::RebootPolicy;
use comber_model::{
    Action, AgentState, Assignment, Failure, FailureClass, Generation, Grant, ReleaseId,
};
use jiff::{SignedDuration, Timestamp};

use crate::build;
use crate::promises::{Promise, Scene, Watch};

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

fn failed(class: FailureClass) -> Failure {
    Failure::new(class, "as the model wants")
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
                self.disk.booted_since_begin = false;
            }
            Effect::Activate { leave: None, .. }
            | Effect::Fetch { .. }
            | Effect::Preflight { .. }
            | Effect::Reboot { .. }
            | Effect::Verify { .. }
            | Effect::RollBack { .. }
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

    fn found(&self) -> Found {
        let kept: Vec<_> = self.disk.kept.iter().cloned().collect();
        match &self.disk.active {
            Side::Release(active) => build::found(Some(active), &kept, &recipe_of(active)),
            Side::Nothing | Side::Half => build::found(None, &kept, &Recipe::default()),
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        let Some(effect) = self.hands.pop_front() else {
            return;
        };
        let good = outcome == Outcome::Good;
        if let Effect::Reboot { from, .. } = &effect {
            let here = from.0 == format!("boot-{}", self.boot);
            match (here, good) {
                (false, _) => {}
                (true, true) => self.start(true),
                (true, false) => {
                    let why = "a backup is running".to_owned();
                    self.happen(Event::Answer(Answer::RebootRefused { why }), false);
                }
            }
            return;
        }
        self.change_disk(&effect, if good { Done::All } else { Done::Half });
        match effect {
            Effect::Inspect => {
                let found = self.found();
                self.happen(Event::Observed(found), false);
            }
            Effect::Cancel | Effect::Publish | Effect::Cleanup { .. } | Effect::Reboot { .. } => {}
            Effect::Fetch { .. }
            | Effect::Preflight { .. }
            | Effect::Activate { .. }
            | Effect::Verify { .. }
            | Effect::RollBack { .. } => {
                let answer = self.answer(&effect, good);
                self.happen(Event::Answer(answer), false);
            }
        }
    }

    fn answer(&self, effect: &Effect, good: bool) -> Answer {
        match (effect, good) {
            (Effect::Fetch { change }, true) => Answer::Fetched {
                recipe: recipe_of(&change.release),
            },
            (Effect::Fetch { .. }, false) => Answer::StepFailed(failed(FailureClass::Trust)),
            (Effect::Preflight { .. }, true) => Answer::PreflightPassed,
            (Effect::Preflight { .. }, false) => {
                Answer::StepFailed(failed(FailureClass::Preflight))
            }
            (Effect::Activate { .. }, true) => Answer::ActivationDone {
                needs_reboot: self.since_boot.as_secs().is_multiple_of(2),
            },
            (Effect::Activate { .. }, false) => Answer::StepFailed(failed(FailureClass::Install)),
            (Effect::Verify { change }, _) if !self.holds(change) => Answer::Drifted,
            (Effect::Verify { .. }, true) => Answer::ChecksPassed,
            (Effect::Verify { .. }, false) => Answer::ChecksFailed(failed(FailureClass::Health)),
            (Effect::RollBack { .. }, true) => Answer::RolledBack,
            (_, _) => Answer::RollBackFailed(failed(FailureClass::Rollback)),
        }
    }

    fn holds(&self, change: &comber_machine::Change) -> bool {
        let there = self.disk.active == Side::Release(change.release.clone());
        match change.action {
            Action::Install { .. } => there,
            Action::Remove => !there && self.disk.active != Side::Half,
        }
    }

    /// Does to the disk what the effect does, or the half of it.
    fn change_disk(&mut self, effect: &Effect, done: Done) {
        let target = match effect {
            Effect::Fetch { change } => {
                if done == Done::All && matches!(change.action, Action::Install { .. }) {
                    self.disk.kept.insert(change.release.clone());
                }
                return;
            }
            Effect::Activate { change, .. } => match change.action {
                Action::Install { .. } => Side::Release(change.release.clone()),
                Action::Remove => Side::Nothing,
            },
            Effect::RollBack { change } => change.before.as_ref().map_or(Side::Nothing, |before| {
                Side::Release(ReleaseId {
                    name: change.release.name.clone(),
                    version: before.version.clone(),
                })
            }),
            Effect::Cleanup { keep, .. } => {
                self.disk
                    .kept
                    .retain(|release| keep.contains(&release.version));
                return;
            }
            Effect::Cancel
            | Effect::Preflight { .. }
            | Effect::Reboot { .. }
            | Effect::Verify { .. }
            | Effect::Inspect
            | Effect::Publish => return,
        };
        match done {
            Done::Nothing => {}
            Done::Half => self.disk.active = Side::Half,
            Done::All => self.disk.active = target,
        }
    }

    fn killed(&mut self, done: Done, power: bool) {
        if let Some(effect) = self.hands.front().cloned() {
            self.change_disk(&effect, done);
        }
        self.start(power);
    }

    /// Somebody switches by hand, while the agent has no work or looks how its work holds.
    fn tamper(&mut self, number: u8) {
        let idle = self.ledger.state.work().is_none() && self.hands.is_empty();
        let verifying = matches!(self.hands.front(), Some(Effect::Verify { .. }));
        if verifying || (idle && self.ledger.broken.is_empty()) {
            self.disk.active = Side::Release(version(number));
            self.tampered = true;
        }
    }

    fn replan(&mut self, assignment: Option<Assignment>) {
        self.old = Some((self.epoch, self.plan.clone()));
        self.plan.generation = Generation(self.plan.generation.0 + 1);
        self.plan.assignment = assignment;
        self.plan.grant = None;
        let key = (self.epoch, self.plan.generation);
        self.watch.plans.insert(key, self.plan.assignment.clone());
        self.say();
    }

    /// A message can be on its way when the stream breaks, so it may come while disconnected.
    fn say(&mut self) {
        self.deliver(self.epoch, self.plan.clone());
    }

    fn say_old(&mut self) {
        if let Some((epoch, mut old)) = self.old.clone()
            && epoch == self.epoch
        {
            old.grant = self.shown_request(Duration::from_hours(1)).or(old.grant);
            self.deliver(epoch, old);
        }
    }

    fn deliver(&mut self, epoch: u8, desired: Desired) {
        if let Some(grant) = desired.grant {
            let longest = self.watch.granted.entry(grant.nonce).or_default();
            *longest = grant.ttl.max(*longest);
        }
        let epoch = build::epoch(epoch);
        self.watch.acknowledged = self.watch.acknowledged.max(desired.acknowledged);
        self.happen(Event::Desired { epoch, desired }, true);
    }

    fn shown_request(&self, ttl: Duration) -> Option<Grant> {
        let (_, status) = self.watch.shown.as_ref()?;
        let nonce = status.attempt.as_ref()?.nonce?;
        Some(grant(nonce.0, ttl))
    }

    fn grant(&mut self, ttl: Duration) {
        if let Some(grant) = self.shown_request(ttl) {
            self.plan.grant = Some(grant);
        }
        self.say();
    }

    fn acknowledge(&mut self) {
        if let Some((_, status)) = &self.watch.shown {
            let newest = status.reports.last().map_or(0, |report| report.number);
            self.plan.acknowledged = self.plan.acknowledged.max(newest);
        }
        self.say();
    }

    /// True while an effect that could answer is in hand.
    pub(crate) fn is_busy(&self) -> bool {
        !self.hands.is_empty() || matches!(self.ledger.state, State::Rebooting { .. })
    }
}

fn grant(nonce: u64, ttl: Duration) -> Grant {
    Grant {
        nonce: comber_model::Nonce(nonce),
        granted_at: Timestamp::UNIX_EPOCH,
        ttl,
    }
}

fn assignment(wish: &Wish) -> Assignment {
    let release = version(wish.version);
    let action = if wish.remove {
        Action::Remove
    } else {
        build::install(&release)
    };
    Assignment {
        retry_bad: wish.retry_bad,
        rolls_back: wish.rolls_back,
        disconnected: wish.disconnected,
        ..build::assignment(action, release)
    }
}
