//! Hosts that say what they should not: bytes from hosts change nothing but their own member, and prove nothing else.

use comber_model::rollout::{MemberState, Outcome};
use comber_model::{
    AgentState, Failure, FailureClass, Generation, HostId, Nonce, Report, ReportResult, RolloutId,
};
use comber_planner::Command;

use crate::fleet::End;
use crate::world::World;

const R1: RolloutId = RolloutId(1);

/// Three hosts at work on app@2.
fn world() -> (World, HostId) {
    let mut world = World::new();
    world.publish("app@1", "");
    world.publish("app@2", "");
    for number in 0..3 {
        world.enrol(&format!("h{number}"), &[]);
    }
    world.create(
        "release = \"app@2\"\nselector = \"true\"\n[budget]\nfailures = { max = 3 }\n\
         [retry]\nclasses = { fetch = 3 }\n[[wave]]\nhosts = \"rest\"\n",
    );
    world.command(R1, Command::Start).unwrap();
    let host = world.wave(R1, 0)[0].clone();
    (world, host)
}

fn report(world: &World, host: &HostId, number: u64, result: ReportResult) -> Report {
    Report {
        number,
        generation: world.member(R1, host).generation,
        rollout: R1,
        release: "app@2".parse().unwrap(),
        attempt: 1,
        result,
        started_at: world.now,
        finished_at: world.now,
    }
}

/// The host says so, and the controller plans.
fn send(world: &mut World, host: &HostId, reports: Vec<Report>) {
    world.delivers = false;
    let mut view = world.input.hosts.get_mut(host).unwrap();
    view.status.as_mut().unwrap().reports = reports;
    drop(view);
    world.plan();
}

#[track_caller]
fn assert_ignored(world: &World, host: &HostId, acknowledged: u64) {
    assert_eq!(world.member(R1, host).outcome(), Outcome::Pending);
    assert_eq!(world.input.hosts[host].desired.acknowledged, acknowledged);
    assert!(world.input.hosts[host].desired.assignment.is_some());
}

#[test]
fn a_success_of_a_generation_that_was_never_planned_proves_nothing() {
    for generation in [0, u64::MAX] {
        let (mut world, host) = world();
        let mut bad = report(&world, &host, 1, ReportResult::Committed);
        bad.generation = Generation(generation);
        send(&mut world, &host, vec![bad]);
        assert_ignored(&world, &host, 1);
    }
}

#[test]
fn a_success_of_another_release_proves_nothing() {
    let (mut world, host) = world();
    let mut bad = report(&world, &host, 4, ReportResult::Committed);
    bad.release = "app@1".parse().unwrap();
    send(&mut world, &host, vec![bad]);
    assert_ignored(&world, &host, 4);
}

#[test]
fn a_report_of_a_rollout_that_does_not_exist_is_acknowledged() {
    let (mut world, host) = world();
    let mut bad = report(&world, &host, 7, ReportResult::Committed);
    bad.rollout = RolloutId(9);
    send(&mut world, &host, vec![bad]);
    assert_ignored(&world, &host, 7);
}

#[test]
fn a_report_that_was_acknowledged_is_not_taken_twice() {
    let (mut world, host) = world();
    let failure = Failure::new(FailureClass::Fetch, "x");
    let first = report(&world, &host, 1, ReportResult::NotActivated { failure });
    send(&mut world, &host, vec![first.clone()]);
    assert_eq!(world.member(R1, &host).attempts, 1);
    assert!(matches!(
        world.member(R1, &host).state,
        MemberState::Backoff { .. }
    ));
    let before = world.input.generation;
    send(&mut world, &host, vec![first]);
    assert_eq!(
        world.input.generation, before,
        "an old report changed something"
    );
}

#[test]
fn reports_are_taken_in_the_order_of_their_numbers() {
    let (mut world, host) = world();
    let failure = Failure::new(FailureClass::Health, "late");
    let committed = report(&world, &host, 1, ReportResult::Committed);
    let failed = report(&world, &host, 2, ReportResult::RolledBack { failure });
    send(&mut world, &host, vec![failed, committed]);
    assert_eq!(world.member(R1, &host).outcome(), Outcome::Succeeded);
    assert_eq!(world.input.hosts[&host].desired.acknowledged, 2);
}

/// The first try succeeded after all; its report comes when the second was assigned already.
#[test]
fn an_older_success_still_counts_and_nothing_is_done_twice() {
    let (mut world, host) = world();
    let first = report(&world, &host, 2, ReportResult::Committed);
    world.end(&host, &End::Fail(FailureClass::Fetch, "x".to_owned()));
    world.plan();
    world.advance(std::time::Duration::from_mins(1));
    assert_eq!(world.member(R1, &host).attempts, 2);
    send(&mut world, &host, vec![first]);
    assert_eq!(world.member(R1, &host).outcome(), Outcome::Succeeded);
    assert_eq!(world.input.hosts[&host].desired.assignment, None);
}

#[test]
fn an_older_failure_does_not_end_a_newer_try() {
    let (mut world, host) = world();
    let failure = Failure::new(FailureClass::Health, "old");
    let old = report(&world, &host, 2, ReportResult::RolledBack { failure });
    world.end(&host, &End::Fail(FailureClass::Fetch, "x".to_owned()));
    world.plan();
    world.advance(std::time::Duration::from_mins(1));
    send(&mut world, &host, vec![old]);
    assert_ignored(&world, &host, 2);
}

#[test]
fn a_host_that_lost_its_state_accepts_again() {
    let (mut world, host) = world();
    world.set_link(&host, false);
    world.advance(std::time::Duration::from_mins(15));
    let failed = Outcome::Failed {
        class: FailureClass::Silent,
    };
    assert_eq!(world.member(R1, &host).outcome(), failed);
    world
        .agents
        .insert(host.clone(), crate::fleet::Agent::new(world.now));
    world.set_link(&host, true);
    world.plan();
    assert_eq!(world.member(R1, &host).outcome(), Outcome::Pending);
    assert!(world.run(&host, &End::Commit));
    assert_eq!(world.member(R1, &host).outcome(), Outcome::Succeeded);
}

/// A host that claims every generation only claims receipt; the clock of its attempt then runs against it.
#[test]
fn a_huge_generation_confirms_receipt_and_no_more() {
    let (mut world, host) = world();
    world.delivers = false;
    let mut view = world.input.hosts.get_mut(&host).unwrap();
    view.status.as_mut().unwrap().generation = Generation(u64::MAX);
    drop(view);
    world.plan();
    assert_eq!(world.member(R1, &host).state, MemberState::Received);
    world.advance(std::time::Duration::from_hours(1));
    let failed = Outcome::Failed {
        class: FailureClass::Timeout,
    };
    assert_eq!(world.member(R1, &host).outcome(), failed);
}

#[test]
fn a_request_for_another_attempt_gets_no_permit() {
    let (mut world, host) = world();
    world.ask(&host);
    let mut view = world.input.hosts.get_mut(&host).unwrap();
    let attempt = view.status.as_mut().unwrap().attempt.as_mut().unwrap();
    attempt.generation = Generation(99);
    attempt.nonce = Some(Nonce(5));
    drop(view);
    world.delivers = false;
    world.plan();
    assert_eq!(world.input.hosts[&host].desired.grant, None);
}

/// Asking again and again costs others nothing: it is one host in flight.
#[test]
fn a_host_that_asks_with_many_nonces_holds_one_place() {
    let (mut world, host) = world();
    for nonce in 0..5 {
        world.ask(&host);
        world.plan();
        let grant = world.input.hosts[&host].desired.grant;
        assert!(grant.is_some(), "request {nonce} was not answered");
        let explained = comber_planner::explain_rollout(&world.input, R1, world.now).unwrap();
        assert_eq!(explained.waves[0].in_flight, 1);
    }
    assert_eq!(world.agents[&host].status.state, AgentState::AwaitingPermit);
}
