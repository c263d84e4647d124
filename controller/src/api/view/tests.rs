//! Records of every kind, and what people and pipelines get to see of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use comber_model::rollout::{
    ExcludedReason, Halt, HaltReason, Member, MemberState, RollBack, RollBackScope, Rollout,
    RolloutSpec, RolloutState, WaveProgress,
};
use comber_model::{
    Digest, Facts, Failure, FailureClass, Generation, Host, HostId, Labels, Link, RolloutId,
};
use comber_planner::{HostView, PlanInput, RolloutView};
use jiff::Timestamp;

use super::*;

const SPEC: &str = "release = \"app@2\"\nselector = \"true\"\n[pace]\nmax_in_flight = \"50%\"\n[[wave]]\nname = \"canary\"\nhosts = 4\n[[wave]]\nhosts = \"rest\"\nmax_in_flight = 1\n";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn failure(class: FailureClass) -> Failure {
    Failure::new(class, "port 80 is closed")
}

fn member(name: &str, wave: u16, state: MemberState) -> Member {
    Member {
        host: name.parse().unwrap(),
        wave,
        order: 0,
        state,
        since: at(100),
        attempts: 1,
        generation: Generation(3),
        before: Some(Some("1".parse().unwrap())),
        clock: None,
        grant: None,
        last_failure: None,
        roll_back: None,
    }
}

/// A rollout with a host in every state; the first four in the first wave.
fn every_state() -> Vec<Member> {
    let failed = failure(FailureClass::Health);
    vec![
        member("a", 0, MemberState::Succeeded { already: false }),
        member("b", 0, MemberState::Received),
        member("c", 0, MemberState::Backoff { until: at(500) }),
        member("d", 0, MemberState::Unreached { overdue: true }),
        member("e", 1, MemberState::Waiting),
        member("f", 1, MemberState::Activating),
        member("g", 1, MemberState::Failed { failure: failed }),
        member(
            "h",
            1,
            MemberState::Excluded {
                reason: ExcludedReason::Superseded,
            },
        ),
        member("i", 1, MemberState::Succeeded { already: true }),
        member("j", 1, MemberState::Unreached { overdue: false }),
    ]
}

fn with(members: Vec<Member>, change: impl FnOnce(&mut Rollout)) -> (PlanInput, RolloutId) {
    let spec = Arc::new(RolloutSpec::parse(SPEC).unwrap());
    let id = RolloutId(7);
    let mut rollout = Rollout::draft(id, spec, "ada", at(1));
    rollout.state = RolloutState::Running;
    rollout.waves = vec![WaveProgress::default(); 2];
    rollout.waves[0].opened_at = Some(at(50));
    change(&mut rollout);
    let members: BTreeMap<HostId, Member> = members
        .into_iter()
        .map(|member| (member.host.clone(), member))
        .collect();
    let mut input = PlanInput::default();
    for id in members.keys() {
        let host = Host {
            id: id.clone(),
            labels: Labels::default(),
            facts: Facts::default(),
            packages: None,
            enrolled_at: at(1),
            retired_at: None,
            certificate: Digest([1; 32]),
            certificates_since: at(1),
            barred: None,
            issued: Vec::new(),
        };
        let link = Link::Up { since: at(1) };
        input.hosts.insert(id.clone(), HostView::new(host, link));
    }
    input
        .rollouts
        .insert(id, RolloutView::new(rollout, members));
    (input, id)
}

#[test]
fn every_state_of_a_host_is_told_in_words() {
    let input = PlanInput::default();
    let told: Vec<String> = every_state()
        .iter()
        .map(|member| {
            let seen = super::member(&input, member);
            format!(
                "{} w{} {}({}) {}",
                seen.host, seen.wave, seen.outcome, seen.reason, seen.detail
            )
        })
        .collect();
    let expected = [
        "a w1 succeeded() runs the release",
        "b w1 pending() works",
        "c w1 pending() tries again at 1970-01-01T00:08:20Z",
        "d w1 unreached() has not confirmed receipt in time; catches up when it returns",
        "e w2 pending() waits for its turn",
        "f w2 pending() may activate",
        "g w2 failed(health) health: port 80 is closed",
        "h w2 excluded(superseded) superseded",
        "i w2 succeeded() ran the release already",
        "j w2 unreached() has not confirmed receipt",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_failure_before_and_a_way_back_that_failed_are_told_too() {
    let input = PlanInput::default();
    let mut tried = member("c", 0, MemberState::Received);
    tried.last_failure = Some(failure(FailureClass::Health));
    assert_eq!(
        super::member(&input, &tried).detail,
        "works; before: health: port 80 is closed"
    );
    let mut back = member("a", 0, MemberState::Succeeded { already: false });
    back.roll_back = Some(RollBack::Failed {
        failure: failure(FailureClass::Rollback),
    });
    let seen = super::member(&input, &back);
    assert_eq!(seen.roll_back, "failed");
    assert_eq!(
        seen.detail,
        "runs the release; could not go back: rollback: port 80 is closed"
    );
    back.roll_back = Some(RollBack::Impossible {
        why: "app@2 is irreversible".to_owned(),
    });
    let seen = super::member(&input, &back);
    assert_eq!(
        seen.detail,
        "runs the release; cannot go back: app@2 is irreversible"
    );
    assert_eq!((seen.before.as_str(), seen.agent_state.as_str()), ("1", ""));
}

#[test]
fn the_outcomes_of_waves_add_up_and_their_activity_is_what_is_pending() {
    let (input, id) = with(every_state(), |_| {});
    let seen = rollout(&input, &input.rollouts[&id], at(200));
    let all = seen.outcomes.unwrap();
    let sum = |o: wire::Outcomes| o.succeeded + o.failed + o.pending + o.unreached + o.excluded;
    assert_eq!((sum(all), all.total), (10, 10));
    let mut totals = 0;
    for wave in &seen.waves {
        let outcomes = wave.outcomes.unwrap();
        assert_eq!(sum(outcomes), outcomes.total, "wave {}", wave.number);
        let active: u32 = wave.activity.values().sum();
        assert_eq!(active, outcomes.pending, "wave {}", wave.number);
        totals += outcomes.total;
    }
    assert_eq!(totals, all.total);
    let [canary, rest] = seen.waves.as_slice() else {
        panic!("{seen:#?}");
    };
    assert_eq!(
        (canary.name.as_str(), canary.number, canary.max_in_flight),
        ("canary", 1, 2)
    );
    assert_eq!(
        (rest.number, rest.max_in_flight, rest.activity["waiting"]),
        (2, 1, 1)
    );
    assert_eq!(canary.activity["backoff"], 1);
    assert_eq!(seen.failed_by_class["health"], 1);
    assert_eq!(seen.excluded_by_reason["superseded"], 1);
    assert!(canary.opened_at.is_some() && rest.opened_at.is_none());
}

#[test]
fn a_row_of_a_list_leaves_out_what_costs_a_look_at_every_host() {
    let (input, id) = with(every_state(), |_| {});
    let row = rollout_row(&input.rollouts[&id]);
    assert!(row.waves.is_empty() && row.spec.is_empty());
    let whole = rollout(&input, &input.rollouts[&id], at(200));
    assert_eq!(row.outcomes, whole.outcomes);
    assert_eq!(
        (row.release.as_str(), row.priority.as_str()),
        ("app@2", "medium")
    );
}

#[test]
fn a_halt_and_a_roll_back_are_told_with_their_numbers() {
    let mut members = every_state();
    members[0].roll_back = Some(RollBack::Wanted);
    members[8].roll_back = Some(RollBack::Done);
    members[6].roll_back = Some(RollBack::Impossible { why: String::new() });
    let (input, id) = with(members, |rollout| {
        rollout.state = RolloutState::RollingBack;
        rollout.roll_back = Some(RollBackScope::WavesFrom {
            wave: 0,
            then: RolloutState::Halted,
        });
        let reason = HaltReason::PlanRefused {
            finding: "two waves at once".to_owned(),
        };
        rollout.halt = Some(Halt {
            at: at(150),
            wave: 1,
            reason,
        });
    });
    let seen = rollout(&input, &input.rollouts[&id], at(200));
    let halt = seen.halt.unwrap();
    assert_eq!((halt.wave, halt.rule.as_str()), (2, "plan_refused"));
    assert!(halt.text.contains("two waves at once"), "{}", halt.text);
    let back = seen.roll_back.unwrap();
    assert_eq!(
        (back.total, back.wanted, back.done, back.impossible),
        (3, 1, 1, 1)
    );
}

#[test]
fn every_state_of_a_rollout_says_what_can_be_typed() {
    // The verbs of `comber rollout`; one that is not there would send an operator astray.
    let verbs = [
        "start", "watch", "pause", "resume", "abort", "rollback", "hosts",
    ];
    for state in RolloutState::ALL {
        let (input, id) = with(every_state(), |rollout| rollout.state = state);
        let view = &input.rollouts[&id];
        let explained = comber_planner::explain_rollout(&input, id, at(200)).unwrap();
        let seen = explanation(&input, view, &explained, at(200));
        assert!(!seen.next.is_empty(), "{state}");
        for command in &seen.next {
            let known = verbs
                .iter()
                .any(|verb| *command == format!("comber rollout {verb} r7"));
            assert!(known, "{state}: {command}");
        }
        let failed: Vec<_> = seen
            .failed
            .iter()
            .map(|member| member.host.as_str())
            .collect();
        assert_eq!(failed, ["g"], "{state}");
    }
}

#[test]
fn a_running_rollout_explains_each_wave_by_its_rules() {
    let (input, id) = with(every_state(), |_| {});
    let explained = comber_planner::explain_rollout(&input, id, at(200)).unwrap();
    let seen = explanation(&input, &input.rollouts[&id], &explained, at(200));
    assert_eq!(seen.waves.len(), 2);
    for wave in &seen.waves {
        for held in &wave.hosts {
            let hold = held.hold.as_ref().unwrap();
            assert!(held.count > 0 && !held.example.is_empty(), "{held:?}");
            assert!(!hold.rule.is_empty() && !hold.text.is_empty(), "{held:?}");
        }
    }
    let held: u32 = seen
        .waves
        .iter()
        .flat_map(|wave| &wave.hosts)
        .map(|held| held.count)
        .sum();
    let unsettled = every_state()
        .iter()
        .filter(|member| !member.is_settled())
        .count();
    assert!(
        held as usize >= unsettled,
        "{held} of {unsettled} hosts are explained"
    );
}
