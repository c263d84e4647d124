//! The agent replaces itself on real hosts, as a unit of systemd with the watcher's unit from the package.
//!
//! The versions are scripts that introduce themselves as another version and then become the installed agent, or do what
//! a bad version does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use comber_e2e::{has, is};
use comber_hosts::{
    AGENT_UNIT, Cut, Host, HostLab, LONG, Made, STATE_DIR, Trial, Vendor, Wish, at_every_state,
    at_random_instants_of, run_trials, soak,
};
use comber_test_support::wait;
use serde_json::Value;

/// What the script of a good version does once it has told its version.
const RUN: &str = "exec /usr/bin/comber-agent \"$@\"";
/// The real one, killed some time after each start.
const CRASHES: &str = "me=$$; { sleep 2.5; kill -9 $me; } &\nexec /usr/bin/comber-agent \"$@\"";
const CANNOT_CONNECT: &str = "echo 'controller = \"https://controller:1\"' >/run/other.toml\n\
     exec /usr/bin/comber-agent --config /run/other.toml \"$@\"";

/// About how long an update takes: the new agent must be well for four seconds, and a bad one fails its check for five.
const KINDS: [(Wish, Duration); 2] = [
    (Wish::GOOD, Duration::from_secs(7)),
    (Wish::BAD, Duration::from_secs(9)),
];

/// Publishes a version of the agent; `data` is more of its bytes.
fn publish(lab: &HostLab, version: &str, script: &str, check: &str, data: &[u8]) -> Result<()> {
    let directory = lab.lab().directory().join("agents").join(version);
    let files = directory.join("files");
    fs::create_dir_all(&files)?;
    let program = files.join("comber-agent");
    let text = format!(
        "#!/bin/sh\nif test \"$1\" = --version; then echo comber-agent {version}; exit; fi\n{script}\n"
    );
    fs::write(&program, text)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    fs::write(files.join("data"), data)?;
    let manifest = format!(
        "name = \"comber-agent\"\nversion = \"{version}\"\n[installer]\ntype = \"agent\"\nhealthy_for = \"4s\"\n\
         deadline = \"30s\"\n[timeouts]\nverify = \"5s\"\n[[check]]\nname = \"well\"\ninterval = \"100ms\"\n\
         exec = {{ command = [\"/bin/sh\", \"-c\", {check:?}] }}\n"
    );
    fs::write(directory.join("release.toml"), manifest)?;
    let bundle = PathBuf::from(format!("{}.comber", directory.display()));
    let from = directory.to_str().context("a path")?;
    let to = bundle.to_str().context("a path")?;
    lab.comber().ok(&["release", "build", from, "--out", to])?;
    lab.comber().ok(&["release", "publish", to]).map(drop)
}

fn spec(version: &str) -> String {
    format!(
        "release = \"comber-agent@{version}\"\nselector = \"true\"\n[pace]\nmax_in_flight = \"100%\"\n\
         [budget]\nfailures = {{ max = \"100%\" }}\nsilent = {{ after = \"1h\" }}\n[[wave]]\nhosts = \"rest\"\n"
    )
}

/// The version that the shelf's link leads to.
fn shelved(host: &Host) -> Option<String> {
    let link = host.inside(&format!("{STATE_DIR}/shelves/comber-agent/current"))?;
    let target = fs::read_link(link).ok()?;
    let slot = target.file_name()?.to_str()?.to_owned();
    slot.rsplit_once('-').map(|(version, _)| version.to_owned())
}

/// The version that runs, as its launcher told it; fails where not exactly one agent runs, or an update is open.
fn running(host: &Host) -> Result<Option<String>> {
    let order = format!("{STATE_DIR}/update/order.json");
    let over = wait::until(LONG, || host.read(&order).is_none().then_some(()));
    over.context("the update is open")?;
    let watched = || host.run(&["systemctl", "is-active", "comber-agent-watch.service"]);
    let over = wait::until(LONG, || (watched().ok()?.code != 0).then_some(()));
    over.context("it is watched still")?;
    host.exec(&["systemctl", "is-active", AGENT_UNIT])?;
    let count = host.shell(
        "n=0; for p in /proc/[0-9]*; do [ \"$(readlink $p/exe)\" != /usr/bin/comber-agent ] || n=$((n+1)); done; echo $n",
    )?;
    ensure!(count.trim() == "1", "{count} agents run");
    let pid = host.exec(&[
        "systemctl",
        "show",
        "--property",
        "MainPID",
        "--value",
        AGENT_UNIT,
    ])?;
    let variables = host.read(&format!("/proc/{}/environ", pid.trim()));
    let variables = variables.context("no main process")?;
    let variables = String::from_utf8_lossy(&variables).into_owned();
    let mut variables = variables.split('\0');
    let slot = variables.find_map(|variable| variable.strip_prefix("COMBER_AGENT_SLOT="));
    let version = slot.and_then(|slot| slot.rsplit_once('-'));
    Ok(version.map(|(version, _)| version.to_owned()))
}

#[track_caller]
#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn assert_runs(host: &Host, version: &str) {
    assert_eq!(running(host).unwrap().as_deref(), Some(version));
    assert_eq!(shelved(host).as_deref(), Some(version));
    let failed = host
        .exec(&[
            "systemctl",
            "list-units",
            "--state=failed",
            "--no-legend",
            "--plain",
        ])
        .unwrap();
    assert_eq!(failed.trim(), "");
    // Nothing that the agent runs talks to its service manager in its name.
    let journal = host.journal(AGENT_UNIT).unwrap();
    assert!(
        !journal.contains("reception only permitted for main PID"),
        "{journal}"
    );
}

#[test]
#[ignore = "needs root and real hosts"]
fn good_and_bad_versions_all_end_right() {
    let lab = HostLab::new(1).unwrap();
    let host = lab.host(1);
    publish(&lab, "2.0", RUN, "true", b"").unwrap();
    let id = lab.lab().roll_out(&spec("2.0")).unwrap();
    lab.lab().wait_for(&id, LONG, is("completed")).unwrap();
    assert_runs(host, "2.0");
    let bad = [
        (
            "3.0",
            "exit 3",
            "times by itself, at last with exit status 3",
        ),
        (
            "3.1",
            "while :; do sleep 1; done",
            "it hung and gave no sign of life within 30s",
        ),
        (
            "3.2",
            CANNOT_CONNECT,
            "it could not connect to the controller within 30s",
        ),
        // Whoever sees it first: the watcher, or the agent by its own count of interrupted steps.
        ("3.3", CRASHES, " times by"),
    ];
    for (version, script, reason) in bad {
        publish(&lab, version, script, "true", b"").unwrap();
        let id = lab.lab().roll_out(&spec(version)).unwrap();
        lab.lab()
            .wait_for(&id, LONG, has(&[("failed", 1)]))
            .unwrap();
        assert_runs(host, "2.0");
        let ledger = host.ledger().unwrap();
        let newest = ledger.locally_bad.last().unwrap();
        assert_eq!(
            newest.release.to_string(),
            format!("comber-agent@{version}")
        );
        let told = newest.failure.to_string();
        assert!(told.contains(reason), "{version}: {told}");
    }
    publish(&lab, "4.0", RUN, "true", b"").unwrap();
    let id = lab.lab().roll_out(&spec("4.0")).unwrap();
    lab.lab().wait_for(&id, LONG, is("completed")).unwrap();
    assert_runs(host, "4.0");
}

/// What the files of the update say of it, as they are on the host's disk now.
fn step(host: &Host) -> String {
    let read = |name: &str| -> Option<Value> {
        let bytes = host.read(&format!("{STATE_DIR}/update/{name}.json"))?;
        serde_json::from_slice(&bytes).ok()
    };
    if read("order").is_none() {
        return "none".to_owned();
    }
    if read("decided").is_some_and(|decision| decision["decided"] == "kept") {
        return "kept".to_owned();
    }
    let progress = read("progress").unwrap_or_default();
    progress["phase"]["step"]
        .as_str()
        .unwrap_or("switching")
        .to_owned()
}

#[test]
#[ignore = "needs root and real hosts"]
fn a_power_cut_at_each_step_of_the_watcher_ends_with_one_agent_and_the_truth() {
    let lab = HostLab::new(1).unwrap();
    let host = lab.host(1);
    publish(&lab, "2.0", RUN, "true", b"").unwrap();
    let id = lab.lab().roll_out(&spec("2.0")).unwrap();
    lab.lab().wait_for(&id, LONG, is("completed")).unwrap();
    let cases = [
        (RUN, "switching"),
        (RUN, "watching"),
        (RUN, "kept"),
        ("exit 3", "watching"),
        ("exit 3", "restoring"),
        ("exit 3", "restored"),
    ];
    for (number, (script, wanted)) in cases.into_iter().enumerate() {
        let version = format!("2.{}", number + 1);
        let before = shelved(host).unwrap();
        publish(&lab, &version, script, "true", b"").unwrap();
        let id = lab.lab().roll_out(&spec(&version)).unwrap();
        let over = || {
            lab.lab()
                .status(&id)
                .is_ok_and(|status| status["state"] == "completed")
        };
        // A step that is over too soon to be seen is cut somewhere behind it.
        let reached = wait::until(LONG, || (step(host) == wanted || over()).then_some(()));
        assert!(reached.is_some(), "{version} {wanted}: never there");
        host.powercut().unwrap();
        host.start().unwrap();
        let good = script == RUN;
        let outcome = if good { "succeeded" } else { "failed" };
        let ended = lab
            .lab()
            .wait_for(&id, LONG, |status| status["outcomes"][outcome] == 1);
        assert!(ended.is_ok(), "{version} {wanted}: {ended:?}");
        assert_runs(host, if good { &version } else { &before });
    }
}

/// Versions of the agent, for trials.
#[derive(Debug, Default)]
struct Agents {
    number: AtomicU32,
}

impl Vendor for Agents {
    fn prepare(&self, _host: &Host) -> Result<()> {
        Ok(())
    }

    fn make(&self, lab: &HostLab, wish: &Wish) -> Result<Made> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let version = format!("1.{number}");
        let check = if wish.good {
            "true"
        } else {
            "echo ill; exit 1"
        };
        publish(lab, &version, RUN, check, &wish.bytes())?;
        Ok(Made {
            release: format!("comber-agent@{version}"),
            version,
        })
    }

    fn installed(&self, host: &Host) -> Result<Option<String>> {
        Ok(shelved(host))
    }

    fn prove_whole(&self, host: &Host) -> Result<()> {
        let (runs, shelved) = (running(host)?, shelved(host));
        ensure!(
            runs == shelved,
            "{runs:?} runs, {shelved:?} is on the shelf"
        );
        if shelved.is_none() {
            return Ok(());
        }
        let data = host.read(&format!("{STATE_DIR}/shelves/comber-agent/current/data"));
        Wish::prove(&data.context("no data")?)
    }
}

/// An agent needs no reboot, and there always is a way back.
fn possible(mut trials: Vec<Trial>) -> Vec<Trial> {
    trials.retain(|trial| !trial.wish.reboot && !trial.wish.irreversible);
    trials
}

#[test]
#[ignore = "needs root and real hosts"]
fn power_is_cut_in_every_state_of_the_machine() {
    let lab = HostLab::new(2).unwrap();
    let trials = possible(at_every_state(Cut::Power, soak(1, 3)));
    run_trials(&lab, &Agents::default(), trials).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn the_agent_is_killed_in_every_state_of_the_machine() {
    let lab = HostLab::new(2).unwrap();
    let trials = possible(at_every_state(Cut::Agent, soak(1, 3)));
    run_trials(&lab, &Agents::default(), trials).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn power_is_cut_at_random_instants() {
    let lab = HostLab::new(2).unwrap();
    let trials = at_random_instants_of(&KINDS, Cut::Power, soak(6, 100));
    run_trials(&lab, &Agents::default(), trials).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn the_agent_is_killed_at_random_instants() {
    let lab = HostLab::new(2).unwrap();
    let trials = at_random_instants_of(&KINDS, Cut::Agent, soak(4, 100));
    run_trials(&lab, &Agents::default(), trials).unwrap();
}
