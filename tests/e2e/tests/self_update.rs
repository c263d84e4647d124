//! The agent replaces itself: good and bad versions, and a power cut at every step. However it goes, exactly one agent
//! runs in the end, the right one, and the report says why.
//!
//! The versions are scripts that introduce themselves as another version and then become the agent that was built, or
//! do what a bad version does. No service manager runs here: the watcher starts the agents itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use comber_e2e::{LONG, chance, has};
use comber_test_support::{Lab, wait};
use serde_json::Value;

/// How an agent of some version behaves.
#[derive(Clone, Copy)]
enum Kind {
    Good,
    ExitsAtStart,
    Hangs,
    CannotConnect,
    /// Some time after its start, again and again.
    Crashes,
    FailsItsCheck,
}

impl Kind {
    /// What the script does once it has told its version; `$@` are the agent's arguments.
    fn script(self, agent: &str) -> String {
        let run = format!("exec {agent} \"$@\"");
        match self {
            Self::Good | Self::FailsItsCheck => run,
            Self::ExitsAtStart => "echo this version is broken >&2; exit 3".to_owned(),
            Self::Hangs => "while :; do sleep 1; done".to_owned(),
            Self::CannotConnect => format!(
                "other=$2.other; {{ echo 'controller = \"https://localhost:1\"'; cat $2; }} >$other; shift 2\n\
                 exec {agent} --config $other \"$@\""
            ),
            Self::Crashes => format!("me=$$; {{ sleep 1.2; kill -9 $me; }} &\n{run}"),
        }
    }
}

/// Publishes a version of the agent.
#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn publish(lab: &Lab, version: &str, kind: Kind) {
    let directory = lab.directory().join("agents").join(version);
    let files = directory.join("files");
    fs::create_dir_all(&files).unwrap();
    let agent = lab.binaries().agent.display().to_string();
    let script = format!(
        "#!/bin/sh\nif test \"$1\" = --version; then echo comber-agent {version}; exit; fi\n{}\n",
        kind.script(&agent)
    );
    let program = files.join("comber-agent");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let check = match kind {
        Kind::FailsItsCheck => "echo this one is ill; exit 1",
        _ => "true",
    };
    let manifest = format!(
        "name = \"comber-agent\"\nversion = \"{version}\"\n[installer]\ntype = \"agent\"\nhealthy_for = \"2s\"\n\
         deadline = \"8s\"\n[timeouts]\nverify = \"3s\"\n[[check]]\nname = \"well\"\ninterval = \"100ms\"\n\
         exec = {{ command = [\"/bin/sh\", \"-c\", {check:?}] }}\n"
    );
    fs::write(directory.join("release.toml"), manifest).unwrap();
    let bundle = directory.with_extension("comber");
    let (from, to) = (directory.to_str().unwrap(), bundle.to_str().unwrap());
    let comber = lab.comber();
    comber.ok(&["release", "build", from, "--out", to]).unwrap();
    comber.ok(&["release", "publish", to]).unwrap();
}

fn spec(version: &str) -> String {
    format!(
        "release = \"comber-agent@{version}\"\nselector = \"true\"\n[pace]\nmax_in_flight = \"100%\"\n\
         [budget]\nfailures = {{ max = \"100%\" }}\nsilent = {{ after = \"1h\" }}\n[[wave]]\nhosts = \"rest\"\n"
    )
}

/// One host whose agent is that of the package.
#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn lab() -> Lab {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    lab
}

/// Rolls a version out to a good end.
#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn update_to(lab: &Lab, version: &str) {
    publish(lab, version, Kind::Good);
    let id = lab.roll_out(&spec(version)).unwrap();
    lab.wait_for(&id, LONG, has(&[("succeeded", 1)])).unwrap();
    assert_runs(lab, Some(version));
}

/// The version that the shelf's link leads to.
fn shelved(lab: &Lab) -> Option<String> {
    let link = lab.host("h1").join("state/shelves/comber-agent/current");
    let target = fs::read_link(link).ok()?;
    let slot = target.file_name()?.to_str()?.to_owned();
    slot.rsplit_once('-').map(|(version, _)| version.to_owned())
}

/// The agents of the host, the watcher not among them.
fn agents(lab: &Lab) -> Vec<(u32, String)> {
    let mut found = lab.processes_of("h1");
    found.retain(|(_, line)| !line.contains("watch-update") && line.contains(" run"));
    found
}

/// Exactly one agent runs: of that version, or the package's; nothing is left of an update, and the ledger agrees.
#[track_caller]
#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn assert_runs(lab: &Lab, version: Option<&str>) {
    let order = lab.host("h1").join("state/update/order.json");
    // The order is gone shortly before the launcher becomes the agent on the shelf.
    let over = wait::until(LONG, || match lab.processes_of("h1")[..] {
        [(pid, _)] if !order.exists() => {
            let slot = launched(pid);
            let runs = slot.as_deref().and_then(|slot| slot.rsplit_once('-'));
            (runs.map(|(version, _)| version) == version).then_some(())
        }
        _ => None,
    });
    let found = lab.processes_of("h1");
    let runs: Vec<_> = found.iter().map(|(pid, _)| launched(*pid)).collect();
    assert!(
        over.is_some(),
        "not {version:?}: {runs:?} {} {found:#?}",
        order.exists()
    );
    assert_eq!(agents(lab).len(), 1, "{found:#?}");
    assert_eq!(shelved(lab).as_deref(), version);
    let status = lab.agent_status("h1").unwrap();
    assert_eq!(status["running"], true);
    let installed = status["installed"].as_array().unwrap();
    let installed = installed.first().map(|one| one["release"].clone());
    let expected = version.map(|version| Value::from(format!("comber-agent@{version}")));
    assert_eq!(installed, expected, "{status:#}");
}

/// Which agent a process is, as its launcher told it.
fn launched(pid: u32) -> Option<String> {
    let variables = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let variables = String::from_utf8_lossy(&variables).into_owned();
    let mut variables = variables.split('\0');
    variables.find_map(|variable| Some(variable.strip_prefix("COMBER_AGENT_SLOT=")?.to_owned()))
}

/// Rolls a bad version out over 2.0; gives what `why` says of the host.
#[track_caller]
#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn fails_and_goes_back(kind: Kind) -> String {
    let lab = lab();
    update_to(&lab, "2.0");
    publish(&lab, "3.0", kind);
    let id = lab.roll_out(&spec("3.0")).unwrap();
    lab.wait_for(&id, LONG, has(&[("failed", 1)])).unwrap();
    assert_runs(&lab, Some("2.0"));
    let status = lab.agent_status("h1").unwrap();
    let bad = &status["locally_bad"][0];
    assert_eq!(bad["release"], "comber-agent@3.0", "{status:#}");
    let why = lab.comber().ok(&["why", "host", "h1"]).unwrap();
    // A good one after it is taken as if nothing had been.
    update_to(&lab, "3.1");
    format!("{}\n{why}", bad["failure"])
}

#[test]
fn a_good_version_is_kept_and_rolled_back_to_the_package() {
    let lab = lab();
    update_to(&lab, "2.0");
    update_to(&lab, "2.1");
    // Older, and still newer than the package.
    update_to(&lab, "1.9");
}

#[test]
fn a_version_that_exits_at_start_is_taken_back() {
    let why = fails_and_goes_back(Kind::ExitsAtStart);
    assert!(
        why.contains("it ended 3 times by itself, at last with exit status 3"),
        "{why}"
    );
}

#[test]
fn a_version_that_hangs_is_taken_back() {
    let why = fails_and_goes_back(Kind::Hangs);
    assert!(
        why.contains("it hung and gave no sign of life within 8s"),
        "{why}"
    );
}

#[test]
fn a_version_that_cannot_connect_is_taken_back() {
    let why = fails_and_goes_back(Kind::CannotConnect);
    assert!(
        why.contains("it could not connect to the controller within 8s"),
        "{why}"
    );
}

#[test]
fn a_version_that_crashes_after_a_while_is_taken_back() {
    let why = fails_and_goes_back(Kind::Crashes);
    assert!(
        why.contains("it ended 3 times by itself, at last with signal 9"),
        "{why}"
    );
}

#[test]
fn a_version_whose_check_fails_goes_back_by_itself() {
    let why = fails_and_goes_back(Kind::FailsItsCheck);
    assert!(why.contains("this one is ill"), "{why}");
}

/// What the files of the update say of it.
fn step(lab: &Lab) -> String {
    let update = lab.host("h1").join("state/update");
    let read = |name: &str| -> Option<Value> {
        serde_json::from_slice(&fs::read(update.join(name)).ok()?).ok()
    };
    if read("order.json").is_none() {
        return "none".to_owned();
    }
    if let Some(decision) = read("decided.json")
        && decision["decided"] == "kept"
    {
        return "kept".to_owned();
    }
    let progress = read("progress.json").unwrap_or_default();
    progress["phase"]["step"]
        .as_str()
        .unwrap_or("switching")
        .to_owned()
}

/// Rolls a version out, cuts the power once the update is at that step, boots, and waits for the outcome.
#[track_caller]
#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn power_cut(lab: &mut Lab, version: &str, kind: Kind, at: impl Fn(&Lab) -> bool) {
    let before = shelved(lab);
    publish(lab, version, kind);
    let id = lab.roll_out(&spec(version)).unwrap();
    let reached = wait::until(LONG, || {
        let over = lab.status(&id).ok()?["outcomes"]["pending"] == 0;
        (over || at(lab)).then_some(over)
    });
    assert!(reached.is_some(), "{version}: never there");
    lab.cut_power("h1");
    let boot = format!("boot after {version}\n");
    fs::write(lab.host("h1").join("boot_id"), boot).unwrap();
    lab.start_agent("h1").unwrap();
    let good = matches!(kind, Kind::Good);
    let outcome = if good { "succeeded" } else { "failed" };
    let ended = lab.wait_for(&id, LONG, |status| status["outcomes"][outcome] == 1);
    assert!(ended.is_ok(), "{version}: {ended:?}");
    let expected = if good {
        Some(version.to_owned())
    } else {
        before
    };
    assert_runs(lab, expected.as_deref());
}

#[test]
fn a_power_cut_at_each_step_of_an_update_ends_with_one_agent_and_the_truth() {
    let mut lab = lab();
    update_to(&lab, "2.0");
    let mut number = 1;
    for kind in [Kind::Good, Kind::ExitsAtStart, Kind::Hangs] {
        let steps: &[&str] = match kind {
            Kind::Good => &["switching", "watching", "kept"],
            _ => &["switching", "watching", "restoring", "restored"],
        };
        for wanted in steps {
            number += 1;
            // A step that is over too soon to be seen is cut somewhere behind it.
            power_cut(&mut lab, &format!("2.{number}"), kind, |lab| {
                step(lab) == *wanted
            });
        }
    }
}

#[test]
fn a_power_cut_at_any_instant_of_an_update_ends_with_one_agent_and_the_truth() {
    let mut lab = lab();
    update_to(&lab, "2.0");
    for number in 1..=8 {
        let kind = if number % 2 == 0 {
            Kind::Good
        } else {
            Kind::ExitsAtStart
        };
        let after = Duration::from_millis(chance(4000));
        power_cut(&mut lab, &format!("2.{number}"), kind, |lab| {
            let begun = step(lab) != "none";
            if begun {
                std::thread::sleep(after);
            }
            begun
        });
    }
}

#[test]
fn the_watcher_alone_may_be_killed_and_the_agent_alone() {
    let mut lab = lab();
    update_to(&lab, "2.0");
    publish(&lab, "2.1", Kind::Good);
    let id = lab.roll_out(&spec("2.1")).unwrap();
    let watched = wait::until(LONG, || (step(&lab) == "watching").then_some(()));
    assert!(watched.is_some());
    for (pid, line) in lab.processes_of("h1") {
        if line.contains("watch-update") {
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
    // Nobody watches, so the agent must still prove itself; whoever starts it next sees that a watcher ends it.
    lab.wait_for(&id, LONG, has(&[("succeeded", 1)])).unwrap();
    lab.cut_power("h1");
    lab.start_agent("h1").unwrap();
    assert_runs(&lab, Some("2.1"));
}

#[test]
fn what_is_no_agent_for_this_host_changes_nothing() {
    let lab = lab();
    update_to(&lab, "2.0");
    // Its script says another version than the release.
    publish(&lab, "3.0", Kind::Good);
    let directory = lab.directory().join("agents/3.0");
    let lies = fs::read_to_string(directory.join("release.toml")).unwrap();
    fs::write(
        directory.join("release.toml"),
        lies.replace("\"3.0\"", "\"3.1\""),
    )
    .unwrap();
    let bundle = lab.directory().join("agents/3.1.comber");
    let (from, to) = (directory.to_str().unwrap(), bundle.to_str().unwrap());
    lab.comber()
        .ok(&["release", "build", from, "--out", to])
        .unwrap();
    lab.comber().ok(&["release", "publish", to]).unwrap();
    let id = lab.roll_out(&spec("3.1")).unwrap();
    lab.wait_for(&id, LONG, has(&[("failed", 1)])).unwrap();
    let why = lab.comber().ok(&["why", "host", "h1"]).unwrap();
    assert!(why.contains("preflight"), "{why}");
    // Older than the package's: the launcher would never launch it.
    publish(&lab, "0.0.1", Kind::Good);
    let id = lab.roll_out(&spec("0.0.1")).unwrap();
    lab.wait_for(&id, LONG, has(&[("excluded", 1)])).unwrap();
    assert_runs(&lab, Some("2.0"));
}

#[test]
fn an_agent_that_is_removed_leaves_the_package_s() {
    let lab = lab();
    let id = {
        publish(&lab, "2.0", Kind::Good);
        let id = lab.roll_out(&spec("2.0")).unwrap();
        lab.wait_for(&id, LONG, has(&[("succeeded", 1)])).unwrap();
        assert_runs(&lab, Some("2.0"));
        id
    };
    lab.comber().ok(&["rollout", "rollback", &id]).unwrap();
    let back = wait::until(LONG, || {
        let status = lab.agent_status("h1").ok()?;
        (status["installed"].as_array()?.is_empty() && shelved(&lab).is_none()).then_some(())
    });
    assert!(back.is_some(), "{:?}", shelved(&lab));
    assert_runs(&lab, None);
}

#[test]
fn an_agent_on_the_shelf_that_is_damaged_is_passed_over() {
    let mut lab = lab();
    update_to(&lab, "2.0");
    lab.cut_power("h1");
    let current = lab.host("h1").join("state/shelves/comber-agent/current");
    fs::remove_file(current.join("comber-agent")).unwrap();
    lab.start_agent("h1").unwrap();
    let runs = wait::until(LONG, || {
        (lab.agent_status("h1").ok()?["running"] == true).then_some(())
    });
    assert!(runs.is_some());
    let found = agents(&lab);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(launched(found[0].0), None);
    let log = fs::read_to_string(lab.host("h1").join("agent.log")).unwrap();
    assert!(log.contains("the package's agent runs instead"), "{log}");
}
