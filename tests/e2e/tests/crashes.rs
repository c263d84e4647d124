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

/// How long a check or a command may be held; nothing waits for it when all is well.
const HELD: &str = "timeout = \"60s\"\n";

/// A version that stays where it is told to while a file of that name is below the host's root, and takes a moment to
/// fetch.
fn held_product(version: &str, good: bool) -> Product {
    let hold = |name: &str| format!("while test -e ../../../hold-{name}; do sleep 0.05; done");
    let mut product = Product::good(version);
    // The way back starts the version before, so each version has a file of its own.
    product.start = hold(&format!("start-{version}"));
    product.check = format!("{}; {good}", hold("verifying"));
    product.tail = format!(
        "{HELD}[[check]]\nname = \"before\"\nwhen = \"before\"\n{HELD}exec = {{ command = [\"/bin/sh\", \"-c\", {:?}] }}\n",
        hold("staged")
    );
    product
}

/// Bytes that do not compress, so that fetching, proving and unpacking take a while.
#[expect(clippy::unwrap_used, reason = "a test that cannot write has failed")]
fn heavy(lab: &Lab, version: &str) {
    let files = lab.directory().join("products").join(version).join("files");
    std::fs::create_dir_all(&files).unwrap();
    let mut bytes = vec![0; 32 << 20];
    getrandom::fill(&mut bytes).unwrap();
    std::fs::write(files.join("data"), bytes).unwrap();
}

/// Waits until the agent says that it is in a state.
#[track_caller]
fn caught(lab: &Lab, state: &str, good: bool) {
    let there = wait::until(LONG, || {
        (lab.agent_status("h1").ok()?["state"] == state).then_some(())
    });
    assert!(there.is_some(), "never {state}, good: {good}");
}

/// Brings the host into a state with a release and kills its agent there; what held it is gone afterwards.
#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn kill_while(lab: &mut Lab, state: &str, version: &str, good: bool) -> String {
    let before = lab.running("h1").unwrap();
    let held = match state {
        "staged" | "verifying" => Some(state.to_owned()),
        // Held until no permit is given any more.
        "awaiting_permit" => Some("staged".to_owned()),
        "activating" | "committed" | "rolled_back" => Some(format!("start-{version}")),
        "rolling_back" => Some(format!("start-{before}")),
        _ => None,
    };
    let held = held.map(|name| lab.host("h1").join(format!("root/hold-{name}")));
    if let Some(file) = &held {
        std::fs::write(file, "").unwrap();
    }
    let mut product = held_product(version, good);
    if state == "fetching" {
        heavy(lab, version);
    }
    if state == "rebooting" {
        product.head.push_str("reboot = \"required\"");
    }
    lab.publish(&product).unwrap();
    let id = lab.roll_out(&all_at_once(version)).unwrap();
    if state == "awaiting_permit" {
        lab.comber().ok(&["rollout", "pause", &id]).unwrap();
        std::fs::remove_file(held.as_ref().unwrap()).unwrap();
    }
    let ends = matches!(state, "committed" | "rolled_back");
    if ends {
        // The end is not acknowledged by a controller that is away.
        caught(lab, "activating", good);
        lab.kill_controller();
        std::fs::remove_file(held.as_ref().unwrap()).unwrap();
    }
    caught(lab, state, good);
    lab.kill_agent("h1");
    match (state, held) {
        ("awaiting_permit", _) => {
            lab.comber().ok(&["rollout", "resume", &id]).unwrap();
        }
        (_, Some(_)) if ends => lab.start_controller().unwrap(),
        (_, Some(file)) => std::fs::remove_file(file).unwrap(),
        (_, None) => {}
    }
    id
}

#[test]
fn an_agent_killed_in_any_state_ends_on_one_side_and_says_which() {
    let stations = [
        ("fetching", [true, false].as_slice()),
        ("staged", &[true, false]),
        ("awaiting_permit", &[true, false]),
        ("activating", &[true, false]),
        ("rebooting", &[true, false]),
        ("verifying", &[true, false]),
        ("committed", &[true]),
        ("rolling_back", &[false]),
        ("rolled_back", &[false]),
    ];
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    lab.publish(&held_product("0", true)).unwrap();
    let first = lab.roll_out(&all_at_once("0")).unwrap();
    lab.wait_for(&first, LONG, is("completed")).unwrap();
    for (number, (state, kinds)) in stations.into_iter().enumerate() {
        for good in kinds.iter().copied() {
            let before = lab.running("h1").unwrap();
            let version = format!("{}.{}", number + 1, u8::from(good));
            let id = kill_while(&mut lab, state, &version, good);
            lab.start_agent("h1").unwrap();
            let end = wait::until(LONG, || {
                // A reboot ends the agent too.
                lab.revive_agents().ok()?;
                let status = lab.status(&id).ok()?;
                let outcomes = &status["outcomes"];
                let over = outcomes["succeeded"] == 1 || outcomes["failed"] == 1;
                over.then_some(status)
            });
            let end = end.unwrap_or_else(|| panic!("killed while {state}: no end"));
            let told_good = end["outcomes"]["succeeded"] == 1;
            assert_eq!(told_good, good, "killed while {state}: {end:#}");
            let expected = if good { &version } else { &before };
            let runs = lab.running("h1").unwrap();
            assert_eq!(&runs, expected, "killed while {state}, good: {good}");
            lab.comber()
                .ok(&["rollout", "abort", &id, "--yes"])
                .unwrap();
        }
    }
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
