//! Who takes part: labels by token, hosts that come late, hosts that are retired.

use std::time::Duration;

use comber_e2e::{LONG, all_at_once, assert_outcomes, has, is};
use comber_test_support::{AgentOptions, Lab, Product, wait};

const WEB: &str = "release = \"app@1\"\nselector = 'labels.role == \"web\"'\n[pace]\nmax_in_flight = \"100%\"\n[[wave]]\nhosts = { selector = 'labels.rack == \"a\"' }\n[[wave]]\nhosts = \"rest\"\n";

#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn wave_of(lab: &Lab, id: &str, host: &str) -> u64 {
    let hosts = lab.comber().json(&["rollout", "hosts", id]).unwrap();
    let hosts = hosts["hosts"].as_array().unwrap();
    let host = hosts.iter().find(|member| member["host"] == host).unwrap();
    host["wave"].as_u64().unwrap()
}

#[test]
fn a_tokens_labels_choose_the_wave_and_late_hosts_join_the_last_open_one() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("a", 2, &["role=web", "rack=a"]).unwrap();
    lab.start_agents("b", 1, &["role=web", "rack=b"]).unwrap();
    lab.start_agents("db", 1, &["role=db", "rack=a"]).unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let id = lab.roll_out(WEB).unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 3)]);
    assert_eq!([wave_of(&lab, &id, "a1"), wave_of(&lab, &id, "b1")], [1, 2]);
    assert_eq!(lab.running("db1"), None);

    // A new host of the selection, and one that is labelled into it.
    lab.start_agents("late", 1, &["role=web", "rack=a"])
        .unwrap();
    lab.comber()
        .ok(&["host", "label", "db1", "role=web"])
        .unwrap();
    lab.wait_for(&id, LONG, has(&[("succeeded", 5)])).unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 5)]);
    assert_eq!(wave_of(&lab, &id, "late1"), 2, "not the last open wave");
    assert_eq!(lab.running("late1").as_deref(), Some("1"));
    assert_eq!(lab.running("db1").as_deref(), Some("1"));
}

#[test]
fn a_retired_host_stays_out_until_it_is_enrolled_again() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 2, &[]).unwrap();
    lab.comber().ok(&["host", "retire", "h1", "--yes"]).unwrap();
    lab.stop_agent("h1").unwrap();
    lab.start_agent("h1").unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let id = lab.roll_out(&all_at_once("1")).unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(&lab, &id, &[("succeeded", 1)]);
    let back = wait::until(Duration::from_secs(3), || {
        let hosts = lab.comber().json(&["host", "list", "--retired"]).ok()?;
        let hosts = hosts["hosts"].as_array()?.clone();
        let h1 = hosts.iter().find(|host| host["id"] == "h1")?;
        (h1["connected"] == true).then_some(())
    });
    assert!(back.is_none(), "a retired host connected");
    assert_eq!(lab.running("h1"), None);

    let token = lab.token(&[]).unwrap();
    lab.enrol("h1", &token, &AgentOptions::default()).unwrap();
    // It is a new member of the fleet, and a late one of the rollout.
    lab.wait_for(&id, LONG, has(&[("succeeded", 2)])).unwrap();
    assert_eq!(lab.running("h1").as_deref(), Some("1"));
}
