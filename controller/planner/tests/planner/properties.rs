//! What must hold of every fleet, rollout, fault and clock. Each test is one sentence; every plan made on the way is
//! also proved by `check`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use comber_model::rollout::{MemberState, Outcome, Outcomes, RollBack, RolloutState};
use comber_model::{Action, FailureClass, HostId, RolloutId};
use comber_planner::{Command, Plan, explain_host, outcomes, plan};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

use crate::fleet::End;
use crate::world::World;

/// A rollout file's numbers.
#[derive(Debug, Clone)]
struct Knobs {
    canary: u8,
    waves: u8,
    at_once: u8,
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
}

fn knobs() -> impl Strategy<Value = Knobs> {
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
    );
    (first, second).prop_map(|(first, second)| {
        let (canary, waves, at_once, failures, unreached, silent) = first;
        let (permit, disconnected, attempt, retries, on_halt, soak, success, priority) = second;
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
        }
    })
}

impl Knobs {
    fn write(&self, release: &str) -> String {
        let on_halt = ["hold", "roll_back_wave", "roll_back_all"][usize::from(self.on_halt)];
        let priority = ["low", "medium", "high", "emergency"][usize::from(self.priority)];
        let counts_as = if self.silent.1 { "failed" } else { "pending" };
        let (unreached, unreached_max) = self.unreached;
        let mut text = format!(
            "release = \"{release}\"\nselector = 'labels.role == \"web\"'\n\
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
        for wave in 1..=self.waves {
            let hosts = if wave == self.waves {
                "\"rest\"".to_owned()
            } else {
                self.canary.to_string()
            };
            let _ = write!(
                text,
                "[[wave]]\nhosts = {hosts}\nsoak = \"{}m\"\ngate = {{ success = \"{}%\" }}\n",
                self.soak, self.success
            );
        }
        text
    }
}

/// What happens next.
#[derive(Debug, Clone)]
enum Op {
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
}

fn op() -> impl Strategy<Value = Op> {
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
    ]
}

#[derive(Debug, Clone)]
struct Case {
    hosts: u8,
    delivers: bool,
    same_product: bool,
    first: Knobs,
    second: Knobs,
    ops: Vec<Op>,
}

fn case() -> impl Strategy<Value = Case> {
    let ops = proptest::collection::vec(op(), 1..100);
    (2..8u8, any::<bool>(), any::<bool>(), knobs(), knobs(), ops).prop_map(
        |(hosts, delivers, same_product, first, second, ops)| Case {
            hosts,
            delivers,
            same_product,
            first,
            second,
            ops,
        },
    )
}

const R1: RolloutId = RolloutId(1);
const R2: RolloutId = RolloutId(2);

fn begin(case: &Case) -> World {
    let mut world = World::new();
    world.delivers = case.delivers;
    for release in ["app@1", "app@2", "app@3", "tool@1"] {
        world.publish(release, "");
    }
    for number in 0..case.hosts {
        let host = world.enrol(&format!("h{number}"), &[("role", "web")]);
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
    let _ = world.command(R1, Command::Start);
    world
}

/// Runs a case; `before` sees every plan, `after` the world after every operation.
fn explore(case: &Case, before: fn(&World, &Plan), after: fn(&World)) -> World {
    let mut world = begin(case);
    world.hook = before;
    for op in &case.ops {
        apply(&mut world, op);
        world.plan();
        after(&world);
    }
    world
}

fn apply(world: &mut World, op: &Op) {
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
    }
}

fn step(world: &mut World, host: &HostId) {
    use comber_model::AgentState as S;
    match world.agents[host].status.state {
        S::Fetching | S::Staged => {
            world.ask(host);
        }
        S::AwaitingPermit => {
            world.deliver(host);
            if !world.activate(host) {
                world.ask(host);
            }
        }
        S::Activating | S::Rebooting | S::Verifying | S::RollingBack => {
            world.end(host, &End::Commit);
        }
        S::Idle | S::Committed | S::RolledBack | S::Broken => world.deliver(host),
    }
}

fn nothing(_: &World) {}

fn no_plan(_: &World, _: &Plan) {}

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        // Few by default, as every plan is made and proved many times; PROPTEST_CASES asks for more.
        cases: if default.cases == 256 {
            96
        } else {
            default.cases
        },
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/planner/regressions.txt",
        ))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn outcomes_always_add_up(case in case()) {
        explore(&case, no_plan, |world| {
            for view in world.input.rollouts.values() {
                let counted: Outcomes = view.members.values().map(comber_model::rollout::Member::outcome).collect();
                assert_eq!(outcomes(view), counted);
                assert!(counted.add_up());
                assert_eq!(counted.total as usize, view.members.len());
            }
            for event in &world.events {
                assert!(event.outcomes.is_none_or(|outcomes| outcomes.add_up()), "{event:?}");
            }
        });
    }

    #[test]
    fn never_more_in_flight_than_allowed(case in case()) {
        explore(&case, no_plan, |world| {
            let mut down: BTreeMap<(RolloutId, u16), usize> = BTreeMap::new();
            for (host, agent) in &world.agents {
                let attempt = agent.status.attempt.as_ref().filter(|_| agent.status.state.is_active());
                let known = world.input.hosts[host].host.retired_at.is_none();
                if let Some(attempt) = attempt.filter(|_| known) {
                    let wave = world.member(attempt.rollout, host).wave;
                    *down.entry((attempt.rollout, wave)).or_default() += 1;
                }
            }
            for ((id, wave), down) in down {
                let limit = world.view(id).rollout.spec.pace.max_in_flight.limit(0);
                assert!(down <= limit, "{down} hosts of wave {wave} of {id} are down, limit {limit}");
            }
        });
    }

    #[test]
    fn no_wave_opens_before_its_gate(case in case()) {
        explore(&case, |world, plan| {
            for rollout in &plan.rollouts {
                let old = &world.view(rollout.id).rollout;
                for (index, wave) in rollout.waves.iter().enumerate().skip(1) {
                    let is_new = wave.opened_at.is_some()
                        && old.waves.get(index).is_none_or(|wave| wave.opened_at.is_none());
                    if is_new && rollout.state != RolloutState::Completed {
                        assert_gate_held(world, plan, rollout.id, index);
                    }
                }
            }
        }, nothing);
    }

    #[test]
    fn never_exceeds_failure_budget_by_more_than_in_flight(case in case()) {
        let mut case = case;
        // A resume starts the budget anew.
        case.ops.retain(|op| !matches!(op, Op::Command(_, 2)));
        explore(&case, no_plan, |world| {
            for view in world.input.rollouts.values() {
                let spec = &view.rollout.spec;
                // Hosts that were changed and failed; those that only failed to fetch were never in flight.
                let failed = view.members.values().filter(|member| {
                    member.outcome() == Outcome::Failed { class: FailureClass::Health }
                });
                let open = view.rollout.waves.iter().filter(|wave| wave.opened_at.is_some());
                let in_flight = open.count() * spec.pace.max_in_flight.limit(0);
                let most = spec.budget.failures.max.limit(0) + in_flight;
                let failed = failed.count();
                assert!(failed <= most, "{failed} failed, at most {most} may");
            }
        });
    }

    #[test]
    fn generation_never_falls(case in case()) {
        explore(&case, |world, plan| {
            assert!(plan.generation > world.input.generation);
            for (host, desired) in &plan.desired {
                let old = &world.input.hosts[host].desired;
                assert!(desired.generation >= old.generation);
                assert!(desired.acknowledged >= old.acknowledged);
            }
            for (id, member) in &plan.members {
                let old = world.view(*id).members.get(&member.host);
                assert!(old.is_none_or(|old| old.generation <= member.generation));
            }
        }, |world| {
            for (host, agent) in &world.agents {
                assert!(agent.status.generation <= world.input.hosts[host].desired.generation);
            }
        });
    }

    #[test]
    fn planning_twice_changes_nothing(case in case()) {
        explore(&case, |world, made| {
            let (again, _) = plan(&world.input, world.now);
            assert_eq!(&again, made, "the same input gives two plans");
        }, |world| {
            if world.delivers {
                let (made, report) = plan(&world.input, world.now);
                assert!(made.is_empty(), "{made:#?}");
                assert!(report.settled && report.rounds == 1, "{report:?}");
            }
        });
    }

    #[test]
    fn every_unmoved_host_has_a_hold(case in case()) {
        explore(&case, no_plan, |world| {
            for host in world.input.hosts.keys() {
                let explained = explain_host(&world.input, host, world.now).unwrap();
                for member in explained.rollouts {
                    let moves_on = matches!(member.outcome, Outcome::Pending | Outcome::Unreached)
                        || member.roll_back == Some(RollBack::Wanted);
                    assert_eq!(moves_on, member.hold.is_some(), "{member:?}");
                    if let Some(hold) = member.hold {
                        assert!(!hold.to_string().is_empty());
                    }
                }
            }
        });
    }

    #[test]
    fn rollback_target_was_committed_before(case in case()) {
        explore(&case, |world, plan| {
            for (host, desired) in &plan.desired {
                let back = desired.assignment.as_ref().filter(|a| a.rolls_back);
                let Some(assignment) = back else { continue };
                match assignment.action {
                    Action::Install { .. } => {
                        assert!(world.agents[host].had.contains(&assignment.release), "{desired:?}");
                    }
                    Action::Remove => {
                        let spec = &world.view(assignment.rollout).rollout.spec;
                        assert_eq!(assignment.release, spec.release);
                    }
                }
            }
        }, nothing);
    }

    /// The world itself refuses an activation behind a closed fence.
    #[test]
    fn after_an_abort_is_fenced_nothing_activates(case in case()) {
        let mut case = case;
        let half = case.ops.len() / 2;
        case.ops.insert(half, Op::Command(false, 3));
        explore(&case, no_plan, nothing);
    }

    #[test]
    fn one_assignment_per_host(case in case()) {
        explore(&case, no_plan, |world| {
            for host in world.input.hosts.keys() {
                let members = world.input.rollouts.values().filter_map(|view| view.members.get(host));
                let working = members.filter(|member| matches!(
                    member.state,
                    MemberState::Unreached { overdue: false }
                        | MemberState::Received
                        | MemberState::Activating
                ));
                let working: Vec<_> = working.collect();
                assert!(working.len() <= 1, "{host} works for {working:#?}");
            }
        });
    }

    #[test]
    fn check_finds_nothing_in_real_plans(case in case()) {
        explore(&case, |world, made| {
            assert_eq!(comber_planner::check(&world.input, made, world.now), Vec::new());
        }, nothing);
    }

    #[test]
    fn silence_is_never_lost(case in case()) {
        let mut world = explore(&case, no_plan, nothing);
        let hosts: Vec<HostId> = world.input.hosts.keys().cloned().collect();
        for host in &hosts {
            world.set_link(host, false);
        }
        world.plan();
        world.advance(std::time::Duration::from_hours(24 * 30));
        for view in world.input.rollouts.values() {
            let state = view.rollout.state;
            assert!(state != RolloutState::RollingBack, "rolls back for ever");
            for member in view.members.values() {
                let is_held = matches!(state, RolloutState::Paused | RolloutState::Halted);
                let wave = view.rollout.waves.get(usize::from(member.wave));
                let is_closed = wave.is_none_or(|wave| wave.opened_at.is_none());
                let may_wait = match member.state {
                    MemberState::Waiting => is_held || is_closed,
                    MemberState::Backoff { .. } => is_held,
                    _ => false,
                };
                assert!(member.is_settled() || may_wait, "{state}: {member:#?}");
            }
        }
    }

    #[test]
    fn incremental_membership_equals_full(case in case()) {
        let mut case = case;
        case.ops.retain(|op| !matches!(op, Op::Command(true, _)));
        let mut world = explore(&case, no_plan, nothing);
        let state = world.view(R1).rollout.state;
        prop_assume!(!matches!(state, RolloutState::Halted));
        let stays = |host: &HostId, world: &World| {
            let member = world.view(R1).members.get(host);
            // One that left after it received something stays, also while it is tried again.
            member.is_none_or(|member| member.attempts <= 1 && member.last_failure.is_none())
        };
        let hosts: Vec<HostId> =
            world.input.hosts.keys().filter(|host| stays(host, &world)).cloned().collect();
        world.input.changed = hosts.into_iter().collect();
        let (made, _) = plan(&world.input, world.now);
        prop_assert!(made.members.is_empty(), "{:#?}", made.members);
    }
}

/// The cases are worth something only if they come to everything that can happen.
#[test]
fn random_cases_reach_every_state_and_end() {
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeSet::new();
    for _ in 0..400 {
        let case = case().new_tree(&mut runner).unwrap().current();
        let world = explore(&case, no_plan, nothing);
        for event in &world.events {
            reached.insert(event.kind.as_str().to_owned());
            reached.extend(event.change.map(|(_, to)| to.to_string()));
            if event.text.contains("corrected") {
                reached.insert("corrected".to_owned());
            }
        }
        let members = world
            .input
            .rollouts
            .values()
            .flat_map(|view| view.members.values());
        for member in members.filter_map(|member| member.roll_back.as_ref()) {
            let name = match member {
                RollBack::Wanted => "Wanted",
                RollBack::Done => "Done",
                RollBack::Failed { .. } => "Failed",
                RollBack::Impossible { .. } => "Impossible",
            };
            reached.insert(name.to_owned());
        }
    }
    let expected = [
        "Done",
        "Failed",
        "Impossible",
        "Wanted",
        "corrected",
        "excluded(cancelled)",
        "excluded(no_longer_selected)",
        "excluded(retired)",
        "excluded(superseded)",
        "failed(fetch)",
        "failed(health)",
        "failed(silent)",
        "failed(timeout)",
        "host_rolled_back",
        "outcome_changed",
        "pending",
        "rollout_aborted",
        "rollout_completed",
        "rollout_fenced",
        "rollout_halted",
        "rollout_paused",
        "rollout_resumed",
        "rollout_rolled_back",
        "rollout_rolling_back",
        "rollout_started",
        "succeeded",
        "unreached",
        "wave_opened",
        "wave_passed",
    ];
    assert_eq!(
        reached.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
}

fn assert_gate_held(world: &World, plan: &Plan, id: RolloutId, wave: usize) {
    let mut members = world.view(id).members.clone();
    let changed = plan.members.iter().filter(|(other, _)| *other == id);
    members.extend(changed.map(|(_, member)| (member.host.clone(), member.clone())));
    let spec = &world.view(id).rollout.spec;
    let before = members.values().filter(|m| usize::from(m.wave) + 1 == wave);
    let counted: Vec<_> = before
        .filter(|m| !matches!(m.outcome(), Outcome::Excluded { .. }))
        .filter(|m| m.state != MemberState::Unreached { overdue: true })
        .collect();
    let succeeded = counted
        .iter()
        .filter(|m| m.outcome() == Outcome::Succeeded)
        .count();
    let needed = spec.waves[wave].gate.success.of_rounded_up(counted.len());
    assert!(
        succeeded >= needed,
        "wave {wave} opened with {succeeded} of {counted:#?}"
    );
}
