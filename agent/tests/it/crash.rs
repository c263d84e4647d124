//! Kill -9 at random moments: the ledger always loads, and the host always ends whole on a release it was given.

use std::time::Duration;

use comber_proto::agent::v1::AgentState;
use comber_runtime::backoff::random_or;

use crate::{
    controller::{Plan, TestController},
    host::{Host, Release},
};

/// Enough for each step of an attempt to be hit; more finds more, given time.
const KILLS: u64 = 25;
/// An attempt on an idle machine takes about a third of a second.
const LONGEST_LIFE_MS: u64 = 500;

#[tokio::test]
async fn the_ledger_survives_a_kill_at_any_moment() {
    let controller = TestController::start().await;
    let mut host = Host::enrolled(&controller).await;
    let versions = ["1", "2"].map(|version| {
        let release = Release {
            check: "sleep 0.05",
            ..Release::good(version)
        };
        release.assignment(release.publish(&controller))
    });
    let seed = random_or(1);
    println!("seed {seed}");
    let mut last = String::new();
    for kill in 0..KILLS {
        let assignment = versions[usize::from(kill % 6 >= 3)].clone();
        last = assignment.release.version.to_string();
        controller.plan(Plan {
            generation: 1 + kill / 3,
            assignment: Some(assignment),
            permits: true,
            acknowledges: true,
        });
        host.start();
        let draw = seed.wrapping_add(kill).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        tokio::time::sleep(Duration::from_millis(draw % LONGEST_LIFE_MS)).await;
        host.kill().await;
        let status = host.status().await;
        assert_ne!(
            status["state"],
            "broken",
            "kill {kill}: {status:#}\n{}",
            host.log()
        );
        let active = host.active();
        let whole = active
            .as_deref()
            .is_none_or(|version| ["1", "2"].contains(&version));
        assert!(whole, "kill {kill}: {active:?}");
    }
    let from = controller.received().len();
    host.start();
    let idle = controller
        .heard("rest", from, |actual| {
            actual.state == i32::from(AgentState::Idle) && actual.reports.is_empty()
        })
        .await;
    // A release that was killed in the middle again and again may have been given up for the one before.
    let active = host.active();
    let shown = idle
        .installed
        .first()
        .map(|installed| installed.release.clone());
    assert_eq!(
        shown,
        active.map(|version| format!("app@{version}")),
        "wanted {last}\n{}",
        host.log()
    );
}
