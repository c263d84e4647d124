//! Disruption budgets, `FleetLock` and emergencies on real processes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use comber_e2e::{LONG, all_at_once, assert_outcomes, is};
use comber_test_support::{Lab, LabOptions, Product, wait};

/// The rule that holds a host in a rollout, and its text.
fn hold(lab: &Lab, host: &str, rollout: &str) -> Option<(String, String)> {
    let why = lab.comber().json(&["why", "host", host]).ok()?;
    let rollouts = why["rollouts"].as_array()?;
    let own = rollouts.iter().find(|one| one["rollout"] == rollout)?;
    let hold = &own["holds"][0];
    let text = |field: &str| hold[field].as_str().map(ToOwned::to_owned);
    Some((text("rule")?, text("text")?))
}

/// Waits until that rule holds the host, and gives its text.
#[track_caller]
fn held_by(lab: &Lab, host: &str, rollout: &str, rule: &str) -> String {
    let told = wait::until(LONG, || {
        hold(lab, host, rollout).filter(|(held, _)| held == rule)
    });
    match told {
        Some((_, text)) => text,
        None => panic!(
            "{host} is held by {:?}, not by {rule}",
            hold(lab, host, rollout)
        ),
    }
}

/// A rollout for one host only.
fn only(version: &str, host: &str) -> String {
    let selector = format!("selector = 'host == \"{host}\"'");
    all_at_once(version).replace("selector = \"true\"", &selector)
}

/// What a `FleetLock` client gets: the status line's number, and the body.
fn ask_for_lock(address: &str, path: &str, id: &str, group: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let body = format!(r#"{{"client_params":{{"id":"{id}","group":"{group}"}}}}"#);
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nfleet-lock-protocol: true\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split("\r\n\r\n").nth(1)?.to_owned();
    Some((status, body))
}

/// Two rollouts, one rack: the host of the second waits while the host of the first is away, also over a restart of the
/// controller, and goes when it is back.
#[test]
fn a_budget_holds_over_two_rollouts_and_a_restart() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 2, &["rack=r1"]).unwrap();
    let set = [
        "budget",
        "set",
        "racks",
        "--by",
        "labels.rack",
        "--max",
        "1",
    ];
    let said = lab.comber().ok(&set).unwrap();
    assert!(said.contains("budget racks is in force"), "{said}");
    for version in ["1", "2"] {
        lab.publish(&Product::good(version)).unwrap();
    }
    lab.stop_agent("h1").unwrap();
    let first = lab.roll_out(&only("1", "h1")).unwrap();
    let second = lab.roll_out(&only("2", "h2")).unwrap();
    let text = held_by(&lab, "h2", &second, "disruption_budget");
    assert!(
        text.contains(
            "budget racks, labels.rack=r1: 1 down, at most 1 (1) may be: h1 is not connected"
        ),
        "{text}"
    );
    let metrics = lab.scrape().unwrap();
    assert!(
        metrics.contains("comber_budget_domains_full{budget=\"racks\"} 1"),
        "{metrics}"
    );
    lab.stop_controller().unwrap();
    lab.start_controller().unwrap();
    held_by(&lab, "h2", &second, "disruption_budget");
    assert_eq!(lab.running("h2"), None, "h2 did not wait");
    lab.start_agent("h1").unwrap();
    lab.wait_for(&first, LONG, is("completed")).unwrap();
    lab.wait_for(&second, LONG, is("completed")).unwrap();
    assert_outcomes(&lab, &second, &[("succeeded", 1)]);
    let shown = lab.comber().json(&["budget", "show", "racks"]).unwrap();
    assert_eq!(shown["down"], 0, "{shown:#}");
    assert_eq!(shown["domains"][0]["hosts"], 2, "{shown:#}");
    lab.comber()
        .ok(&["budget", "delete", "racks", "--yes"])
        .unwrap();
    let events = lab.comber().ok(&["events"]).unwrap();
    assert!(events.contains("budget racks was deleted"), "{events}");
}

/// A host without agent takes its lock from the same budget, by the protocol of Zincati.
#[test]
fn a_host_without_agent_shares_the_budget() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let options = LabOptions {
        controller: format!("[fleet_lock]\nlisten = \"{address}\"\ntls = false\n"),
        ..LabOptions::default()
    };
    let mut lab = Lab::with(&options).unwrap();
    lab.start_agents("h", 1, &["rack=r1"]).unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let pre = |id: &str, group: &str| ask_for_lock(&address, "/v1/pre-reboot", id, group);
    let back = |id: &str| ask_for_lock(&address, "/v1/steady-state", id, "r1");
    let (status, body) = wait::until(LONG, || pre("core1", "r1")).unwrap();
    assert!(
        status == 503 && body.contains("no_budget"),
        "{status} {body}"
    );
    let set = [
        "budget",
        "set",
        "racks",
        "--by",
        "labels.rack",
        "--max",
        "1",
        "--fleet-lock",
    ];
    lab.comber().ok(&set).unwrap();
    let held = wait::until(LONG, || {
        pre("core1", "r1").filter(|(status, _)| *status == 200)
    });
    assert!(
        held.is_some(),
        "core1 gets no lock: {:?}",
        pre("core1", "r1")
    );
    assert_eq!(
        pre("core1", "r1").unwrap().0,
        200,
        "asking again is granted again"
    );
    let (status, body) = pre("core2", "r1").unwrap();
    assert!(
        status == 409 && body.contains("core1 holds a lock"),
        "{status} {body}"
    );
    let id = lab.roll_out(&all_at_once("1")).unwrap();
    let text = held_by(&lab, "h1", &id, "disruption_budget");
    assert!(text.contains("core1 holds a lock"), "{text}");
    lab.stop_controller().unwrap();
    lab.start_controller().unwrap();
    held_by(&lab, "h1", &id, "disruption_budget");
    let given = wait::until(LONG, || back("core1").filter(|(status, _)| *status == 200));
    assert!(
        given.is_some(),
        "the lock is not taken back: {:?}",
        back("core1")
    );
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    let held = wait::until(LONG, || {
        pre("core2", "r1").filter(|(status, _)| *status == 200)
    });
    assert!(held.is_some(), "core2 gets no lock");
    lab.comber()
        .ok(&["budget", "unlock", "core2", "--yes"])
        .unwrap();
    let shown = lab.comber().json(&["budget", "show", "racks"]).unwrap();
    assert_eq!(
        shown["locks"].as_array().map(Vec::len),
        Some(0),
        "{shown:#}"
    );
}

/// A rollout waits with everything staged; an emergency takes its host and passes the freeze that holds the other.
#[test]
fn an_emergency_takes_a_host_that_has_not_begun() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    for version in ["1", "2"] {
        lab.publish(&Product::good(version)).unwrap();
    }
    let freeze = [
        "freeze",
        "add",
        "always",
        "01-01..12-31",
        "--reason",
        "a test",
    ];
    lab.comber().ok(&freeze).unwrap();
    let slow = format!("priority = \"low\"\ndue = \"10d\"\n{}", all_at_once("1"));
    let slow = lab.roll_out(&slow).unwrap();
    held_by(&lab, "h1", &slow, "frozen");
    let staged = wait::until(LONG, || {
        let status = lab.agent_status("h1").ok()?;
        (status["state"] == "awaiting_permit").then_some(())
    });
    assert!(staged.is_some(), "h1 does not ask for a permit");
    let urgent = format!("priority = \"emergency\"\n{}", all_at_once("2"));
    let urgent = lab.roll_out(&urgent).unwrap();
    lab.wait_for(&urgent, LONG, is("completed")).unwrap();
    assert_eq!(lab.running("h1").as_deref(), Some("2"));
    let shown = lab.status(&urgent).unwrap();
    assert!(
        shown["due_at"].is_string() && shown["overdue"] == false,
        "{shown:#}"
    );
}

/// A rollout that is not done by its due date is told to be overdue wherever it is looked at.
#[test]
fn a_rollout_past_its_due_date_is_told_to_be_overdue() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let freeze = [
        "freeze",
        "add",
        "always",
        "01-01..12-31",
        "--reason",
        "a test",
    ];
    lab.comber().ok(&freeze).unwrap();
    let late = format!("due = \"1s\"\n{}", all_at_once("1"));
    let late = lab.roll_out(&late).unwrap();
    lab.wait_for(&late, LONG, |status| status["overdue"] == true)
        .unwrap();
    let text = lab.comber().ok(&["rollout", "status", &late]).unwrap();
    assert!(text.contains("overdue: it was due"), "{text}");
    let events = lab.comber().ok(&["events"]).unwrap();
    assert!(
        events.contains("is past its due date: 1 of 1 hosts"),
        "{events}"
    );
    let metrics = lab.scrape().unwrap();
    let line = format!("comber_rollout_overdue{{rollout=\"{late}\"}} 1");
    assert!(metrics.contains(&line), "{metrics}");
}
