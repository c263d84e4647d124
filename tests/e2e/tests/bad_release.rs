//! A bad release stops early and by itself, and its hosts are back where they were.

use comber_e2e::{LONG, all_at_once, assert_outcomes, has, is};
use comber_test_support::{Lab, Product, wait};

const WAVES: &str =
    "selector = \"true\"\n[[wave]]\nhosts = 1\n[[wave]]\nhosts = 2\n[[wave]]\nhosts = \"rest\"\n";

#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn lab_with_version_1(hosts: usize) -> Lab {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", hosts, &[]).unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let id = lab.roll_out(&all_at_once("1")).unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    lab
}

#[track_caller]
fn assert_all_run(lab: &Lab, hosts: usize, version: &str) {
    for number in 1..=hosts {
        let name = format!("h{number}");
        assert_eq!(lab.running(&name).as_deref(), Some(version), "{name}");
    }
}

#[test]
fn the_canary_fails_rolls_back_and_halts_the_rollout() {
    let lab = lab_with_version_1(5);
    lab.publish(&Product::bad("2")).unwrap();
    let id = lab
        .create(&format!("release = \"app@2\"\n{WAVES}"))
        .unwrap();
    lab.comber().ok(&["rollout", "start", &id]).unwrap();
    let watched = lab.comber().run(&["rollout", "watch", &id]).unwrap();
    assert_eq!(watched.code, 4, "{}{}", watched.stdout, watched.stderr);
    assert_outcomes(&lab, &id, &[("failed", 1), ("pending", 4)]);
    assert_all_run(&lab, 5, "1");
    let status = lab.status(&id).unwrap();
    assert_eq!(status["halt"]["rule"], "gate_impossible", "{status:#}");
    let why = lab.comber().ok(&["why", "rollout", &id]).unwrap();
    assert!(why.contains("the page is missing"), "{why}");
    let failed = lab
        .comber()
        .json(&["rollout", "hosts", &id, "--outcome", "failed"])
        .unwrap();
    let host = failed["members"][0]["host"].as_str().unwrap();
    let why = lab.comber().ok(&["why", "host", host]).unwrap();
    assert!(why.contains("health"), "{why}");
}

#[test]
fn a_release_that_failed_here_is_not_tried_again_by_itself() {
    let lab = lab_with_version_1(2);
    lab.publish(&Product::bad("2")).unwrap();
    let first = lab.roll_out(&all_at_once("2")).unwrap();
    lab.wait_for(&first, LONG, has(&[("failed", 2)])).unwrap();
    let second = lab.roll_out(&all_at_once("2")).unwrap();
    lab.wait_for(&second, LONG, has(&[("failed", 2)])).unwrap();
    let hosts = lab.comber().json(&["rollout", "hosts", &second]).unwrap();
    assert_eq!(hosts["members"][0]["reason"], "rejected", "{hosts:#}");
    assert_all_run(&lab, 2, "1");
}

#[test]
fn on_halt_the_whole_rollout_goes_back_where_asked() {
    let lab = lab_with_version_1(4);
    // Good on three hosts, bad on one.
    let mut mixed = Product::good("2");
    mixed.check = "test ! -e ../../../broken".to_owned();
    lab.publish(&mixed).unwrap();
    let spec = "release = \"app@2\"\nselector = \"true\"\non_halt = \"roll_back_all\"\n[pace]\nmax_in_flight = \"100%\"\n[[wave]]\nhosts = { selector = 'host != \"h4\"' }\n[[wave]]\nhosts = \"rest\"\n[budget]\nfailures = { max = 0 }\n";
    std::fs::write(lab.host("h4").join("root/broken"), "").unwrap();
    let id = lab.roll_out(spec).unwrap();
    let status = lab.wait_for(&id, LONG, is("halted")).unwrap();
    assert_eq!(status["roll_back"]["done"], 3, "{status:#}");
    assert_outcomes(&lab, &id, &[("succeeded", 3), ("failed", 1)]);
    assert_all_run(&lab, 4, "1");
}

#[test]
fn a_finished_rollout_is_rolled_back_to_what_each_host_had() {
    let mut lab = lab_with_version_1(2);
    // A third host never had version 1.
    lab.publish(&Product::good("2")).unwrap();
    lab.comber().ok(&["rollout", "abort", "r1"]).unwrap();
    lab.start_agents("new", 1, &[]).unwrap();
    let id = lab.roll_out(&all_at_once("2")).unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_all_run(&lab, 2, "2");
    assert_eq!(lab.running("new1").as_deref(), Some("2"));
    lab.comber()
        .ok(&["rollout", "rollback", &id, "--yes"])
        .unwrap();
    lab.wait_for(&id, LONG, |status| status["roll_back"]["done"] == 3)
        .unwrap();
    assert_all_run(&lab, 2, "1");
    assert_eq!(lab.running("new1"), None);
}

#[test]
fn a_release_that_needs_a_reboot_is_proved_on_the_new_boot() {
    let lab = lab_with_version_1(2);
    let mut product = Product::good("2");
    product.head = "reboot = \"required\"".to_owned();
    lab.publish(&product).unwrap();
    let id = lab.roll_out(&all_at_once("2")).unwrap();
    let rebooted = wait::until(LONG, || {
        let id = std::fs::read_to_string(lab.host("h1").join("boot_id")).ok()?;
        id.starts_with("boot-").then_some(())
    });
    assert!(rebooted.is_some(), "no reboot was asked for");
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 2)]);
    assert_all_run(&lab, 2, "2");
}

#[test]
fn a_host_that_does_not_come_up_again_goes_back() {
    let mut lab = Lab::new().unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let mut product = Product::good("2");
    product.head = "reboot = \"required\"".to_owned();
    lab.publish(&product).unwrap();
    let token = lab.token(&[]).unwrap();
    lab.enrol("h1", &token, &comber_test_support::AgentOptions::default())
        .unwrap();
    lab.start_agent("h1").unwrap();
    let first = lab.roll_out(&all_at_once("1")).unwrap();
    lab.wait_for(&first, LONG, is("completed")).unwrap();
    // From now on its reboot command does nothing: the boot id stays.
    lab.stop_agent("h1").unwrap();
    let config = lab.host("h1").join("agent.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("echo boot-$$ >", "true #")).unwrap();
    lab.start_agent("h1").unwrap();
    let id = lab.roll_out(&all_at_once("2")).unwrap();
    lab.wait_for(&id, LONG, has(&[("failed", 1)])).unwrap();
    let hosts = lab.comber().json(&["rollout", "hosts", &id]).unwrap();
    assert_eq!(hosts["members"][0]["reason"], "reboot", "{hosts:#}");
    assert_eq!(lab.running("h1").as_deref(), Some("1"));
}
