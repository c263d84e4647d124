//! The whole fleet: the queue of events, the faults, and the invariants looked at after each event.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use comber_machine::{Answer, Epoch, Event};
use comber_model::assignment::Desired;
use comber_model::calendar::{Freeze, FreezeTime, ZoneChoice};
use comber_model::disruption::DisruptionBudget;
use comber_model::rollout::{Rollout, RolloutSpec, RolloutState};
use comber_model::{
    Amount, Digest, Facts, Generation, HostId, HostStatus, Labels, Link, RolloutId, Version,
};
use comber_planner::{Command, HostView, PlanInput};
use jiff::Timestamp;

use crate::controller::Controller;
use crate::dice::Dice;
use crate::host::{Done, Host, Todo};
use crate::product::{Behaviour, Product};

const EPOCH: Epoch = Epoch([7; 16]);

/// How much goes wrong, each in times per thousand of the moments at which it could.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A message is lost with its connection.
    pub cut: u64,
    /// An agent dies while an effect runs.
    pub agent_crash: u64,
    /// The controller dies while it commits a plan.
    pub controller_crash: u64,
    /// A host loses power, and boots again.
    pub power_cut: u64,
}

/// What is still to happen.
#[derive(Debug, Clone)]
enum Pending {
    Connect {
        host: usize,
    },
    Down {
        host: usize,
        connection: u64,
        desired: Desired,
    },
    Up {
        host: usize,
        connection: u64,
        status: Box<HostStatus>,
    },
    Answer {
        host: usize,
        effect: u64,
        answer: Answer,
        done: Option<Done>,
    },
    Deadline {
        host: usize,
    },
    Start {
        host: usize,
    },
    Restart,
    Plan,
}

/// A fleet under simulation.
#[derive(Debug)]
pub struct Fleet {
    /// The virtual time.
    pub now: Timestamp,
    /// The controller.
    pub controller: Controller,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The published versions.
    pub products: BTreeMap<Version, Product>,
    /// What goes wrong; set to nothing to let the fleet come to rest.
    pub faults: Faults,
    dice: Dice,
    queue: BinaryHeap<Reverse<(Timestamp, u64)>>,
    pending: BTreeMap<u64, Pending>,
    sequence: u64,
    connections: u64,
    /// When the last message of each connection arrives, by direction: they keep their order.
    arrivals: BTreeMap<(u64, bool), Timestamp>,
    plan_due: bool,
    fenced: BTreeMap<RolloutId, Timestamp>,
    log: Vec<String>,
}

impl Fleet {
    /// So many hosts, connected or soon to be.
    ///
    /// # Panics
    ///
    /// Never: the names are well-formed.
    pub fn new(seed: u64, hosts: usize) -> Self {
        let now = Timestamp::from_second(1_800_000_000).expect("is a time");
        let mut fleet = Self {
            now,
            controller: Controller {
                up: true,
                ..Controller::default()
            },
            hosts: Vec::new(),
            products: BTreeMap::new(),
            faults: Faults::default(),
            dice: Dice::new(seed),
            queue: BinaryHeap::new(),
            pending: BTreeMap::new(),
            sequence: 0,
            connections: 0,
            arrivals: BTreeMap::new(),
            plan_due: false,
            fenced: BTreeMap::new(),
            log: Vec::new(),
        };
        for index in 0..hosts {
            let id: HostId = format!("h{index:02}").parse().expect("is a name");
            let host = comber_model::Host {
                id: id.clone(),
                labels: Labels::default(),
                facts: Facts::default(),
                packages: None,
                enrolled_at: now,
                retired_at: None,
                certificate: Digest([0; 32]),
                certificates_since: now,
                barred: None,
                issued: Vec::new(),
            };
            let view = HostView::new(host, Link::Down { since: now });
            fleet.controller.input.hosts.insert(id.clone(), view);
            fleet.controller.input.changed.insert(id.clone());
            fleet.hosts.push(Host::new(id, now));
            fleet.connect_soon(index);
        }
        fleet
    }

    /// Publishes a version.
    pub fn publish(&mut self, number: u8, behaviour: Behaviour) {
        let product = Product::new(number, behaviour);
        let release = std::sync::Arc::clone(&product.release);
        self.controller.input.releases.insert(release.id(), release);
        self.products.insert(product.version().clone(), product);
    }

    /// Creates and starts a rollout.
    ///
    /// # Panics
    ///
    /// Where the file is wrong: simulations write right ones.
    pub fn roll_out(&mut self, number: u32, spec: &str) -> RolloutId {
        let spec = RolloutSpec::parse(spec).expect("simulations write right files");
        let id = RolloutId(number);
        let rollout = Rollout::draft(id, spec.into(), "sim", self.now);
        self.controller.input.put_rollout(rollout);
        self.command(id, Command::Start);
        id
    }

    /// Steers a rollout, where that is allowed now.
    pub fn command(&mut self, id: RolloutId, command: Command) -> bool {
        let effect = comber_planner::command(&self.controller.input, id, command, "sim", self.now);
        let Ok(effect) = effect else { return false };
        self.controller.input.put_rollout(effect.rollout);
        self.say(|| format!("{id} {command:?}"));
        self.nudge();
        true
    }

    /// Lets so much time pass.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(Reverse((at, key))) = self.queue.peek().copied() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.now = self.now.max(at);
            if let Some(pending) = self.pending.remove(&key) {
                self.happen(pending);
                self.plan_if_due();
                self.look();
            }
        }
        self.now = end;
    }

    /// Adds a freeze by the clock of each host.
    ///
    /// # Panics
    ///
    /// Where the text is wrong: simulations write right ones.
    pub fn freeze(&mut self, when: &str) {
        let freeze = Freeze {
            name: "sim".parse().expect("is a name"),
            reason: "sim".to_owned(),
            zone: ZoneChoice::Host,
            times: vec![FreezeTime {
                when: when.parse().expect("simulations write right times"),
                title: None,
            }],
            author: "sim".to_owned(),
            created_at: self.now,
        };
        self.say(|| format!("frozen {when}"));
        let freezes = &mut self.controller.input.freezes;
        freezes.insert(freeze.name.clone(), freeze);
        self.nudge();
    }

    /// Sets a budget of so many hosts of each rack.
    ///
    /// # Panics
    ///
    /// Never: the budget is well-formed.
    pub fn budget(&mut self, max: u32) {
        let budget = DisruptionBudget {
            name: "racks".parse().expect("is a name"),
            by: Some("labels.rack".parse().expect("is a label")),
            max: Amount::Count(max),
            selector: None,
            fleet_lock: false,
            reason: String::new(),
            author: "sim".to_owned(),
            set_at: self.now,
        };
        self.controller.input.hosts.put_budget(budget);
    }

    /// Says which rack a host stands in.
    ///
    /// # Panics
    ///
    /// Never: the label is well-formed.
    pub fn put_into_rack(&mut self, index: usize, rack: &str) {
        let id = self.hosts[index].id.clone();
        let input = &mut self.controller.input;
        if let Some(mut view) = input.hosts.get_mut(&id) {
            let label = [("rack".to_owned(), rack.to_owned())];
            view.host.labels = view.host.labels.edited(label, []).expect("is a label");
        }
        input.changed.insert(id);
    }

    /// Hosts of a rack that are really active are never more than its budget, and the ledger counts what the hosts say.
    fn look_at_budgets(&self) {
        let input = &self.controller.input;
        for budget in input.hosts.budgets() {
            let mut active: BTreeMap<&str, Vec<&HostId>> = BTreeMap::new();
            for host in &self.hosts {
                let labels = &input.hosts[&host.id].host.labels;
                let rack = labels.get("rack").unwrap_or_default();
                // An agent that found its disk already as it should be looks, and takes nothing down.
                let work = host.ledger.state.work();
                let is_active = host.ledger.state.kind().is_active();
                if is_active && work.is_some() {
                    active.entry(rack).or_default().push(&host.id);
                }
            }
            let limit = budget.max.limit(0);
            for (rack, active) in active {
                assert!(
                    active.len() <= limit,
                    "{active:?} of rack {rack} are down at once, at most {limit} may be"
                );
            }
        }
    }

    /// What is counted host by host is what counting all again gives.
    ///
    /// # Panics
    ///
    /// Where it is not.
    pub fn look_at_ledger(&self) {
        let hosts = &self.controller.input.hosts;
        assert!(
            hosts.counts_as(&hosts.counted_again()),
            "the ledger is wrong"
        );
    }

    /// Says which zone's time a host keeps.
    ///
    /// # Panics
    ///
    /// Never: the label is well-formed.
    pub fn keep_time(&mut self, index: usize, zone: &str) {
        let id = self.hosts[index].id.clone();
        let input = &mut self.controller.input;
        if let Some(mut view) = input.hosts.get_mut(&id) {
            let label = [("timezone".to_owned(), zone.to_owned())];
            view.host.labels = view.host.labels.edited(label, []).expect("is a label");
            input.changed.insert(id);
        }
    }

    /// Where a rollout stands.
    pub fn state(&self, id: RolloutId) -> RolloutState {
        self.controller.input.rollouts[&id].rollout.state
    }

    /// The snapshot.
    pub fn input(&self) -> &PlanInput {
        &self.controller.input
    }

    /// A number below `limit` from the fleet's own chance.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.dice.below(limit)
    }

    /// What happened, the newest last; for a failed run.
    pub fn log(&self) -> &[String] {
        &self.log
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        const LINES: usize = 4000;
        if self.log.len() >= LINES {
            self.log.drain(..LINES / 2);
        }
        self.log.push(format!("{} {}", self.now, line()));
    }

    fn at(&mut self, after: Duration, pending: Pending) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + after, self.sequence)));
        self.pending.insert(self.sequence, pending);
    }

    fn nudge(&mut self) {
        self.at(Duration::ZERO, Pending::Plan);
    }

    fn connect_soon(&mut self, host: usize) {
        let after = self
            .dice
            .between(Duration::from_millis(100), Duration::from_secs(3));
        self.at(after, Pending::Connect { host });
    }

    /// How long a message of a connection takes; never shorter than what is left for the one before.
    fn latency(&mut self, connection: u64, down: bool) -> Duration {
        let after = self
            .dice
            .between(Duration::from_millis(1), Duration::from_millis(400));
        let last = self.arrivals.entry((connection, down)).or_insert(self.now);
        *last = (*last).max(self.now + after);
        last.duration_since(self.now).try_into().unwrap_or(after)
    }

    fn happen(&mut self, pending: Pending) {
        match pending {
            Pending::Connect { host } => self.connect(host),
            Pending::Down {
                host,
                connection,
                desired,
            } => self.down(host, connection, desired),
            Pending::Up {
                host,
                connection,
                status,
            } => self.up(host, connection, *status),
            Pending::Answer {
                host,
                effect,
                answer,
                done,
            } => {
                self.answer(host, effect, answer, done.as_ref());
            }
            Pending::Deadline { host } => self.event(host, Event::Deadline),
            Pending::Start { host } => self.start(host),
            Pending::Restart => {
                self.say(|| "the controller is up again".to_owned());
                self.controller.restart(self.now);
                self.plan_due = true;
            }
            Pending::Plan => self.plan_due = true,
        }
    }

    fn connect(&mut self, index: usize) {
        if !self.hosts[index].up || self.hosts[index].connection.is_some() {
            return;
        }
        if !self.controller.up {
            return self.connect_soon(index);
        }
        self.connections += 1;
        let connection = self.connections;
        self.hosts[index].connection = Some(connection);
        self.event(index, Event::Connected);
        self.publish_status(index);
        let desired = self.controller.desired(&self.hosts[index].id);
        self.tell(index, desired);
    }

    fn cut(&mut self, index: usize) {
        if self.hosts[index].connection.take().is_some() {
            let id = self.hosts[index].id.clone();
            self.controller.lost(&id, self.now);
            self.plan_due = true;
            if self.hosts[index].up {
                self.event(index, Event::Disconnected);
                self.connect_soon(index);
            }
        }
    }

    /// Sends the desired state to a host that is connected.
    fn tell(&mut self, index: usize, desired: Desired) {
        let Some(connection) = self.hosts[index].connection else {
            return;
        };
        let after = self.latency(connection, true);
        self.at(
            after,
            Pending::Down {
                host: index,
                connection,
                desired,
            },
        );
    }

    fn publish_status(&mut self, index: usize) {
        let Some(connection) = self.hosts[index].connection else {
            return;
        };
        let status = Box::new(comber_machine::actual(&self.hosts[index].ledger));
        let after = self.latency(connection, false);
        self.at(
            after,
            Pending::Up {
                host: index,
                connection,
                status,
            },
        );
    }

    fn down(&mut self, index: usize, connection: u64, desired: Desired) {
        if self.hosts[index].connection != Some(connection) || !self.hosts[index].up {
            return;
        }
        if self.dice.permille(self.faults.cut) {
            return self.cut(index);
        }
        self.event(
            index,
            Event::Desired {
                epoch: EPOCH,
                desired,
            },
        );
    }

    fn up(&mut self, index: usize, connection: u64, status: HostStatus) {
        if self.hosts[index].connection != Some(connection) || !self.controller.up {
            return;
        }
        if self.dice.permille(self.faults.cut) {
            return self.cut(index);
        }
        let id = self.hosts[index].id.clone();
        self.controller.hear(&id, status, self.now);
        self.plan_due = true;
    }

    fn answer(&mut self, index: usize, effect: u64, answer: Answer, done: Option<&Done>) {
        let host = &mut self.hosts[index];
        if !host.up || host.effect != effect {
            return;
        }
        if self.dice.permille(self.faults.agent_crash) {
            // It dies while the effect runs: done or not, nobody knows.
            if self.dice.permille(500)
                && let Some(done) = done
            {
                self.hosts[index].carry_out(done);
            }
            return self.crash(index, Duration::from_secs(5), false);
        }
        if let Some(done) = done {
            host.carry_out(done);
        }
        self.event(index, Event::Answer(answer));
    }

    fn crash(&mut self, index: usize, away: Duration, boots: bool) {
        let id = self.hosts[index].id.clone();
        self.say(|| format!("{id} is down, boots: {boots}"));
        self.hosts[index].up = false;
        self.cut(index);
        if boots {
            let now = self.now;
            self.hosts[index].boot(now);
        }
        let after = self.dice.between(Duration::from_secs(1), away);
        self.at(after, Pending::Start { host: index });
    }

    fn start(&mut self, index: usize) {
        if self.hosts[index].up {
            return;
        }
        let todos = self.hosts[index].start(&self.products, self.now, &mut self.dice);
        self.todo(index, todos);
        self.connect_soon(index);
    }

    fn event(&mut self, index: usize, event: Event) {
        if !self.hosts[index].up {
            return;
        }
        let before = self.hosts[index].ledger.state.kind();
        let todos = self.hosts[index].step(event, &self.products, self.now, &mut self.dice);
        let after = self.hosts[index].ledger.state.kind();
        if before != after {
            let id = self.hosts[index].id.clone();
            self.say(|| format!("{id} {before} -> {after}"));
        }
        self.todo(index, todos);
        if self.dice.permille(self.faults.power_cut) {
            self.crash(index, Duration::from_mins(1), true);
        }
    }

    fn todo(&mut self, index: usize, todos: Vec<Todo>) {
        for todo in todos {
            match todo {
                Todo::Publish => self.publish_status(index),
                Todo::Inspect => {
                    let found = self.hosts[index].found(&self.products);
                    self.event(index, Event::Observed(found));
                }
                Todo::Reboot => self.crash(index, Duration::from_secs(30), true),
                Todo::Deadline(after) => self.at(after, Pending::Deadline { host: index }),
                Todo::Later {
                    effect,
                    after,
                    answer,
                    done,
                } => {
                    self.at(
                        after,
                        Pending::Answer {
                            host: index,
                            effect,
                            answer,
                            done,
                        },
                    );
                }
            }
        }
    }

    fn plan_if_due(&mut self) {
        let waited = self
            .controller
            .next_wake
            .is_some_and(|wake| wake <= self.now);
        if !self.controller.up || !(self.plan_due || waited) {
            return;
        }
        self.plan_due = false;
        let crash = self.dice.permille(self.faults.controller_crash);
        let mut dice = self.dice.clone();
        let changed = self
            .controller
            .plan(self.now, |_| dice.permille(500), crash);
        self.dice = dice;
        if crash {
            return self.controller_dies();
        }
        let indices: Vec<usize> = (0..self.hosts.len())
            .filter(|index| changed.contains(&self.hosts[*index].id))
            .collect();
        for index in indices {
            let desired = self.controller.desired(&self.hosts[index].id);
            self.tell(index, desired);
        }
        if let Some(wake) = self.controller.next_wake {
            let after = wake
                .duration_since(self.now)
                .try_into()
                .unwrap_or(Duration::ZERO);
            self.at(after, Pending::Plan);
        }
        self.close_fences();
    }

    fn controller_dies(&mut self) {
        self.say(|| "the controller dies while it commits".to_owned());
        self.controller.up = false;
        for index in 0..self.hosts.len() {
            self.cut(index);
        }
        let after = self
            .dice
            .between(Duration::from_secs(1), Duration::from_mins(2));
        self.at(after, Pending::Restart);
    }

    /// Notes when the fence of an aborted rollout closed: from then on nothing may activate on its behalf.
    fn close_fences(&mut self) {
        for (id, view) in &self.controller.input.rollouts {
            if view.rollout.state == RolloutState::Aborted && !self.fenced.contains_key(id) {
                let fence = comber_planner::fence(&self.controller.input, *id, self.now);
                if fence.is_closed() {
                    self.fenced.insert(*id, self.now);
                }
            }
        }
    }

    /// The invariants, in terms of what really happened.
    fn look(&self) {
        for (id, view) in &self.controller.input.rollouts {
            assert!(
                view.outcomes().add_up(),
                "{id}: {:?} do not add up",
                view.outcomes()
            );
            assert_eq!(
                view.outcomes().total as usize,
                view.members.len(),
                "{id}: a host is counted twice or not at all"
            );
            self.look_at_flight(*id);
        }
        self.look_at_budgets();
        for host in &self.hosts {
            for (at, rollout, generation) in &host.activations {
                if let Some(fenced) = self.fenced.get(rollout) {
                    assert!(
                        at <= fenced,
                        "{} began to activate {rollout} (generation {generation}) at {at}, the fence closed at {fenced}",
                        host.id
                    );
                }
            }
        }
    }

    /// Hosts that are really down on behalf of a rollout's wave are never more than it allows.
    fn look_at_flight(&self, id: RolloutId) {
        let view = &self.controller.input.rollouts[&id];
        let spec = &view.rollout.spec;
        for (index, wave) in spec.waves.iter().enumerate() {
            let members = view
                .members
                .values()
                .filter(|member| usize::from(member.wave) == index);
            let names: Vec<&HostId> = members.map(|member| &member.host).collect();
            let limit = wave
                .max_in_flight
                .unwrap_or(spec.pace.max_in_flight)
                .limit(names.len());
            let down = self.hosts.iter().filter(|host| {
                let work = host.ledger.state.work();
                names.contains(&&host.id)
                    && host.ledger.state.kind().is_active()
                    && work.is_some_and(|work| work.assignment.rollout == id)
            });
            let down: Vec<&HostId> = down.map(|host| &host.id).collect();
            // A host that had the release already is only looked at: that needs no permit.
            let counted = down.len();
            assert!(
                counted <= limit.max(1) || spec.pace.disconnected,
                "{id} wave {}: {down:?} are down, at most {limit} may be",
                index + 1
            );
        }
    }

    /// What a host says in a rollout that is over for it is what is on its disk.
    ///
    /// # Panics
    ///
    /// Where it is not.
    pub fn look_at_truth(&self, id: RolloutId) {
        use comber_model::rollout::{MemberState, Outcome};
        let view = &self.controller.input.rollouts[&id];
        let version = &view.rollout.spec.release.version;
        for host in &self.hosts {
            let Some(member) = view.members.get(&host.id) else {
                continue;
            };
            if member.roll_back.is_some() {
                continue;
            }
            match (&member.state, member.outcome()) {
                (MemberState::Succeeded { .. }, _) => assert_eq!(
                    host.active.as_ref(),
                    Some(version),
                    "{} is said to run {version}",
                    host.id
                ),
                (MemberState::Failed { failure }, Outcome::Failed { .. }) => {
                    let broken = !host.ledger.broken.is_empty();
                    assert!(
                        broken || host.active.as_ref() != Some(version),
                        "{} is said to have failed ({failure}) and runs {version}",
                        host.id
                    );
                }
                _ => {}
            }
        }
    }

    /// Highest generation that any host accepted.
    pub fn highest_generation(&self) -> Generation {
        self.hosts
            .iter()
            .map(|host| host.ledger.generation)
            .max()
            .unwrap_or_default()
    }
}
