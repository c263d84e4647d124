//! Abort is fenced: when `abort --wait` returns, no host can still activate that release.

use std::time::Duration;

use comber_e2e::{LONG, has};
use comber_test_support::{AgentOptions, Cable, Lab, Product, wait};
use rustix::process::Signal;

const HOSTS: usize = 8;

/// Hosts that run version 2 of the product.
fn activated(lab: &Lab) -> Vec<String> {
    let names = (1..=HOSTS).map(|number| format!("h{number}"));
    names
        .filter(|name| lab.running(name).as_deref() == Some("2"))
        .collect()
}

#[test]
fn after_abort_with_wait_no_host_activates_not_even_those_cut_off() {
    let mut lab = Lab::new().unwrap();
    let cable = Cable::to(lab.port()).unwrap();
    let token = lab.token(&["--uses", &HOSTS.to_string()]).unwrap();
    for number in 1..=HOSTS {
        // The odd ones are behind a cable that will be cut.
        let port = (number % 2 == 1).then(|| cable.port());
        let options = AgentOptions {
            port,
            ..AgentOptions::default()
        };
        lab.enrol(&format!("h{number}"), &token, &options).unwrap();
        lab.start_agent(&format!("h{number}")).unwrap();
    }
    let mut product = Product::good("2");
    product.start = "sleep 1".to_owned();
    lab.publish(&product).unwrap();
    let spec = "release = \"app@2\"\nselector = \"true\"\n[pace]\nmax_in_flight = 4\npermit = \"5s\"\ndisconnected = true\n[[wave]]\nhosts = \"rest\"\n";
    let id = lab.roll_out(spec).unwrap();
    let some = wait::until(LONG, || (!activated(&lab).is_empty()).then_some(()));
    assert!(some.is_some(), "no host activates");
    // Half of the hosts cannot hear of it, and one is frozen with whatever permit it holds.
    cable.cut();
    lab.signal_agent("h2", Signal::STOP).unwrap();
    let aborted = lab
        .comber()
        .ok(&["rollout", "abort", &id, "--wait", "--yes"])
        .unwrap();
    let before = activated(&lab);
    assert!(
        before.len() < HOSTS,
        "the abort came too late to show anything: {aborted}"
    );

    lab.signal_agent("h2", Signal::CONT).unwrap();
    let more = wait::until(Duration::from_secs(3), || {
        (activated(&lab) != before).then_some(())
    });
    assert!(
        more.is_none(),
        "activated after the fence was closed: {:?}",
        activated(&lab)
    );
    cable.heal();
    let settled = |status: &serde_json::Value| {
        status["outcomes"]["pending"] == 0 && status["outcomes"]["unreached"] == 0
    };
    let status = lab.wait_for(&id, LONG, settled).unwrap();
    assert_eq!(
        activated(&lab),
        before,
        "activated after the hosts returned"
    );
    assert_eq!(status["outcomes"]["succeeded"], before.len(), "{status:#}");
    assert_eq!(
        status["outcomes"]["excluded"],
        HOSTS - before.len(),
        "{status:#}"
    );
    assert_eq!(status["state"], "aborted");
}

#[test]
fn a_draft_is_aborted_and_nothing_moves() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 2, &[]).unwrap();
    lab.publish(&Product::good("2")).unwrap();
    let id = lab.create(&comber_e2e::all_at_once("2")).unwrap();
    lab.comber()
        .ok(&["rollout", "abort", &id, "--wait", "--yes"])
        .unwrap();
    let again = lab.comber().run(&["rollout", "start", &id]).unwrap();
    assert_eq!(again.code, 2, "{}", again.stderr);
    assert!(again.stderr.contains("aborted"), "{}", again.stderr);
}

#[test]
fn a_pause_holds_back_and_a_resume_goes_on() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 4, &[]).unwrap();
    let mut product = Product::good("2");
    product.start = "sleep 0.3".to_owned();
    lab.publish(&product).unwrap();
    let spec = "release = \"app@2\"\nselector = \"true\"\n[pace]\nmax_in_flight = 1\n[[wave]]\nhosts = \"rest\"\n";
    let id = lab.roll_out(spec).unwrap();
    lab.wait_for(&id, LONG, |status| {
        status["outcomes"]["succeeded"].as_u64() >= Some(1)
    })
    .unwrap();
    lab.comber().ok(&["rollout", "pause", &id]).unwrap();
    // The one in flight ends; nobody follows.
    let still = wait::until(Duration::from_secs(2), || {
        let status = lab.status(&id).ok()?;
        (status["outcomes"]["succeeded"].as_u64()? > 3).then_some(())
    });
    assert!(still.is_none(), "hosts went on during the pause");
    let why = lab.comber().ok(&["why", "rollout", &id]).unwrap();
    assert!(why.contains("paused"), "{why}");
    lab.comber().ok(&["rollout", "resume", &id]).unwrap();
    lab.wait_for(&id, LONG, has(&[("succeeded", 4)])).unwrap();
}
