//! Every command in every state: carried out, or refused with what to do instead.

use comber_model::event::EventKind;
use comber_model::rollout::RolloutState;
use comber_model::{FailureClass, HostId, RolloutId};
use comber_planner::{Command, CommandRefused, command, fence};

use crate::fleet::End;
use crate::world::World;

const R1: RolloutId = RolloutId(1);

/// A rollout of three hosts, the second wave behind a gate, driven into a state.
fn world_in(state: RolloutState) -> World {
    let mut world = World::new();
    world.publish("app@2", "");
    for number in 0..3 {
        world.enrol(&format!("h{number}"), &[]);
    }
    world.create(
        "release = \"app@2\"\nselector = \"true\"\n[budget]\nfailures = { max = 0 }\n\
         [[wave]]\nhosts = 1\n[[wave]]\nhosts = \"rest\"\ngate = { success = \"50%\" }\n",
    );
    let canary = |world: &World| world.wave(R1, 0)[0].clone();
    if state != RolloutState::Draft {
        world.command(R1, Command::Start).unwrap();
    }
    match state {
        RolloutState::Draft | RolloutState::Running => {}
        RolloutState::Paused => world.command(R1, Command::Pause).unwrap(),
        RolloutState::Aborted => world.command(R1, Command::Abort).unwrap(),
        RolloutState::Halted => {
            world.run(&canary(&world), &End::Commit);
            let host = world.wave(R1, 1)[0].clone();
            world.run(&host, &End::Fail(FailureClass::Health, "x".to_owned()));
        }
        RolloutState::RollingBack => {
            world.run(&canary(&world), &End::Commit);
            world.command(R1, Command::RollBack).unwrap();
        }
        RolloutState::Completed => {
            let hosts: Vec<HostId> = world.input.hosts.keys().cloned().collect();
            world.run(&canary(&world), &End::Commit);
            for host in &hosts {
                world.run(host, &End::Commit);
            }
        }
    }
    assert_eq!(world.view(R1).rollout.state, state);
    world
}

/// The state afterwards, or the text of the refusal.
fn outcome(from: RolloutState, what: Command) -> Result<RolloutState, String> {
    let world = world_in(from);
    match command(&world.input, R1, what, "anna", world.now) {
        Ok(effect) => {
            assert_eq!(effect.rollout.since, world.now);
            assert_eq!(effect.events[0].actor.as_deref(), Some("anna"));
            assert!(effect.events[0].text.contains("anna"));
            Ok(effect.rollout.state)
        }
        Err(refused) => {
            assert!(matches!(refused, CommandRefused::State { state, .. } if state == from));
            Err(refused.to_string())
        }
    }
}

#[test]
fn each_state_allows_what_leads_somewhere() {
    use Command as C;
    use RolloutState as S;
    let allowed = [
        (S::Draft, C::Start, S::Running),
        (S::Draft, C::Abort, S::Aborted),
        (S::Running, C::Pause, S::Paused),
        (S::Running, C::Abort, S::Aborted),
        (S::Running, C::RollBack, S::RollingBack),
        (S::Paused, C::Resume, S::Running),
        (S::Paused, C::Abort, S::Aborted),
        (S::Paused, C::RollBack, S::RollingBack),
        (S::Halted, C::Resume, S::Running),
        (S::Halted, C::Abort, S::Aborted),
        (S::Halted, C::RollBack, S::RollingBack),
        (S::Completed, C::Abort, S::Aborted),
        (S::Completed, C::RollBack, S::RollingBack),
        (S::Aborted, C::RollBack, S::RollingBack),
    ];
    for from in S::ALL {
        for what in C::ALL {
            let expected = allowed
                .iter()
                .find(|(state, command, _)| (*state, *command) == (from, what));
            match (outcome(from, what), expected) {
                (Ok(to), Some((_, _, expected))) => assert_eq!(to, *expected),
                (Err(text), None) => {
                    let begin = format!("cannot {} rollout r1: it is {from}; ", what.as_str());
                    assert!(
                        text.strip_prefix(&begin)
                            .is_some_and(|remedy| remedy.len() > 8),
                        "{text}"
                    );
                }
                (outcome, _) => panic!("{what:?} from {from}: {outcome:?}"),
            }
        }
    }
}

#[test]
fn a_start_that_selects_nobody_changes_nothing() {
    let mut world = World::new();
    world.publish("app@2", "");
    world.create("release = \"app@2\"\nselector = \"true\"\n[[wave]]\nhosts = \"rest\"\n");
    let refused = command(&world.input, R1, Command::Start, "anna", world.now).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "cannot start rollout r1: selector: selects no host"
    );
}

#[test]
fn a_resume_after_a_halt_counts_anew_and_after_a_pause_does_not() {
    let world = world_in(RolloutState::Halted);
    let effect = command(&world.input, R1, Command::Resume, "anna", world.now).unwrap();
    assert_eq!(effect.rollout.resumed_at, Some(world.now));
    assert_eq!(effect.rollout.halt, None);
    let world = world_in(RolloutState::Paused);
    let effect = command(&world.input, R1, Command::Resume, "anna", world.now).unwrap();
    assert_eq!(effect.rollout.resumed_at, None);
}

#[test]
fn an_abort_says_that_it_is_fenced_exactly_once() {
    for state in [
        RolloutState::Draft,
        RolloutState::Running,
        RolloutState::Completed,
    ] {
        let mut world = world_in(state);
        let _ = world.command(R1, Command::Abort);
        world.advance(std::time::Duration::from_hours(5));
        let fenced = world
            .events
            .iter()
            .filter(|e| e.kind == EventKind::RolloutFenced)
            .count();
        assert_eq!(fenced, 1, "{state}: {:#?}", world.events);
        assert!(fence(&world.input, R1, world.now).is_closed());
    }
}

#[test]
fn a_fence_is_open_while_a_host_may_use_its_permit() {
    let mut world = world_in(RolloutState::Running);
    let host = world.wave(R1, 0)[0].clone();
    world.ask(&host);
    world.plan();
    world.delivers = false;
    world.command(R1, Command::Abort).unwrap();
    let open = fence(&world.input, R1, world.now);
    assert_eq!(open.open, vec![host.clone()]);
    let until = world
        .now
        .checked_add(std::time::Duration::from_secs(65))
        .unwrap();
    assert_eq!(open.until, Some(until));
    // The confirmation closes it, before the permit is dead.
    world.deliver(&host);
    assert!(fence(&world.input, R1, world.now).is_closed());
    assert!(fence(&world.input, RolloutId(9), world.now).is_closed());
}
