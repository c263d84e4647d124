//! Who goes first: what must hold of every fleet, rollout, fault and clock. Each test is one sentence.

use std::time::Duration;

use comber_model::rollout::{MemberState, RolloutState, Urgency};
use comber_model::{AgentState, Grant, HostId, RolloutId};
use comber_planner::{Command, Plan, PlanInput, RolloutView, explain_host};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::cases::{case, explore, step};
use crate::world::World;

fn nothing(_: &World) {}

fn no_plan(_: &World, _: &Plan) {}

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        // As in `properties.rs`.
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

    /// Whoever asks and is not answered would not be answered either if those who are less urgent had got nothing: in
    /// its own wave, its failure domain and every budget, others that are as urgent or down already leave no room.
    #[test]
    fn lower_priority_never_delays_higher(case in case()) {
        explore(&case, |world, plan| {
            let is_new = |id: &RolloutId, member: &comber_model::rollout::Member| {
                let old = world.view(*id).members.get(&member.host).and_then(|old| old.grant);
                member.grant.is_some() && member.grant != old
            };
            let new = plan.members.iter().filter(|(id, member)| is_new(id, member));
            let Some(least) = new.map(|(id, _)| world.view(*id).rollout.urgency()).min() else {
                return;
            };
            for (id, host) in unanswered(world, plan) {
                let urgency = world.view(id).rollout.urgency();
                if urgency <= least {
                    continue;
                }
                let input = after(world, plan, |other, member| {
                    is_new(other, member) && world.view(*other).rollout.urgency() < urgency
                });
                let explained = explain_host(&input, &host, world.now).unwrap();
                let hold = explained.rollouts.into_iter().find(|m| m.rollout == id).unwrap().hold;
                let rule = hold.as_ref().map(comber_model::Hold::rule);
                prop_assert_held(rule, &host, id);
            }
        }, nothing);
    }

    /// A host that is not active and has no permit works for the most urgent rollout that wants it.
    #[test]
    fn a_host_works_for_the_most_urgent_rollout_first(case in case()) {
        explore(&case, no_plan, |world| {
            for (host, view) in &world.input.hosts {
                let Some(assignment) = &view.desired.assignment else { continue };
                let may_be_down = view.status.as_ref().is_some_and(|s| s.state.is_active())
                    || world.input.rollouts.values().any(|rollout| {
                        rollout.members.get(host).is_some_and(|member| member.grant.is_some())
                    });
                let Some(owner) = world.input.rollouts.get(&assignment.rollout) else { continue };
                for other in world.input.rollouts.values().filter(|_| !may_be_down) {
                    let wants = wants(other, host);
                    prop_order(!wants || other.rollout.urgency() <= owner.rollout.urgency(), host);
                }
            }
        });
    }

    /// An emergency does not wait for a permit that lies about unused.
    #[test]
    fn no_unused_permit_stands_in_the_way_of_an_emergency(case in case()) {
        explore(&case, no_plan, |world| {
            for (host, view) in &world.input.hosts {
                let Some(assignment) = &view.desired.assignment else { continue };
                let Some(owner) = world.input.rollouts.get(&assignment.rollout) else { continue };
                let member = &owner.members[host];
                let is_unused = view.desired.grant.is_some()
                    && view.link.is_up()
                    && !assignment.rolls_back
                    && view.status.as_ref().is_some_and(|status| {
                        status.state == AgentState::AwaitingPermit
                            && status.attempt.as_ref().is_some_and(|a| a.generation == member.generation)
                    });
                if !is_unused || owner.rollout.urgency() == Urgency::Emergency {
                    continue;
                }
                for other in world.input.rollouts.values() {
                    let is_urgent = other.rollout.urgency() == Urgency::Emergency;
                    prop_order(!(is_urgent && wants(other, host)), host);
                }
            }
        });
    }

}

proptest! {
    // A case is a long story of dozens of rollouts.
    #![proptest_config(ProptestConfig { cases: config().cases / 8, ..config() })]

    /// More urgent rollouts come without end, each as soon as the host could be done with the one before, so that there
    /// is always one before it. From its due date on it waits no longer than for what has begun.
    #[test]
    fn nothing_starves_beyond_its_due_date(
        hosts in 1..4u32,
        minutes in 3..15u64,
        due in 1..5u64,
        one_at_once in any::<bool>(),
    ) {
        let mut world = World::new();
        for number in 0..hosts {
            world.enrol(&format!("h{number}"), &[("rack", "r1")]);
        }
        if one_at_once {
            world.budget("racks", "1", &["by", "labels.rack"]);
        }
        let file = |release: &str, more: &str| format!(
            "release = \"{release}\"\nselector = \"true\"\n{more}\n[pace]\nmax_in_flight = \"100%\"\npermit = \"1h\"\n\
             attempt_deadline = \"100d\"\n[[wave]]\nhosts = \"rest\"\n"
        );
        world.publish("low@1", "");
        let low = world.create(&file("low@1", &format!("priority = \"low\"\ndue = \"{due}h\"")));
        let tick = Duration::from_mins(minutes);
        // Three steps make an attempt; with one at once the hosts take turns.
        let turns = if one_at_once { hosts } else { 1 };
        let attempt = tick * 4 * turns;
        let bound = Duration::from_hours(due) + attempt * 3;
        let mut next = 0;
        let mut ticks = 0;
        while world.now.duration_since(world.start) <= bound.try_into().unwrap() {
            if ticks % 2 == 0 {
                let release = format!("high{next}@1");
                world.publish(&release, "");
                let id = world.create(&file(&release, "priority = \"high\""));
                world.command(id, Command::Start).unwrap();
                next += 1;
            }
            if ticks == 0 {
                world.command(low, Command::Start).unwrap();
            }
            ticks += 1;
            for number in 0..hosts {
                step(&mut world, &format!("h{number}").parse().unwrap());
                world.plan();
            }
            world.advance(tick);
        }
        let view = world.view(low);
        prop_assert_eq!(view.rollout.state, RolloutState::Completed, "{:#?}", view);
        let done = view.rollout.since;
        let is_late = done > view.rollout.due_at().unwrap();
        prop_assert!(is_late, "it did not even have to wait");
    }
}

#[track_caller]
fn prop_assert_held(rule: Option<&str>, host: &HostId, id: RolloutId) {
    let held = ["in_flight", "spread", "disruption_budget"];
    assert!(
        rule.is_some_and(|rule| held.contains(&rule)),
        "{host} asks for a permit of {id}, is not answered, and {rule:?} holds it"
    );
}

#[track_caller]
fn prop_order(holds: bool, host: &HostId) {
    assert!(
        holds,
        "{host} works for a rollout that is less urgent than another that wants it"
    );
}

/// True where the rollout would give the host its work at once.
fn wants(view: &RolloutView, host: &HostId) -> bool {
    let gives = matches!(
        view.rollout.state,
        RolloutState::Running | RolloutState::Completed
    );
    let member = view.members.get(host);
    gives
        && member.is_some_and(|member| {
            let wave = view.rollout.waves.get(usize::from(member.wave));
            let is_open = wave.is_some_and(|wave| wave.opened_at.is_some());
            is_open && member.state == MemberState::Waiting
        })
}

/// Members that ask for a permit, may have one as far as time goes, and get none by this plan.
fn unanswered(world: &World, plan: &Plan) -> Vec<(RolloutId, HostId)> {
    let mut found = Vec::new();
    let input = after(world, plan, |_, _| false);
    for (id, view) in &input.rollouts {
        let is_running = matches!(
            view.rollout.state,
            RolloutState::Running | RolloutState::Completed
        );
        for member in view.members.values().filter(|_| is_running) {
            let host = &input.hosts[&member.host];
            let asks = host.status.as_ref().is_some_and(|status| {
                let attempt = status.attempt.as_ref();
                status.state == AgentState::AwaitingPermit
                    && attempt.is_some_and(|a| a.generation == member.generation)
            });
            let is_assigned = host.desired.generation == member.generation
                && host
                    .desired
                    .assignment
                    .as_ref()
                    .is_some_and(|a| a.rollout == *id);
            let is_ready = matches!(
                member.state,
                MemberState::Received | MemberState::Activating
            );
            let may_use = |grant: Grant| world.now < grant.dead_at();
            let is_held_by_time = || {
                let explained = explain_host(&input, &member.host, world.now).unwrap();
                let hold = explained.rollouts.into_iter().find(|m| m.rollout == *id);
                let rule = hold.and_then(|m| m.hold).map(|hold| hold.rule());
                rule.is_some_and(|rule| ["window", "frozen", "zone_unknown"].contains(&rule))
            };
            if asks
                && is_assigned
                && is_ready
                && host.link.is_up()
                && host.host.retired_at.is_none()
                && member.roll_back.is_none()
                && !member.grant.is_some_and(may_use)
                && !is_held_by_time()
            {
                found.push((*id, member.host.clone()));
            }
        }
    }
    found
}

/// What the plan leaves behind, without some of the members that it changes.
fn after(
    world: &World,
    plan: &Plan,
    leaves_out: impl Fn(&RolloutId, &comber_model::rollout::Member) -> bool,
) -> PlanInput {
    let rollouts = world.input.rollouts.iter();
    let fresh = |view: &RolloutView| RolloutView::new(view.rollout.clone(), view.members.clone());
    let mut input = PlanInput {
        generation: world.input.generation,
        hosts: world.input.hosts.counted_again(),
        rollouts: rollouts.map(|(id, view)| (*id, fresh(view))).collect(),
        releases: world.input.releases.clone(),
        freezes: world.input.freezes.clone(),
        sources: world.input.sources.clone(),
        changed: world.input.changed.clone(),
    };
    let mut plan = plan.clone();
    plan.members.retain(|(id, member)| !leaves_out(id, member));
    input.apply(&plan);
    input
}
