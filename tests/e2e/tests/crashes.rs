//! `kill -9` anywhere: nothing acknowledged is lost, nothing is done twice, no host is left half-changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use comber_e2e::{LONG, all_at_once, chance, has, is, outcomes};
use comber_test_support::{Lab, Product, wait};

/// Kills of the controller in one run; a soak run raises it.
#[expect(
    clippy::disallowed_methods,
    reason = "how long a test runs is said by its environment"
)]
fn kills() -> u64 {
    std::env::var("COMBER_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(200)
}

/// How often each host ran the start command of each version: the product writes it down itself.
fn starts(lab: &Lab, hosts: usize) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for number in 1..=hosts {
        let name = format!("h{number}");
        let text = std::fs::read_to_string(lab.host(&name).join("root/starts")).unwrap_or_default();
        for version in text.lines() {
            *counts
                .entry((name.clone(), version.to_owned()))
                .or_default() += 1;
        }
    }
    counts
}

#[test]
fn the_controller_is_killed_at_random_instants_and_loses_nothing() {
    const HOSTS: usize = 20;
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", HOSTS, &[]).unwrap();
    let mut acknowledged = BTreeSet::new();
    let (mut killed, mut round) = (0, 0);
    while killed < kills() {
        round += 1;
        let version = round.to_string();
        let mut product = Product::good(&version);
        product.start = format!("echo {version} >> ../../../starts; sleep 0.2");
        lab.publish(&product).unwrap();
        acknowledged.insert(format!("app@{version}"));
        let spec = format!(
            "release = \"app@{version}\"\nselector = \"true\"\n[pace]\nmax_in_flight = 5\n[budget]\nsilent = {{ after = \"1h\" }}\n[[wave]]\nhosts = 4\n[[wave]]\nhosts = \"rest\"\n"
        );
        let id = lab.roll_out(&spec).unwrap();
        let mut succeeded = 0;
        // While the rollout goes on, the controller dies again and again.
        loop {
            std::thread::sleep(Duration::from_millis(chance(400)));
            lab.kill_controller();
            killed += 1;
            lab.start_controller().unwrap();
            let status = lab
                .wait_for(&id, LONG, |status| outcomes(status).is_ok())
                .unwrap();
            let now = outcomes(&status).unwrap()["succeeded"];
            assert!(
                now >= succeeded,
                "an outcome was lost: {succeeded} then {now}"
            );
            succeeded = now;
            if status["state"] == "completed" || killed >= kills() {
                break;
            }
        }
        let status = lab.wait_for(&id, LONG, is("completed")).unwrap();
        assert_eq!(
            outcomes(&status).unwrap()["succeeded"],
            HOSTS as u64,
            "{status:#}"
        );
    }
    let releases = lab.comber().json(&["release", "list"]).unwrap();
    let there: BTreeSet<String> = releases["releases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|release| release["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(there, acknowledged, "an acknowledged release was lost");
    for ((host, version), count) in starts(&lab, HOSTS) {
        assert_eq!(count, 1, "{host} started version {version} {count} times");
    }
    println!("{killed} kills over {round} rollouts");
}

/// The states in which an agent is killed, and what keeps it there long enough.
#[test]
fn an_agent_killed_in_any_state_ends_on_one_side_and_says_which() {
    let stations = [
        "fetching",
        "staged",
        "awaiting_permit",
        "activating",
        "verifying",
        "rolling_back",
        "rebooting",
    ];
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    lab.publish(&Product::good("0")).unwrap();
    let first = lab.roll_out(&all_at_once("0")).unwrap();
    lab.wait_for(&first, LONG, is("completed")).unwrap();
    let mut seen = BTreeSet::new();
    for (number, state) in stations.iter().enumerate() {
        for good in [true, false] {
            let before = lab.running("h1").unwrap();
            let version = format!("{}.{}", number + 1, u8::from(good));
            let mut product = if good {
                Product::good(&version)
            } else {
                Product::bad(&version)
            };
            product.start = "sleep 0.3".to_owned();
            product.check.insert_str(0, "sleep 0.3; ");
            if product.check.ends_with("; ") {
                product.check.push_str("true");
            }
            product.tail = "[[check]]\nname = \"before\"\nwhen = \"before\"\nexec = { command = [\"/bin/sleep\", \"0.3\"] }\n".to_owned();
            if *state == "rebooting" {
                product.head = "reboot = \"required\"".to_owned();
            }
            lab.publish(&product).unwrap();
            let id = lab.roll_out(&all_at_once(&version)).unwrap();
            let caught = wait::until(Duration::from_secs(15), || {
                let now = lab.agent_status("h1").ok()?["state"].as_str()?.to_owned();
                (now == *state).then_some(())
            });
            lab.kill_agent("h1");
            if caught.is_some() {
                seen.insert(*state);
            }
            lab.start_agent("h1").unwrap();
            let ended = |status: &serde_json::Value| {
                let outcomes = &status["outcomes"];
                outcomes["succeeded"] == 1 || outcomes["failed"] == 1
            };
            let status = lab.wait_for(&id, LONG, ended).unwrap();
            let runs = lab.running("h1").unwrap();
            let told = if status["outcomes"]["succeeded"] == 1 {
                &version
            } else {
                &before
            };
            assert_eq!(
                &runs, told,
                "killed while {state}: what it says is not what it runs"
            );
            if good {
                assert_eq!(
                    runs, version,
                    "killed while {state}: a good release must come through"
                );
            } else {
                assert_eq!(
                    runs, before,
                    "killed while {state}: a bad release must not stay"
                );
            }
            lab.comber()
                .ok(&["rollout", "abort", &id, "--yes"])
                .unwrap();
        }
    }
    println!("killed while {seen:?}");
    assert!(seen.len() >= 4, "too few states were met: {seen:?}");
}

#[test]
fn a_host_finishes_alone_while_the_controller_is_away() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    let mut product = Product::good("1");
    product.start = "sleep 1".to_owned();
    lab.publish(&product).unwrap();
    let id = lab.roll_out(&all_at_once("1")).unwrap();
    let activating = wait::until(LONG, || {
        (lab.agent_status("h1").ok()?["state"] == "activating").then_some(())
    });
    assert!(activating.is_some());
    lab.kill_controller();
    let committed = wait::until(LONG, || {
        (lab.agent_status("h1").ok()?["state"] == "committed").then_some(())
    });
    assert!(committed.is_some(), "it does not finish alone");
    assert_eq!(lab.running("h1").as_deref(), Some("1"));
    lab.start_controller().unwrap();
    lab.wait_for(&id, LONG, has(&[("succeeded", 1)])).unwrap();
}

#[test]
fn the_controller_stops_and_starts_in_good_order() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 2, &[]).unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let id = lab.roll_out(&all_at_once("1")).unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    lab.stop_controller().unwrap();
    lab.start_controller().unwrap();
    assert_eq!(lab.status(&id).unwrap()["state"], "completed");
}
