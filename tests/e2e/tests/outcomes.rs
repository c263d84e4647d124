//! Every selected host has one of four outcomes, always, on every surface; silence is never lost.

use std::time::Duration;

use comber_e2e::{LONG, all_at_once, assert_outcomes, has, is};
use comber_test_support::{AgentOptions, Lab, Product, wait};

#[test]
fn a_good_release_reaches_every_host_in_waves() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("web-", 6, &["role=web"]).unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let spec = "release = \"app@1\"\nselector = 'labels.role == \"web\"'\n[[wave]]\nhosts = 1\nsoak = \"500ms\"\n[[wave]]\nhosts = \"50%\"\n[[wave]]\nhosts = \"rest\"\n";
    let id = lab.create(spec).unwrap();
    assert_eq!(
        lab.comber().ok(&["rollout", "start", &id]).map(|_| ()).ok(),
        Some(())
    );
    let watched = lab.comber().run(&["rollout", "watch", &id]).unwrap();
    assert_eq!(watched.code, 0, "{}{}", watched.stdout, watched.stderr);
    assert_outcomes(&lab, &id, &[("succeeded", 6)]);
    let status = lab.status(&id).unwrap();
    let waves: Vec<u64> = status["waves"]
        .as_array()
        .unwrap()
        .iter()
        .map(|wave| wave["outcomes"]["succeeded"].as_u64().unwrap())
        .collect();
    assert_eq!(waves, [1, 3, 2]);
    for number in 1..=6 {
        assert_eq!(lab.running(&format!("web-{number}")).as_deref(), Some("1"));
    }
}

#[test]
fn silence_is_never_lost() {
    let mut lab = Lab::new().unwrap();
    lab.publish(&Product::good("1")).unwrap();
    // Stays in activation until the test lets it go on.
    let mut slow = Product::good("2");
    slow.start = "test -e ../../../slow && sleep 3; true".to_owned();
    lab.publish(&slow).unwrap();
    let token = lab.token(&["--uses", "4"]).unwrap();
    for name in ["never", "stopped", "killed", "fine"] {
        lab.enrol(name, &token, &AgentOptions::default()).unwrap();
    }
    std::fs::create_dir_all(lab.host("killed").join("root")).unwrap();
    std::fs::write(lab.host("killed").join("root/slow"), "").unwrap();
    for name in ["stopped", "killed", "fine"] {
        lab.start_agent(name).unwrap();
    }
    // Held back by its place behind the others: one at a time, so a host can be stopped while it waits.
    let spec = "release = \"app@2\"\nselector = \"true\"\n[pace]\nmax_in_flight = \"100%\"\n[budget]\nfailures = { max = \"100%\" }\nunreached = { after = \"1h\", max = \"100%\" }\nsilent = { after = \"2s\" }\n[[wave]]\nhosts = { selector = 'host in [\"killed\", \"never\"]' }\n[[wave]]\nhosts = \"rest\"\ngate = { success = \"50%\" }\n";
    let id = lab.roll_out(spec).unwrap();
    let activating = wait::until(LONG, || {
        let status = lab.agent_status("killed").ok()?;
        (status["state"] == "activating").then_some(())
    });
    assert!(activating.is_some(), "the host does not activate");
    lab.kill_agent("killed");
    lab.wait_for(
        &id,
        LONG,
        has(&[("failed", 1), ("unreached", 1), ("pending", 2)]),
    )
    .unwrap();
    assert_outcomes(
        &lab,
        &id,
        &[("failed", 1), ("unreached", 1), ("pending", 2)],
    );
    let hosts = lab
        .comber()
        .json(&["rollout", "hosts", &id, "--outcome", "failed"])
        .unwrap();
    assert_eq!(hosts["hosts"][0]["reason"], "silent", "{hosts:#}");

    // It returns and tells the truth: the attempt went on, and its outcome is corrected.
    lab.start_agent("killed").unwrap();
    lab.wait_for(&id, LONG, has(&[("succeeded", 3), ("unreached", 1)]))
        .unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 3), ("unreached", 1)]);
    assert_eq!(lab.running("killed").as_deref(), Some("2"));

    // A host that comes late catches up by itself.
    lab.start_agent("never").unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 4)]);
}

/// One host works for as long as its file is there, so that the other waits for its place.
fn one_at_a_time(silent: &str) -> (Product, String) {
    let mut slow = Product::good("1");
    slow.start
        .push_str("while test -e ../../../slow; do sleep 0.1; done");
    let spec = format!(
        "release = \"app@1\"\nselector = \"true\"\n[pace]\nmax_in_flight = 1\n[budget]\nfailures = {{ max = \"100%\" }}\nsilent = {silent}\n[[wave]]\nhosts = \"rest\"\n"
    );
    (slow, spec)
}

#[expect(clippy::unwrap_used, reason = "a test that cannot wait has failed")]
fn wait_for_agent(lab: &Lab, host: &str, state: &str) {
    let there = wait::until(LONG, || {
        (lab.agent_status(host).ok()?["state"] == state).then_some(())
    });
    assert!(there.is_some(), "{:#}", lab.agent_status(host).unwrap());
}

#[test]
fn a_host_stopped_before_activation_is_pending() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    let (slow, spec) = one_at_a_time("{ after = \"1h\" }");
    lab.publish(&slow).unwrap();
    std::fs::write(lab.host("h1").join("root/slow"), "").unwrap();
    let id = lab.roll_out(&spec).unwrap();
    wait_for_agent(&lab, "h1", "activating");
    lab.start_agents("late", 1, &[]).unwrap();
    wait_for_agent(&lab, "late1", "awaiting_permit");
    lab.stop_agent("late1").unwrap();
    std::fs::remove_file(lab.host("h1").join("root/slow")).unwrap();
    lab.wait_for(&id, LONG, has(&[("succeeded", 1)])).unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 1), ("pending", 1)]);
    let why = lab.comber().ok(&["why", "host", "late1"]).unwrap();
    assert!(why.contains("not connected"), "{why}");
    assert_eq!(lab.running("late1"), None);
    lab.start_agent("late1").unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 2)]);
}

#[test]
fn a_silent_host_stays_pending_where_the_file_says_so() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    let (slow, spec) = one_at_a_time("{ after = \"1s\", counts_as = \"pending\" }");
    lab.publish(&slow).unwrap();
    std::fs::write(lab.host("h1").join("root/slow"), "").unwrap();
    let id = lab.roll_out(&spec).unwrap();
    wait_for_agent(&lab, "h1", "activating");
    lab.kill_agent("h1");
    let failed = wait::until(Duration::from_secs(3), || {
        let status = lab.status(&id).ok()?;
        (status["outcomes"]["pending"] != 1).then_some(())
    });
    assert!(failed.is_none(), "{:#}", lab.status(&id).unwrap());
    assert_outcomes(&lab, &id, &[("pending", 1)]);
    std::fs::remove_file(lab.host("h1").join("root/slow")).unwrap();
    lab.start_agent("h1").unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 1)]);
}

#[test]
fn what_is_not_applicable_is_excluded_and_never_a_failure() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 3, &[]).unwrap();
    let mut product = Product::good("1");
    product.head = "platforms = 'host == \"h1\"'".to_owned();
    lab.publish(&product).unwrap();
    let id = lab.roll_out(&all_at_once("1")).unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 1), ("excluded", 2)]);
    assert_eq!(lab.running("h1").as_deref(), Some("1"));
    assert_eq!(lab.running("h2"), None);
}
