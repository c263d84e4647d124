//! Random fleets, rollouts, faults and clocks.

use std::fmt::Write as _;

use comber_model::rollout::Verdict;
use comber_model::{AgentState, FailureClass, HostId, RolloutId};
use comber_planner::{Command, Plan, asked};
use proptest::prelude::*;

use crate::fleet::End;
use crate::world::World;

/// A rollout file's numbers.
#[derive(Debug, Clone)]
pub(crate) struct Knobs {
    canary: u8,
    waves: u8,
    pub(crate) at_once: u8,
    failures: u8,
    unreached: (u16, u8),
    silent: (u16, bool),
    permit: u8,
    disconnected: bool,
    attempt: u16,
    retries: u8,
    on_halt: u8,
    soak: u8,
    success: u8,
    priority: u8,
    start_later: bool,
    windows: usize,
    gate: usize,
    wave: usize,
    spread: bool,
}

/// What gates demand beyond successes; the first demands nothing.
const GATES: [&str; 7] = [
    "",
    ", healthy = \"100%\"",
    ", prometheus = { source = \"metrics\", query = \"up\", pass = \"value == 1\" }, tries = 2",
    ", webhook = { source = \"approver\" }, every = \"5m\", tries = 3, healthy = \"60%\"",
    ", coverage = \"60%\", dry_run = [\"webhook\"], webhook = { source = \"approver\" }",
    ", healthy = \"100%\"",
    ", coverage = \"100%\", dry_run = [\"coverage\"]",
];

/// What waves say beside their hosts; the first ones nothing.
const WAVES: [&str; 5] = [
    "",
    "",
    "ramp = { start = 1, factor = 2 }\n",
    "budget = { failures = { max = 1 }, per_class = { silent = { max = \"20%\", min_sample = 2 } } }\n",
    "start_at = 2026-11-24T01:00:00Z\nramp = { start = 1, factor = 3, max = \"50%\" }\n",
];

/// Times for rollouts that begin at midnight UTC and take some hours; the first hold nothing back.
const WINDOWS: [&str; 9] = [
    "",
    "",
    "",
    "allow = [\"daily 00:10-00:40\", \"daily 01:00-02:00\", \"daily 05:50-06:30\"]",
    "allow = [\"daily 05:45-06:00\", \"daily 07:00-09:00\"]\nzone = \"Asia/Kathmandu\"\nmust_end_within = \"5m\"",
    "freeze = [\"daily 00:20-01:10\"]",
    "allow = [\"Wed\"]\nuntil = \"2026-11-24T01:30:00\"\nafter_deadline = \"ignore\"",
    "allow = [\"2020-01-01\"]",
    "allow = [\"Tue 00:00-00:25\", \"Tue 00:50-12:00\"]\nroll_back = \"hold\"",
];

pub(crate) fn knobs() -> impl Strategy<Value = Knobs> {
    let first = (
        1..3u8,
        1..4u8,
        1..4u8,
        0..4u8,
        (1..120u16, 0..101u8),
        (1..60u16, any::<bool>()),
    );
    let second = (
        1..4u8,
        any::<bool>(),
        5..90u16,
        0..3u8,
        0..3u8,
        0..30u8,
        0..101u8,
        0..4u8,
        (
            proptest::bool::weighted(0.1),
            0..WINDOWS.len(),
            0..GATES.len(),
            0..WAVES.len(),
            proptest::bool::weighted(0.5),
        ),
    );
    (first, second).prop_map(|(first, second)| {
        let (canary, waves, at_once, failures, unreached, silent) = first;
        let (permit, disconnected, attempt, retries, on_halt, soak, success, priority, times) =
            second;
        Knobs {
            canary,
            waves,
            at_once,
            failures,
            unreached,
            silent,
            permit,
            disconnected,
            attempt,
            retries,
            on_halt,
            soak,
            success,
            priority,
            start_later: times.0,
            windows: times.1,
            gate: times.2,
            wave: times.3,
            spread: times.4,
        }
    })
}

impl Knobs {
    fn write(&self, release: &str) -> String {
        let on_halt = ["hold", "roll_back_wave", "roll_back_all"][usize::from(self.on_halt)];
        let priority = ["low", "medium", "high", "emergency"][usize::from(self.priority)];
        let counts_as = if self.silent.1 { "failed" } else { "pending" };
        let (unreached, unreached_max) = self.unreached;
        let start = if self.start_later {
            "start_at = 2026-11-24T00:30:00Z\n"
        } else {
            ""
        };
        let mut text = format!(
            "{start}release = \"{release}\"\nselector = 'labels.role == \"web\"'\n\
             on_halt = \"{on_halt}\"\npriority = \"{priority}\"\n[budget]\n\
             failures = {{ max = {} }}\n\
             unreached = {{ after = \"{unreached}m\", max = \"{unreached_max}%\" }}\n\
             silent = {{ after = \"{}m\", counts_as = \"{counts_as}\" }}\n[pace]\n\
             max_in_flight = {}\npermit = \"{}m\"\ndisconnected = {}\n\
             attempt_deadline = \"{}m\"\n[retry]\nclasses = {{ fetch = {}, health = {} }}\n",
            self.failures,
            self.silent.0,
            self.at_once,
            self.permit,
            self.disconnected,
            self.attempt,
            self.retries,
            self.retries / 2,
        );
        let _ = writeln!(text, "[windows]\n{}", WINDOWS[self.windows]);
        for wave in 1..=self.waves {
            let hosts = if wave == self.waves {
                "\"rest\"".to_owned()
            } else {
                // The one kind of gate that looks at environments often stands with a canary that is picked by them.
                match self.gate {
                    4 => format!("{{ count = {}, pick = \"representative\" }}", self.canary),
                    _ => self.canary.to_string(),
                }
            };
            let _ = write!(
                text,
                "[[wave]]\nhosts = {hosts}\n{}soak = \"{}m\"\ngate = {{ success = \"{}%\"{} }}\n",
                WAVES[self.wave], self.soak, self.success, GATES[self.gate]
            );
            if self.spread {
                text.push_str("spread = { by = \"labels.rack\", max = 1 }\n");
            }
        }
        text
    }
}

/// What happens next.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// The host takes its next step, whatever that is.
    Step(u8),
    Fail(u8),
    Break(u8),
    AskAgain(u8),
    Deliver(u8),
    Down(u8),
    Up(u8),
    Pass(u8),
    Command(bool, u8),
    Relabel(u8, bool),
    Retire(u8),
    Enrol,
    Restart,
    /// The label that says the host's zone.
    Zone(u8, usize),
    /// The label that says the host's rack, or takes it to another.
    Rack(u8, u8),
    /// A budget of so many, of each rack or of all hosts.
    Budget(bool, u8),
    Unbudget(bool),
    Lock(u8, u8),
    Unlock(u8),
    Freeze(usize),
    Thaw,
    /// A source answers whatever waits first.
    Answer(usize),
}

const VERDICTS: [Verdict; 3] = [Verdict::Pass, Verdict::Inconclusive, Verdict::Fail];

const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Mars/Base"];
const FREEZES: [&str; 3] = [
    "2026-11-24",
    "daily 00:30-00:50",
    "2026-11-24T00:15..2026-11-24T01:20 UTC",
];

pub(crate) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        30 => (0..9u8).prop_map(Op::Step),
        3 => (0..9u8).prop_map(Op::Fail),
        1 => (0..9u8).prop_map(Op::Break),
        1 => (0..9u8).prop_map(Op::AskAgain),
        4 => (0..9u8).prop_map(Op::Deliver),
        2 => (0..9u8).prop_map(Op::Down),
        2 => (0..9u8).prop_map(Op::Up),
        5 => (0..40u8).prop_map(Op::Pass),
        2 => (any::<bool>(), 0..5u8).prop_map(|(second, command)| Op::Command(second, command)),
        1 => (0..9u8, any::<bool>()).prop_map(|(host, web)| Op::Relabel(host, web)),
        1 => (0..9u8).prop_map(Op::Retire),
        1 => Just(Op::Enrol),
        1 => Just(Op::Restart),
        1 => (0..9u8, 0..ZONES.len()).prop_map(|(host, zone)| Op::Zone(host, zone)),
        1 => (0..FREEZES.len()).prop_map(Op::Freeze),
        2 => Just(Op::Thaw),
        6 => proptest::sample::select(&[0_usize, 0, 0, 1, 1, 2][..]).prop_map(Op::Answer),
        1 => (0..9u8, 0..3u8).prop_map(|(host, rack)| Op::Rack(host, rack)),
        1 => (any::<bool>(), 1..3u8).prop_map(|(racks, max)| Op::Budget(racks, max)),
        1 => any::<bool>().prop_map(Op::Unbudget),
        1 => (0..3u8, 0..3u8).prop_map(|(id, rack)| Op::Lock(id, rack)),
        1 => (0..3u8).prop_map(Op::Unlock),
    ]
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) hosts: u8,
    pub(crate) delivers: bool,
    pub(crate) same_product: bool,
    /// Hosts of a rack, and of all, that may be down; 0 says no budget.
    pub(crate) budgets: (u8, u8),
    pub(crate) first: Knobs,
    pub(crate) second: Knobs,
    pub(crate) ops: Vec<Op>,
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let ops = proptest::collection::vec(op(), 1..100);
    let budgets = (0..3u8, 0..4u8);
    let said = (2..8u8, any::<bool>(), any::<bool>(), budgets);
    (said, knobs(), knobs(), ops).prop_map(
        |((hosts, delivers, same_product, budgets), first, second, ops)| Case {
            hosts,
            delivers,
            same_product,
            budgets,
            first,
            second,
            ops,
        },
    )
}

pub(crate) const R1: RolloutId = RolloutId(1);
pub(crate) const R2: RolloutId = RolloutId(2);

pub(crate) fn begin(case: &Case) -> World {
    let mut world = World::new();
    world.delivers = case.delivers;
    for release in ["app@1", "app@2", "app@3", "tool@1"] {
        world.publish(release, "");
    }
    for number in 0..case.hosts {
        let zone = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "UTC", "Mars/Base"];
        let zone = zone[usize::from(number) % zone.len()];
        let kernel = ["6.1", "6.8", "5.10"][usize::from(number) % 3];
        let rack = format!("r{}", number % 2);
        let labels = [
            ("role", "web"),
            ("timezone", zone),
            ("facts.kernel", kernel),
            ("rack", rack.as_str()),
        ];
        let host = world.enrol(&format!("h{number}"), &labels);
        if number % 3 != 0 {
            world.install(&host, &"app@1".parse().unwrap());
        }
    }
    world.create(&case.first.write("app@2"));
    world.create(
        &case
            .second
            .write(if case.same_product { "app@3" } else { "tool@1" }),
    );
    for (name, max, more) in [
        (
            "racks",
            case.budgets.0,
            &["by", "labels.rack", "fleet-lock"][..],
        ),
        ("fleet", case.budgets.1, &["fleet-lock"][..]),
    ] {
        if max > 0 {
            world.budget(name, &max.to_string(), more);
        }
    }
    let _ = world.command(R1, Command::Start);
    world
}

/// Runs a case; `before` sees every plan, `after` the world after every operation.
pub(crate) fn explore(case: &Case, before: fn(&World, &Plan), after: fn(&World)) -> World {
    let mut world = begin(case);
    world.hook = before;
    for op in &case.ops {
        apply(&mut world, op);
        world.plan();
        after(&world);
    }
    world
}

pub(crate) fn apply(world: &mut World, op: &Op) {
    let hosts: Vec<HostId> = world.input.hosts.keys().cloned().collect();
    let host = |index: &u8| hosts[usize::from(*index) % hosts.len()].clone();
    match op {
        Op::Step(index) => step(world, &host(index)),
        Op::Fail(index) => {
            let host = host(index);
            let is_active = world.agents[&host].status.state.is_active();
            let class = if is_active {
                FailureClass::Health
            } else {
                FailureClass::Fetch
            };
            world.end(&host, &End::Fail(class, "random".to_owned()));
        }
        Op::Break(index) => {
            let host = host(index);
            if world.agents[&host].status.state.is_active() {
                world.end(
                    &host,
                    &End::Break(FailureClass::Health, "random".to_owned()),
                );
            }
        }
        Op::AskAgain(index) => {
            world.ask(&host(index));
        }
        Op::Deliver(index) => world.deliver(&host(index)),
        Op::Down(index) => world.set_link(&host(index), false),
        Op::Up(index) => {
            let host = host(index);
            if world.input.hosts[&host].host.retired_at.is_none() {
                world.set_link(&host, true);
            }
        }
        Op::Pass(minutes) => {
            world.advance(std::time::Duration::from_mins(u64::from(*minutes)));
        }
        Op::Command(second, command) => {
            let id = if *second { R2 } else { R1 };
            let _ = world.command(id, Command::ALL[usize::from(*command)]);
        }
        Op::Relabel(index, web) => {
            world.label(&host(index), "role", if *web { "web" } else { "db" });
        }
        Op::Retire(index) => world.retire(&host(index)),
        Op::Enrol => {
            world.enrol(&format!("n{}", hosts.len()), &[("role", "web")]);
        }
        Op::Restart => world.restart(),
        Op::Zone(index, zone) => world.label(&host(index), "timezone", ZONES[*zone]),
        Op::Freeze(which) => world.freeze("random", FREEZES[*which]),
        Op::Thaw => world.thaw("random"),
        Op::Answer(verdict) => {
            if let Some(asked) = asked(&world.input, world.now).into_iter().next() {
                let id = asked.id;
                world.answer(
                    id.rollout,
                    (id.wave, id.question),
                    (VERDICTS[*verdict], "random"),
                );
            }
        }
        Op::Rack(index, rack) => world.label(&host(index), "rack", &format!("r{rack}")),
        Op::Budget(true, max) => {
            world.budget(
                "racks",
                &max.to_string(),
                &["by", "labels.rack", "fleet-lock"],
            );
        }
        Op::Budget(false, max) => world.budget("fleet", &max.to_string(), &["fleet-lock"]),
        Op::Unbudget(racks) => {
            let name = if *racks { "racks" } else { "fleet" };
            world.input.hosts.remove_budget(&name.parse().unwrap());
        }
        Op::Lock(id, rack) => {
            let _waits = world.lock(&format!("core{id}"), &format!("r{rack}"));
        }
        Op::Unlock(id) => {
            world
                .input
                .hosts
                .remove_lock(&format!("core{id}").parse().unwrap());
        }
    }
}

pub(crate) fn step(world: &mut World, host: &HostId) {
    use AgentState as S;
    match world.agents[host].status.state {
        S::Fetching | S::Staged => {
            world.ask(host);
        }
        S::AwaitingPermit => {
            // It acts on what it last heard, which may be long out of date.
            if !world.activate(host) {
                world.deliver(host);
                if !world.activate(host) {
                    world.ask(host);
                }
            }
        }
        S::Activating | S::Rebooting | S::Verifying | S::RollingBack => {
            world.end(host, &End::Commit);
        }
        S::Idle | S::Committed | S::RolledBack | S::Broken => world.deliver(host),
    }
}
