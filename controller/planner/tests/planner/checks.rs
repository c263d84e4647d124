//! `check` finds every planted fault: plans that were made rightly and then spoiled in one place.

use comber_model::rollout::{
    ExcludedReason, MemberState, Outcomes, RollBack, RolloutSpec, RolloutState,
};
use comber_model::{Action, Generation, HostId, Nonce, RolloutId, Version};
use comber_planner::{Command, Finding, Plan, Severity, check, plan};

use crate::fleet::End;
use crate::world::World;

const R1: RolloutId = RolloutId(1);

/// Six hosts with app@1; app@2 to two of them, then, after 10 minutes, to the rest, one at a time.
fn world(on_halt: &str) -> World {
    let mut world = World::new();
    let old = world.publish("app@1", "");
    world.publish("app@2", "");
    for number in 0..6 {
        let host = world.enrol(&format!("h{number}"), &[]);
        world.install(&host, &old);
    }
    world.create(&format!(
        "release = \"app@2\"\nselector = \"true\"\non_halt = \"{on_halt}\"\n\
         [budget]\nfailures = {{ max = 1 }}\n[pace]\nmax_in_flight = 1\n\
         [[wave]]\nhosts = 2\nsoak = \"10m\"\n[[wave]]\nhosts = \"rest\"\n"
    ));
    world
}

fn start(world: &mut World) {
    world.command(R1, Command::Start).unwrap();
}

/// The plan that follows from what has happened, not taken in.
#[track_caller]
fn made(world: &World) -> Plan {
    let (made, _) = plan(&world.input, world.now);
    assert_eq!(check(&world.input, &made, world.now), Vec::new());
    assert!(!made.is_empty(), "nothing to spoil");
    made
}

#[track_caller]
fn found(world: &World, spoiled: &Plan, severity: Severity, part: &str) -> Vec<Finding> {
    let findings = check(&world.input, spoiled, world.now);
    let hit = findings
        .iter()
        .any(|f| f.severity == severity && f.text.contains(part));
    assert!(hit, "{part:?} is not among {findings:#?}");
    findings
}

#[track_caller]
fn spoil(world: &World, part: &str, spoil: impl FnOnce(&mut Plan)) {
    let mut plan = made(world);
    spoil(&mut plan);
    found(world, &plan, Severity::Fatal, part);
}

/// Nothing planned yet: the rollout was started and the first plan is to be made.
fn unplanned() -> World {
    let mut world = world("hold");
    let view = &world.input.rollouts[&R1];
    let mut rollout = view.rollout.clone();
    rollout.state = RolloutState::Running;
    rollout.started_at = Some(world.now);
    world.input.put_rollout(rollout);
    world
}

/// Both hosts of the first wave ask at once; one may go.
fn asking() -> (World, Vec<HostId>) {
    let mut world = world("hold");
    start(&mut world);
    let wave = world.wave(R1, 0);
    for host in &wave {
        world.ask(host);
    }
    (world, wave)
}

/// The first wave has succeeded and the soak is over.
fn soaked() -> World {
    let mut world = world("hold");
    start(&mut world);
    for host in world.wave(R1, 0) {
        world.run(&host, &End::Commit);
    }
    world.now = world
        .now
        .checked_add(std::time::Duration::from_mins(10))
        .unwrap();
    world
}

/// The operator has told a rollout with two changed hosts to go back.
fn going_back() -> World {
    let mut world = soaked();
    let effect =
        comber_planner::command(&world.input, R1, Command::RollBack, "anna", world.now).unwrap();
    world.input.put_rollout(effect.rollout);
    world
}

#[test]
fn check_finds_a_plan_made_upon_another() {
    let world = unplanned();
    spoil(&world, "was made upon 7", |plan| {
        plan.parent = Generation(7);
    });
    spoil(&world, "does not follow", |plan| {
        plan.generation = Generation(9);
    });
}

#[test]
fn check_finds_records_that_are_unknown_or_doubled() {
    let world = unplanned();
    spoil(&world, "rollout r1 is unknown or named twice", |plan| {
        plan.rollouts.push(plan.rollouts[0].clone());
    });
    spoil(&world, "unknown or named twice", |plan| {
        plan.members.push(plan.members[0].clone());
    });
    spoil(&world, "member h0 of r9", |plan| {
        plan.members[0].0 = RolloutId(9);
    });
    spoil(&world, "host nobody is unknown", |plan| {
        plan.desired[0].0 = "nobody".parse().unwrap();
    });
}

#[test]
fn check_finds_generations_that_do_not_rise() {
    let world = unplanned();
    spoil(&world, "generation 0 should be 1", |plan| {
        plan.desired[0].1.generation = Generation(0);
    });
    spoil(&world, "its member says", |plan| {
        let host = plan.desired[0].0.clone();
        let member = plan
            .members
            .iter_mut()
            .find(|(_, m)| m.host == host)
            .unwrap();
        member.1.generation = Generation(0);
    });
    let (mut world, _) = asking();
    world.plan();
    let host = world.wave(R1, 0)[0].clone();
    world.activate(&host);
    spoil(&world, "the generation of member", |plan| {
        plan.members[0].1.generation = Generation(0);
    });
}

#[test]
fn check_finds_work_that_is_not_due() {
    let world = unplanned();
    spoil(&world, "is no member", |plan| {
        plan.desired[0].1.assignment.as_mut().unwrap().rollout = RolloutId(4);
    });
    spoil(&world, "though it is excluded", |plan| {
        let host = plan.desired[0].0.clone();
        let member = plan
            .members
            .iter_mut()
            .find(|(_, m)| m.host == host)
            .unwrap();
        member.1.state = MemberState::Excluded {
            reason: ExcludedReason::Superseded,
        };
    });
    spoil(&world, "its wave is not open", |plan| {
        plan.rollouts[0].waves[0].opened_at = None;
    });
    spoil(&world, "not the release", |plan| {
        plan.desired[0].1.assignment.as_mut().unwrap().release = "app@1".parse().unwrap();
    });
    spoil(&world, "with other bytes", |plan| {
        let assignment = plan.desired[0].1.assignment.as_mut().unwrap();
        let Action::Install { artifact } = &mut assignment.action else {
            panic!()
        };
        artifact.length += 1;
    });
    spoil(&world, "which is paused", |plan| {
        plan.rollouts[0].state = RolloutState::Paused;
    });
}

#[test]
fn check_finds_work_for_a_host_that_is_active_or_retired() {
    let mut world = unplanned();
    let host = plan(&world.input, world.now).0.desired[0].0.clone();
    let plan = made(&world);
    let mut view = world.input.hosts.get_mut(&host).unwrap();
    view.status.as_mut().unwrap().state = comber_model::AgentState::Verifying;
    drop(view);
    found(
        &world,
        &plan,
        Severity::Fatal,
        "is given work while it is verifying",
    );
    let mut view = world.input.hosts.get_mut(&host).unwrap();
    view.host.retired_at = Some(view.host.enrolled_at);
    drop(view);
    found(
        &world,
        &plan,
        Severity::Fatal,
        "is retired and is given work",
    );
}

#[test]
fn check_finds_permits_that_may_not_be() {
    let (world, wave) = asking();
    spoil(&world, "the permit of", |plan| {
        plan.desired[0].1.grant.as_mut().unwrap().nonce = Nonce(99);
    });
    spoil(&world, "which is halted", |plan| {
        let mut rollout = world.view(R1).rollout.clone();
        rollout.state = RolloutState::Halted;
        plan.rollouts.push(rollout);
    });
    spoil(&world, "has the wrong life", |plan| {
        let ttl = std::time::Duration::from_hours(9);
        plan.desired[0].1.grant.as_mut().unwrap().ttl = ttl;
        let grant = plan.desired[0].1.grant;
        plan.members
            .iter_mut()
            .for_each(|(_, m)| m.grant = m.grant.and(grant));
    });
    spoil(&world, "without an assignment", |plan| {
        plan.desired[0].1.assignment = None;
    });
    // The second host of the wave gets one as well.
    spoil(&world, "in flight, at most 1 may be", |plan| {
        let grant = plan.desired[0].1.grant;
        let grants = plan
            .members
            .iter_mut()
            .filter(|(_, m)| wave.contains(&m.host));
        grants.for_each(|(_, member)| member.grant = grant);
        let told = plan.desired[0].0.clone();
        let other = wave.iter().find(|host| **host != told).unwrap();
        let mut desired = world.input.hosts[other].desired.clone();
        desired.grant = grant;
        plan.desired.push((other.clone(), desired));
    });
    let mut world = world;
    let plan = made(&world);
    world.set_link(&plan.desired[0].0, false);
    found(&world, &plan, Severity::Fatal, "did not ask for");
}

/// The rollout's file as if it had been written otherwise.
fn rewritten(world: &mut World, change: impl FnOnce(&mut RolloutSpec)) {
    let mut rollout = world.view(R1).rollout.clone();
    let mut spec = rollout.spec.as_ref().clone();
    change(&mut spec);
    rollout.spec = std::sync::Arc::new(spec);
    world.input.put_rollout(rollout);
}

#[test]
fn check_finds_permits_outside_of_windows_and_within_freezes() {
    let (mut world, _) = asking();
    let plan = made(&world);
    world.freeze("today", "2026-11-24");
    found(&world, &plan, Severity::Fatal, "within a freeze");
    world.thaw("today");
    let pinned = world.now;
    for (allow, margin) in [
        ("2020-01-01", 0),
        // The window ends within the life of the permit, or too soon after it for the margin.
        ("2026-11-24 00:00-00:01", 0),
        ("2026-11-24 00:00-00:10", 9),
    ] {
        rewritten(&mut world, |spec| {
            spec.windows.allow = vec![allow.parse().unwrap()];
            spec.windows.must_end_within = std::time::Duration::from_mins(margin);
            spec.pace.permit = std::time::Duration::from_mins(2);
        });
        let mut plan = plan.clone();
        let mut grant = plan.desired[0].1.grant.unwrap();
        grant.ttl = std::time::Duration::from_mins(2);
        plan.desired[0].1.grant = Some(grant);
        for (_, member) in &mut plan.members {
            member.grant = member.grant.and(Some(grant));
        }
        assert_eq!(world.now, pinned);
        found(&world, &plan, Severity::Fatal, "outside its windows");
    }
}

#[test]
fn check_finds_a_permit_that_a_freeze_should_have_taken_back() {
    let (mut world, _) = asking();
    world.delivers = false;
    world.plan();
    world.freeze("today", "2026-11-24");
    let mut plan = made(&world);
    assert!(plan.desired[0].1.grant.is_none(), "{plan:#?}");
    plan.desired.clear();
    found(&world, &plan, Severity::Fatal, "within a freeze");
}

#[test]
fn check_finds_a_rollout_that_begins_before_its_start() {
    let mut world = unplanned();
    let mut plan = made(&world);
    rewritten(&mut world, |spec| {
        spec.start_at = Some("2027-01-01T00:00:00Z".parse().unwrap());
    });
    plan.rollouts[0].spec = world.view(R1).rollout.spec.clone();
    found(&world, &plan, Severity::Fatal, "opens before its start");
}

#[test]
fn check_finds_waves_that_open_too_early() {
    let mut world = soaked();
    let plan = made(&world);
    world.now = world
        .now
        .checked_sub(std::time::Duration::from_secs(1))
        .unwrap();
    found(&world, &plan, Severity::Fatal, "before the soak is over");
    let world = unplanned();
    spoil(&world, "though the gate behind wave 1 is closed", |plan| {
        plan.rollouts[0].waves[1].opened_at = Some(world.now);
    });
    let world = soaked();
    spoil(&world, "opened again or closed", |plan| {
        plan.rollouts[0].waves[0].opened_at = None;
    });
}

#[test]
fn check_finds_a_spent_budget() {
    let world = soaked();
    spoil(&world, "runs on though", |plan| {
        let failure = comber_model::Failure::new(comber_model::FailureClass::Health, "x");
        for (_, member) in &mut plan.members {
            member.state = MemberState::Failed {
                failure: failure.clone(),
            };
        }
    });
}

#[test]
fn check_finds_ways_back_to_what_a_host_never_had() {
    let world = going_back();
    spoil(&world, "what h1 had before is rewritten", |plan| {
        let member = plan
            .members
            .iter_mut()
            .find(|(_, m)| m.host.as_str() == "h1");
        let member = member.map_or_else(|| panic!("h1 does not go back"), |(_, m)| m);
        member.before = Some(Some("0".parse::<Version>().unwrap()));
    });
    spoil(&world, "something that it did not have before", |plan| {
        plan.desired[0].1.assignment.as_mut().unwrap().action = Action::Remove;
    });
    spoil(&world, "though the rollout did not change it", |plan| {
        plan.members
            .iter_mut()
            .for_each(|(_, m)| m.roll_back = Some(RollBack::Done));
    });
}

#[test]
fn check_finds_successes_without_proof() {
    let mut world = world("hold");
    start(&mut world);
    let host = world.wave(R1, 0)[0].clone();
    world.ask(&host);
    spoil(&world, "succeeded without proof", |plan| {
        plan.members[0].1.state = MemberState::Succeeded { already: false };
    });
    spoil(&world, "succeeded without proof", |plan| {
        plan.members[0].1.state = MemberState::Succeeded { already: true };
    });
}

#[test]
fn check_finds_outcomes_that_do_not_add_up() {
    let world = unplanned();
    spoil(&world, "do not add up", |plan| {
        let wrong = Outcomes {
            succeeded: 3,
            ..Outcomes::default()
        };
        plan.events.last_mut().unwrap().outcomes = Some(wrong);
    });
    let mut plan = made(&world);
    plan.events.last_mut().unwrap().outcomes = Some(Outcomes::default());
    found(
        &world,
        &plan,
        Severity::Warning,
        "other outcomes than its members have",
    );
}

#[test]
fn check_finds_changes_that_are_not_told() {
    let mut world = world("hold");
    start(&mut world);
    let host = world.wave(R1, 0)[0].clone();
    world.ask(&host);
    world.plan();
    world.activate(&host);
    world.end(&host, &End::Commit);
    let mut plan = made(&world);
    plan.events.clear();
    found(
        &world,
        &plan,
        Severity::Warning,
        "do not tell how the outcome",
    );
}

#[test]
fn check_finds_states_that_nobody_asked_for() {
    let world = soaked();
    spoil(&world, "from running to aborted by itself", |plan| {
        plan.rollouts[0].state = RolloutState::Aborted;
    });
    spoil(&world, "halted without a reason", |plan| {
        plan.rollouts[0].state = RolloutState::Halted;
    });
    spoil(&world, "rewrites what was asked", |plan| {
        plan.rollouts[0].started_at = None;
    });
}

#[test]
fn check_finds_work_that_an_abort_left_behind() {
    let mut world = world("hold");
    start(&mut world);
    let effect =
        comber_planner::command(&world.input, R1, Command::Abort, "anna", world.now).unwrap();
    world.input.put_rollout(effect.rollout);
    spoil(&world, "which is aborted", |plan| plan.desired.clear());
}

#[test]
fn check_finds_reports_that_are_forgotten() {
    let mut world = world("hold");
    start(&mut world);
    for host in world.wave(R1, 0) {
        world.run(&host, &End::Commit);
    }
    // The wave after it takes the same hosts no more, so a second rollout does.
    let host = world.wave(R1, 0)[0].clone();
    world
        .input
        .hosts
        .get_mut(&host)
        .unwrap()
        .desired
        .acknowledged = 9;
    let mut plan = plan(&world.input, world.now).0;
    let mut desired = world.input.hosts[&host].desired.clone();
    desired.acknowledged = 1;
    plan.desired.push((host, desired));
    found(&world, &plan, Severity::Fatal, "report number falls");
}

#[test]
fn check_finds_a_host_that_is_in_two_places() {
    let (world, _) = asking();
    spoil(&world, "changes its wave though it has begun", |plan| {
        plan.members[0].1.wave = 1;
    });
}

#[test]
fn a_refused_plan_halts_its_rollout() {
    let mut world = world("hold");
    start(&mut world);
    let finding = Finding {
        severity: Severity::Fatal,
        rollout: Some(R1),
        text: "it is wrong".to_owned(),
    };
    let halted = comber_planner::halt_refused(&world.input, R1, &finding, world.now).unwrap();
    assert_eq!(halted.rollout.state, RolloutState::Halted);
    assert!(halted.events[0].text.contains("it is wrong"));
    world.input.put_rollout(halted.rollout);
    world.plan();
    assert!(comber_planner::halt_refused(&world.input, R1, &finding, world.now).is_none());
}
