//! One host of a simulation: the machine with its durable ledger, and a disk that only the simulation sees.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comber_machine::{
    Active, Answer, BootId, Change, Effect, Event, Found, Ledger, Moment, Now, Policy, State,
    Transition, resume, step,
};
use comber_model::{
    Action, Failure, FailureClass, Generation, HostId, Nonce, ReleaseName, RolloutId, Version,
};
use jiff::Timestamp;

use crate::dice::Dice;
use crate::product::Product;

/// One host.
#[derive(Debug)]
pub struct Host {
    /// Its name.
    pub id: HostId,
    /// Durable.
    pub ledger: Ledger,
    /// False while its agent or the host itself is down.
    pub up: bool,
    /// The connection to the controller, by number.
    pub connection: Option<u64>,
    /// What is active, whoever made it so.
    pub active: Option<Version>,
    /// Versions on the disk.
    pub kept: BTreeSet<Version>,
    /// The effect in hand; an answer of another one is dropped.
    pub effect: u64,
    /// Every activation that began: when, for which rollout and generation.
    pub activations: Vec<(Timestamp, RolloutId, Generation)>,
    boot: u64,
    booted_at: Timestamp,
    policy: Policy,
}

/// What the simulation does for a host next.
#[derive(Debug, Clone)]
pub enum Todo {
    /// Say the actual state to the controller.
    Publish,
    /// An effect answers after so long, having done this to the disk.
    Later {
        /// Names the effect.
        effect: u64,
        /// How long it takes.
        after: Duration,
        /// What it answers.
        answer: Answer,
        /// What is done to the disk by then; also where the agent dies meanwhile, by chance.
        done: Option<Done>,
    },
    /// A look at the disk.
    Inspect,
    /// The host reboots.
    Reboot,
    /// Look at the deadline again then.
    Deadline(Duration),
}

/// A change of the disk.
#[derive(Debug, Clone)]
pub enum Done {
    /// Bytes were staged.
    Staged(Version),
    /// Something else is active.
    Active(Option<Version>),
}

impl Host {
    /// A host that never had work.
    pub fn new(id: HostId, now: Timestamp) -> Self {
        Self {
            id,
            ledger: Ledger::new(now),
            up: true,
            connection: None,
            active: None,
            kept: BTreeSet::new(),
            effect: 0,
            activations: Vec::new(),
            boot: 1,
            booted_at: now,
            policy: Policy::default(),
        }
    }

    /// Reads the clocks.
    pub fn now(&self, now: Timestamp, dice: &mut Dice) -> Now {
        let boot = now
            .duration_since(self.booted_at)
            .try_into()
            .unwrap_or_default();
        Now {
            wall: now,
            boot,
            boot_id: BootId(format!("{}-{}", self.id, self.boot)),
            connected: self.connection.is_some(),
            nonce: Nonce(dice.number() | 1),
        }
    }

    /// One event through the machine; the ledger is durable before the effects are given.
    pub fn step(
        &mut self,
        event: Event,
        products: &BTreeMap<Version, Product>,
        now: Timestamp,
        dice: &mut Dice,
    ) -> Vec<Todo> {
        let clock = self.now(now, dice);
        let transition = step(&self.ledger, event, &self.policy, &clock);
        self.follow(transition, products, now, dice)
    }

    /// The agent starts, after a crash or a boot.
    pub fn start(
        &mut self,
        products: &BTreeMap<Version, Product>,
        now: Timestamp,
        dice: &mut Dice,
    ) -> Vec<Todo> {
        self.up = true;
        self.connection = None;
        self.effect += 1;
        let clock = self.now(now, dice);
        let found = self.found(products);
        let transition = resume(self.ledger.clone(), &found, &self.policy, &clock);
        self.follow(transition, products, now, dice)
    }

    /// The host is down until it boots again; permits are void then.
    pub fn boot(&mut self, now: Timestamp) {
        self.boot += 1;
        self.booted_at = now;
    }

    /// What is on the disk, as the agent finds it.
    ///
    /// # Panics
    ///
    /// Never: the name is well-formed.
    pub fn found(&self, products: &BTreeMap<Version, Product>) -> Found {
        let name: ReleaseName = "app".parse().expect("is a name");
        let mut found = Found::default();
        let product = self
            .active
            .as_ref()
            .and_then(|version| products.get(version));
        if let Some(product) = product {
            let active = Active {
                version: product.version().clone(),
                digest: product.release.artifact.digest,
                recipe: product.recipe(),
            };
            found.active.insert(name.clone(), active);
        }
        if !self.kept.is_empty() {
            found.kept.insert(name, self.kept.clone());
        }
        found
    }

    /// Does something to the disk.
    pub fn carry_out(&mut self, done: &Done) {
        match done {
            Done::Staged(version) => {
                self.kept.insert(version.clone());
            }
            Done::Active(version) => self.active.clone_from(version),
        }
    }

    fn follow(
        &mut self,
        transition: Transition,
        products: &BTreeMap<Version, Product>,
        now: Timestamp,
        dice: &mut Dice,
    ) -> Vec<Todo> {
        assert!(
            transition.next.generation >= self.ledger.generation,
            "{}: the generation fell",
            self.id
        );
        self.ledger = transition.next;
        let mut todos = Vec::new();
        for effect in transition.effects {
            self.effect(effect, products, now, dice, &mut todos);
        }
        if let Some(deadline) = comber_machine::next_deadline(&self.ledger) {
            let boot = self.now(now, dice).boot;
            todos.push(Todo::Deadline(deadline.at.saturating_sub(boot)));
        }
        todos
    }

    fn effect(
        &mut self,
        effect: Effect,
        products: &BTreeMap<Version, Product>,
        now: Timestamp,
        dice: &mut Dice,
        todos: &mut Vec<Todo>,
    ) {
        match effect {
            Effect::Cancel => self.effect += 1,
            Effect::Publish => todos.push(Todo::Publish),
            Effect::Inspect => todos.push(Todo::Inspect),
            Effect::Cleanup { keep, .. } => {
                let active = self.active.clone();
                self.kept
                    .retain(|version| keep.contains(version) || Some(version) == active.as_ref());
            }
            Effect::Reboot { from, .. } => {
                self.effect += 1;
                if from == self.now(now, dice).boot_id {
                    todos.push(Todo::Reboot);
                }
            }
            Effect::Fetch { change } => {
                let (answer, done) = self.fetch(&change, products, dice);
                self.later(answer, done, dice, todos);
            }
            Effect::Preflight { .. } => self.later(Answer::PreflightPassed, None, dice, todos),
            Effect::Activate { change, leave } => {
                let lapsed = |leave: &Moment| !leave.is_ahead(&self.now(now, dice));
                if leave.as_ref().is_some_and(lapsed) {
                    return self.later(Answer::LeaveLapsed, None, dice, todos);
                }
                assert!(
                    leave.is_some() || self.active == target(&change),
                    "{}: switches without a permit that is looked at",
                    self.id
                );
                self.note_activation(now);
                let (answer, done) = activate(&change, products, dice);
                self.later(answer, done, dice, todos);
            }
            Effect::Verify { change, .. } => {
                let answer = self.verify(&change, products, dice);
                self.later(answer, None, dice, todos);
            }
            // What was undone is not running any more, and nothing else of the host can fail here.
            Effect::VerifyBack { .. } => self.later(Answer::ChecksPassed, None, dice, todos),
            Effect::RollBack { change } => {
                let (answer, done) = roll_back(&change, products, dice);
                self.later(answer, done, dice, todos);
            }
        }
    }

    fn later(
        &mut self,
        answer: Answer,
        done: Option<Done>,
        dice: &mut Dice,
        todos: &mut Vec<Todo>,
    ) {
        self.effect += 1;
        let after = dice.between(Duration::from_millis(10), Product::STEP);
        todos.push(Todo::Later {
            effect: self.effect,
            after,
            answer,
            done,
        });
    }

    /// Notes that an activation begins. One that is taken up again after a crash began before.
    fn note_activation(&mut self, now: Timestamp) {
        if let State::Activating {
            work, resumed: 0, ..
        } = &self.ledger.state
        {
            self.activations
                .push((now, work.assignment.rollout, work.generation));
        }
    }

    fn fetch(
        &self,
        change: &Change,
        products: &BTreeMap<Version, Product>,
        dice: &mut Dice,
    ) -> (Answer, Option<Done>) {
        let product = products.get(&change.release.version);
        let recipe = product.map(Product::recipe).unwrap_or_default();
        match &change.action {
            Action::Remove => (Answer::Fetched { recipe }, None),
            Action::Install { .. } if self.kept.contains(&change.release.version) => {
                (Answer::Fetched { recipe }, None)
            }
            Action::Install { .. } => {
                let fails = product.map_or(1000, |product| product.behaviour.fetch_fails);
                if dice.permille(fails) {
                    return (failed(FailureClass::Fetch), None);
                }
                let staged = Done::Staged(change.release.version.clone());
                (Answer::Fetched { recipe }, Some(staged))
            }
        }
    }

    fn verify(
        &self,
        change: &Change,
        products: &BTreeMap<Version, Product>,
        dice: &mut Dice,
    ) -> Answer {
        let should = target(change);
        if self.active != should {
            return Answer::Drifted;
        }
        let product = should.and_then(|version| products.get(&version).cloned());
        let fails = product.map_or(0, |product| product.behaviour.check_fails);
        if dice.permille(fails) {
            Answer::ChecksFailed(Failure::new(FailureClass::Health, "check failed"))
        } else {
            Answer::ChecksPassed
        }
    }
}

/// What is active once a change is made.
fn target(change: &Change) -> Option<Version> {
    match &change.action {
        Action::Install { .. } => Some(change.release.version.clone()),
        Action::Remove => None,
    }
}

fn activate(
    change: &Change,
    products: &BTreeMap<Version, Product>,
    dice: &mut Dice,
) -> (Answer, Option<Done>) {
    let behaviour = products
        .get(&change.release.version)
        .map(|product| product.behaviour);
    let fails = behaviour.map_or(0, |behaviour| behaviour.activation_fails);
    let done = Some(Done::Active(target(change)));
    if dice.permille(fails) {
        // It may fail before or after the switch.
        let done = if dice.permille(500) { done } else { None };
        return (failed(FailureClass::Install), done);
    }
    (
        Answer::ActivationDone {
            needs_reboot: false,
        },
        done,
    )
}

fn roll_back(
    change: &Change,
    products: &BTreeMap<Version, Product>,
    dice: &mut Dice,
) -> (Answer, Option<Done>) {
    let behaviour = products
        .get(&change.release.version)
        .map(|product| product.behaviour);
    let fails = behaviour.map_or(0, |behaviour| behaviour.roll_back_fails);
    if dice.permille(fails) {
        let failure = Failure::new(FailureClass::Rollback, "could not go back");
        return (Answer::RollBackFailed(failure), None);
    }
    let before = change
        .before
        .as_ref()
        .map(|installed| installed.version.clone());
    (Answer::RolledBack, Some(Done::Active(before)))
}

fn failed(class: FailureClass) -> Answer {
    Answer::StepFailed(Failure::new(class, "failed by chance"))
}
