//! The machine's promises as properties over random histories of one host. Each test reads as a sentence and fails
//! with the shortest history that breaks it.

use comber_machine::{Answer, Event, Ledger, Note, Policy, REPORTS_MAX, Recipe, State, step};
use comber_model::{AgentState, Failure, FailureClass};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use crate::build;
use crate::ops::{Done, Op, Outcome, Wish};
use crate::promises::Promise;
use crate::world::World;

fn wish() -> impl Strategy<Value = Wish> {
    (
        1_u8..=4,
        prop::bool::weighted(0.1),
        any::<bool>(),
        prop::bool::weighted(0.2),
        any::<bool>(),
    )
        .prop_map(
            |(version, remove, retry_bad, rolls_back, disconnected)| Wish {
                version,
                remove,
                retry_bad,
                rolls_back,
                disconnected,
            },
        )
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![4 => Just(Outcome::Good), 1 => Just(Outcome::Bad)]
}

fn done() -> impl Strategy<Value = Done> {
    prop_oneof![Just(Done::Nothing), Just(Done::Half), Just(Done::All)]
}

/// Weighted so that most histories reach an activation, and every kind of disturbance falls into some.
fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => wish().prop_map(Op::Plan),
        1 => Just(Op::Cancel),
        2 => Just(Op::Say),
        1 => Just(Op::SayOld),
        8 => (1_u64..900).prop_map(|seconds| Op::Grant { seconds }),
        2 => (1_u64..900).prop_map(|seconds| Op::GrantLate { seconds }),
        1 => Just(Op::GrantOther),
        2 => Just(Op::Acknowledge),
        1 => Just(Op::NewDatabase),
        3 => Just(Op::Connect),
        1 => Just(Op::Disconnect),
        2 => (0_u64..1_000).prop_map(|seconds| Op::Wait { seconds }),
        1 => (-5_000_i64..5_000).prop_map(|hours| Op::WallJump { hours }),
        1 => (0_u64..600).prop_map(|seconds| Op::SlowDisk { seconds }),
        24 => Just(Op::Advance),
        14 => outcome().prop_map(Op::Finish),
        2 => (done(), any::<bool>()).prop_map(|(done, power)| Op::Kill { done, power }),
        2 => (any::<bool>(), any::<bool>())
            .prop_map(|(durable, power)| Op::KillAtNext { durable, power }),
        2 => Just(Op::Deadline),
        1 => (1_u8..=4).prop_map(|version| Op::Tamper { version }),
        1 => Just(Op::Look),
    ]
}

fn history() -> impl Strategy<Value = (Option<u8>, Vec<Op>)> {
    (
        prop::option::of(1_u8..=4),
        prop::collection::vec(op(), 1..120),
    )
}

/// Plays a history and lets it come to rest.
fn play(installed: Option<u8>, ops: &[Op]) -> World {
    let mut world = World::new(installed);
    for op in ops {
        world.run(op);
    }
    world.settle();
    world
}

fn holds(promise: Promise, (installed, ops): (Option<u8>, Vec<Op>)) -> Result<(), TestCaseError> {
    let world = play(installed, &ops);
    let broken = world
        .watch
        .breaches
        .iter()
        .find(|(which, _)| *which == promise);
    prop_assert!(broken.is_none(), "{:?}", broken);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn generation_never_falls(history in history()) {
        holds(Promise::Generation, history)?;
    }

    /// Wherever it is killed, half done or not, a host comes to rest on the new release or on the old one and its
    /// reports say truly which; or it says that it is broken.
    #[test]
    fn crash_at_any_effect_resumes(history in history()) {
        holds(Promise::Truth, history)?;
    }

    #[test]
    fn a_permit_answers_one_request_and_never_outlives_its_life(history in history()) {
        holds(Promise::PermitLife, history)?;
    }

    #[test]
    fn no_activation_without_a_permit(history in history()) {
        holds(Promise::Permit, history)?;
    }

    #[test]
    fn nothing_activates_after_a_cancel_was_acknowledged(history in history()) {
        holds(Promise::Cancel, history)?;
    }

    #[test]
    fn reports_are_kept_until_acknowledged(history in history()) {
        holds(Promise::Reports, history)?;
    }

    #[test]
    fn locally_bad_is_not_tried_again_unless_told(history in history()) {
        holds(Promise::LocallyBad, history)?;
    }

    #[test]
    fn active_work_finishes_alone(history in history()) {
        holds(Promise::Alone, history)?;
    }

    /// Repeating what the controller said last changes nothing.
    #[test]
    fn saying_it_twice_is_saying_it_once((installed, ops) in history()) {
        let mut world = World::new(installed);
        for op in &ops {
            world.run(op);
        }
        world.settle();
        world.run(&Op::Say);
        world.settle();
        let before = world.ledger.clone();
        world.run(&Op::Say);
        prop_assert!(!world.is_busy());
        prop_assert_eq!(world.ledger, before);
    }
}

proptest! {
    // Every answer is tried after every operation, so fewer histories say as much.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// No answer is taken for one that another state waits for, and the ledger of every history reads back.
    #[test]
    fn unexpected_events_change_nothing((installed, ops) in history()) {
        let mut world = World::new(installed);
        for op in &ops {
            world.run(op);
            let ledger = &world.ledger;
            prop_assert_eq!(&Ledger::from_json(&ledger.to_json().unwrap()).unwrap(), ledger);
            for answer in answers() {
                if !waits_for(&ledger.state, &answer) {
                    let now = build::now(1, std::time::Duration::ZERO, Timestamp::UNIX_EPOCH, 1);
                    let event = Event::Answer(answer);
                    let after = step(ledger, event.clone(), &Policy::default(), &now);
                    let ignored = matches!(after.note, Note::Ignored { .. });
                    prop_assert!(
                        ignored && after.next == *ledger && after.effects.is_empty(),
                        "{:?} in {:?}", event, ledger.state
                    );
                }
            }
        }
    }
}

/// A controller that hears and never answers stops a host before it must forget a report.
#[test]
fn no_attempt_is_taken_up_without_room_for_its_report() {
    let mut world = World::new(None);
    world.run(&Op::Connect);
    for version in 0..2 * REPORTS_MAX {
        world.run(&Op::Plan(Wish {
            version: u8::try_from(version % 3).unwrap() + 1,
            remove: false,
            retry_bad: true,
            rolls_back: false,
            disconnected: false,
        }));
        world.run(&Op::Finish(Outcome::Bad));
    }
    assert_eq!(world.watch.ends, REPORTS_MAX);
    assert_eq!(world.ledger.reports.len(), REPORTS_MAX);
    assert!(world.ledger.next.is_some() && world.ledger.state == State::Idle);
    world.run(&Op::Acknowledge);
    assert!(world.ledger.reports.is_empty());
    assert_eq!(
        world.ledger.state.kind(),
        AgentState::Fetching,
        "{:?}",
        world.ledger
    );
}

/// The histories are worth something only where they get somewhere.
#[test]
fn histories_reach_activations_and_every_end() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut begins, mut ends) = (0, 0);
    for _ in 0..200 {
        let (installed, ops) = history().new_tree(&mut runner).unwrap().current();
        let world = play(installed, &ops);
        begins += world.watch.begins;
        ends += world.watch.ends;
    }
    assert!(begins > 120, "only {begins} activations in 200 histories");
    assert!(ends > begins, "{ends} ends of {begins} activations");
}

fn answers() -> Vec<Answer> {
    let failure = Failure::new(FailureClass::Install, "unexpected");
    vec![
        Answer::Fetched {
            recipe: Recipe::default(),
        },
        Answer::PreflightPassed,
        Answer::NotApplicable(failure.clone()),
        Answer::StepFailed(failure.clone()),
        Answer::LeaveLapsed,
        Answer::ActivationDone { needs_reboot: true },
        Answer::RebootRefused { why: String::new() },
        Answer::ChecksPassed,
        Answer::ChecksFailed(failure.clone()),
        Answer::Drifted,
        Answer::RolledBack,
        Answer::RollBackFailed(failure),
    ]
}

/// Which answers belong to which state: the second witness to the table in the machine.
fn waits_for(state: &State, answer: &Answer) -> bool {
    matches!(
        (state, answer),
        (
            State::Fetching { .. },
            Answer::Fetched { .. } | Answer::StepFailed(_)
        ) | (
            State::Staged { .. },
            Answer::PreflightPassed | Answer::NotApplicable(_) | Answer::StepFailed(_)
        ) | (
            State::Activating { .. },
            Answer::ActivationDone { .. } | Answer::StepFailed(_)
        ) | (State::Rebooting { .. }, Answer::RebootRefused { .. })
            | (
                State::Verifying { .. },
                Answer::ChecksPassed | Answer::ChecksFailed(_) | Answer::Drifted,
            )
            | (
                State::RollingBack { booted: false, .. },
                Answer::RolledBack | Answer::RollBackFailed(_)
            )
            | (
                State::RollingBack { booted: true, .. },
                Answer::ChecksPassed | Answer::ChecksFailed(_)
            )
            | (State::Activating { .. }, Answer::LeaveLapsed)
    )
}
