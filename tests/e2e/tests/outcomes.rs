//! Every selected host has one of four outcomes, always, on every surface; silence is never lost.

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
    assert_eq!(hosts["members"][0]["reason"], "silent", "{hosts:#}");

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

#[test]
fn a_host_stopped_before_activation_is_pending() {
    let mut lab = Lab::new().unwrap();
    lab.publish(&Product::good("1")).unwrap();
    lab.start_agents("h", 2, &[]).unwrap();
    let spec = "release = \"app@1\"\nselector = \"true\"\n[budget]\nfailures = { max = \"100%\" }\nsilent = { after = \"1h\" }\n[[wave]]\nhosts = \"rest\"\n";
    let id = lab.create(spec).unwrap();
    // Paused before it starts to give permits: both hosts confirm receipt and wait.
    lab.comber().ok(&["rollout", "start", &id]).unwrap();
    lab.comber().ok(&["rollout", "pause", &id]).unwrap();
    let status = lab.status(&id).unwrap();
    assert_eq!(status["outcomes"]["total"], 2);
    lab.stop_agent("h1").unwrap();
    lab.comber().ok(&["rollout", "resume", &id]).unwrap();
    lab.wait_for(&id, LONG, |s| {
        s["outcomes"]["succeeded"].as_u64() >= Some(1)
    })
    .unwrap();
    let status = lab.status(&id).unwrap();
    let waiting = status["outcomes"]["pending"].as_u64().unwrap()
        + status["outcomes"]["unreached"].as_u64().unwrap();
    let succeeded = status["outcomes"]["succeeded"].as_u64().unwrap();
    assert_eq!(waiting + succeeded, 2, "{status:#}");
    lab.start_agent("h1").unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 2)]);
}

#[test]
fn what_is_not_applicable_is_excluded_and_never_a_failure() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 3, &[]).unwrap();
    let mut product = Product::good("1");
    product.head = "platforms = 'facts.arch == \"pdp11\"'".to_owned();
    lab.publish(&product).unwrap();
    let id = lab.roll_out(&all_at_once("1")).unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(&lab, &id, &[("excluded", 3)]);
    assert_eq!(lab.running("h1"), None);
}
