//! Certificates are renewed before they are over: the host's, the operator's and the controller's own, by the binaries
//! themselves, while work goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comber_e2e::{LONG, all_at_once, has};
use comber_test_support::{Lab, LabOptions, Product, wait};

/// A life that is renewed twice within a test, and still outlasts the pauses of a busy machine.
const LIVES: &str =
    "[certificates]\nhost_ttl = \"12s\"\noperator_ttl = \"12s\"\nserver_ttl = \"12s\"\n";
/// How much longer than its first certificate everything must go on.
const RENEWALS: usize = 2;

/// A file that is replaced at each renewal, and the contents it had.
struct Seen {
    path: PathBuf,
    contents: Vec<Vec<u8>>,
}

impl Seen {
    fn new(path: PathBuf) -> Self {
        let contents = Vec::new();
        Self { path, contents }
    }

    fn look(&mut self) {
        let now = fs::read(&self.path).unwrap_or_default();
        if !now.is_empty() && self.contents.last() != Some(&now) {
            self.contents.push(now);
        }
    }

    fn renewed(&self) -> usize {
        self.contents.len().saturating_sub(1)
    }
}

fn count(log: &Path, words: &str) -> usize {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().filter(|line| line.contains(words)).count()
}

#[test]
fn everyone_outlives_the_first_certificate() {
    let mut lab = Lab::with(&LabOptions {
        controller: LIVES.to_owned(),
        ..LabOptions::default()
    })
    .unwrap();
    lab.start_agents("h", 2, &[]).unwrap();
    let mut host = Seen::new(lab.host("h1").join("state/identity.toml"));
    let operator = lab.directory().join("operator/identities/default.toml");
    let mut operator = Seen::new(operator);
    let log = lab.directory().join("controller.log");
    let renewed = wait::until(LONG, || {
        // Each command renews the operator's certificate where it is due.
        lab.comber().ok(&["host", "list"]).unwrap();
        host.look();
        operator.look();
        let server = count(&log, "the server's certificate was renewed");
        let all = [host.renewed(), operator.renewed(), server];
        all.iter().all(|times| *times >= RENEWALS).then_some(())
    });
    assert!(
        renewed.is_some(),
        "renewed: host {}, operator {}, server {}",
        host.renewed(),
        operator.renewed(),
        count(&log, "the server's certificate was renewed")
    );

    // New connections on all sides, with what was renewed.
    lab.stop_agent("h1").unwrap();
    lab.start_agent("h1").unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let id = lab.roll_out(&all_at_once("1")).unwrap();
    lab.wait_for(&id, LONG, has(&[("succeeded", 2)])).unwrap();
}

#[test]
fn a_host_whose_certificate_ended_while_it_was_off_is_enrolled_again() {
    let mut lab = Lab::with(&LabOptions {
        controller: "[certificates]\nhost_ttl = \"3s\"\n".to_owned(),
        ..LabOptions::default()
    })
    .unwrap();
    let token = lab.token(&["--uses", "2"]).unwrap();
    lab.enrol("h1", &token, &comber_test_support::AgentOptions::default())
        .unwrap();
    assert!(wait::past(Duration::from_secs(4)), "time stands still");
    lab.start_agent("h1").unwrap();
    let told = wait::until(LONG, || {
        let problem = lab.agent_status("h1").ok()?["certificate"]["problem"].to_string();
        problem.contains("comber-agent enroll").then_some(problem)
    });
    assert!(told.is_some(), "the remedy is not told");
    let hosts = lab.comber().json(&["host", "list"]).unwrap();
    assert_eq!(hosts["hosts"][0]["connected"], false, "{hosts:#}");

    lab.enrol("h1", &token, &comber_test_support::AgentOptions::default())
        .unwrap();
    let connected = wait::until(LONG, || {
        let hosts = lab.comber().json(&["host", "list"]).ok()?;
        (hosts["hosts"][0]["connected"] == true).then_some(())
    });
    assert!(connected.is_some(), "the host does not come back");
}
