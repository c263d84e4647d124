//! Packages: what a host installs is told once, as a difference, and found by selectors.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use comber_e2e::LONG;
use comber_test_support::{AgentOptions, Lab, wait};
use rustix::process::Signal;
use serde_json::Value;

const HOST: &str = "web-1";

/// False where the test cannot run, which it says.
fn has_dpkg() -> bool {
    let found = Path::new("/usr/bin/dpkg-deb").exists() && Path::new("/usr/bin/dpkg").exists();
    if !found {
        eprintln!("skipped: this machine has no dpkg");
    }
    found
}

#[track_caller]
#[expect(clippy::unwrap_used, reason = "a test that cannot run it has failed")]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
}

/// A package of one file.
#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn package(lab: &Lab, name: &str, version: &str) -> PathBuf {
    let dir = lab.directory().join(format!("{name}-{version}"));
    let file = dir.with_extension("deb");
    fs::create_dir_all(dir.join("DEBIAN")).unwrap();
    fs::create_dir_all(dir.join("usr/share").join(name)).unwrap();
    fs::write(dir.join("usr/share").join(name).join("version"), version).unwrap();
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\n\
         Description: a package of a test\n"
    );
    fs::write(dir.join("DEBIAN/control"), control).unwrap();
    run(Command::new("dpkg-deb").arg("--build").args([&dir, &file]));
    file
}

/// Runs dpkg on the root of the host, while its agent looks away: one run is one change.
#[expect(clippy::unwrap_used, reason = "a test that cannot run it has failed")]
fn dpkg(lab: &Lab, arguments: &[&str]) {
    let root = lab.host(HOST).join("root");
    let running = lab.signal_agent(HOST, Signal::STOP).is_ok();
    let mut command = Command::new("dpkg");
    command
        .arg("--root")
        .arg(root)
        .args(["--force-not-root", "--force-bad-path"]);
    run(command.args(arguments));
    if running {
        lab.signal_agent(HOST, Signal::CONT).unwrap();
    }
}

/// A host that is enrolled, looks at itself often, and has an empty database of packages.
#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn enrol(lab: &Lab) {
    let token = lab.token(&[]).unwrap();
    lab.enrol(HOST, &token, &AgentOptions::default()).unwrap();
    let file = lab.host(HOST).join("agent.toml");
    let settings = fs::read_to_string(&file).unwrap();
    let often = settings.replace("[link]\n", "[link]\nfacts_interval = \"100ms\"\n");
    fs::write(&file, often).unwrap();
    let database = lab.host(HOST).join("root/var/lib/dpkg");
    for dir in ["info", "updates", "triggers"] {
        fs::create_dir_all(database.join(dir)).unwrap();
    }
    fs::create_dir_all(lab.host(HOST).join("root/var/log")).unwrap();
    for file in ["status", "available"] {
        fs::write(database.join(file), "").unwrap();
    }
}

fn listed(lab: &Lab) -> Vec<String> {
    let list = lab.comber().json(&["host", "packages", HOST]);
    let list = list.unwrap_or(Value::Null);
    let packages = list["packages"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    packages
        .iter()
        .map(|package| format!("{} {}", text(&package["name"]), text(&package["version"])))
        .collect()
}

#[track_caller]
fn becomes(lab: &Lab, wanted: &[&str]) {
    let there = wait::until(LONG, || (listed(lab) == wanted).then_some(()));
    assert!(there.is_some(), "{:?} is not {wanted:?}", listed(lab));
}

/// How many reports the controller took since it started, of a kind.
fn reports(lab: &Lab, kind: &str) -> u64 {
    let text = lab.scrape().unwrap_or_default();
    let name = format!("comber_package_reports_total{{kind=\"{kind}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value.map_or(0, |value| value.parse().unwrap_or(u64::MAX))
}

fn all_reports(lab: &Lab) -> [u64; 3] {
    ["whole", "difference", "base_unknown"].map(|kind| reports(lab, kind))
}

/// Waits until the host is there again, and then for as long as it takes to look at itself several times.
#[track_caller]
fn settles(lab: &Lab) {
    let up = wait::until(LONG, || {
        let host = lab.comber().json(&["host", "show", HOST]).ok()?;
        (host["connected"] == true).then_some(())
    });
    assert!(up.is_some(), "the host does not come back");
    std::thread::sleep(std::time::Duration::from_secs(1));
}

#[track_caller]
#[expect(clippy::unwrap_used, reason = "a test that cannot run it has failed")]
fn selects(lab: &Lab, selector: &str) -> bool {
    let found = lab
        .comber()
        .json(&["host", "list", "--selector", selector])
        .unwrap();
    found["total"] == 1
}

#[test]
fn an_upgrade_is_one_difference_and_coming_back_sends_nothing() {
    if !has_dpkg() {
        return;
    }
    let mut lab = Lab::new().unwrap();
    enrol(&lab);
    let [a1, a2] = ["1", "2"].map(|version| package(&lab, "fake-a", version));
    let b1 = package(&lab, "libfake++b", "1:0.1-1~x");
    dpkg(&lab, &["--install", &a1.to_string_lossy()]);
    lab.start_agent(HOST).unwrap();
    becomes(&lab, &["fake-a 1"]);
    assert_eq!(all_reports(&lab), [1, 0, 0], "the first list");
    assert!(selects(&lab, r#"facts.packages["fake-a"] == "1""#));
    assert!(!selects(&lab, r#""libfake++b" in facts.packages"#));

    let both = [a2.to_string_lossy(), b1.to_string_lossy()];
    dpkg(&lab, &["--install", &both[0], &both[1]]);
    becomes(&lab, &["fake-a 2", "libfake++b 1:0.1-1~x"]);
    settles(&lab);
    assert_eq!(all_reports(&lab), [1, 1, 0], "an upgrade");
    assert!(!selects(&lab, r#"facts.packages["fake-a"] == "1""#));
    assert!(selects(
        &lab,
        r#""libfake++b" in facts.packages && facts.package_count == 2"#
    ));

    dpkg(&lab, &["--purge", "fake-a"]);
    becomes(&lab, &["libfake++b 1:0.1-1~x"]);
    assert_eq!(all_reports(&lab), [1, 2, 0], "a removal");

    // Neither side forgets what was acknowledged.
    lab.kill_controller();
    lab.start_controller().unwrap();
    settles(&lab);
    assert_eq!(all_reports(&lab), [0, 0, 0], "a new controller process");
    lab.stop_agent(HOST).unwrap();
    lab.start_agent(HOST).unwrap();
    settles(&lab);
    assert_eq!(all_reports(&lab), [0, 0, 0], "a new agent process");
    assert!(selects(&lab, r#"!("fake-a" in facts.packages)"#));
    // It still is a difference.
    dpkg(&lab, &["--install", &a1.to_string_lossy()]);
    becomes(&lab, &["fake-a 1", "libfake++b 1:0.1-1~x"]);
    assert_eq!(all_reports(&lab), [0, 1, 0], "after both were restarted");
}

#[test]
fn a_restored_controller_gets_the_whole_list_again() {
    if !has_dpkg() {
        return;
    }
    let mut lab = Lab::new().unwrap();
    enrol(&lab);
    let [a1, a2] = ["1", "2"].map(|version| package(&lab, "fake-a", version));
    dpkg(&lab, &["--install", &a1.to_string_lossy()]);
    lab.start_agent(HOST).unwrap();
    becomes(&lab, &["fake-a 1"]);
    let backup = lab.directory().join("backup");
    let backup = backup.to_string_lossy().into_owned();
    run(&mut lab.controller_command(&["backup", &backup]));
    dpkg(&lab, &["--install", &a2.to_string_lossy()]);
    becomes(&lab, &["fake-a 2"]);

    lab.kill_controller();
    let data = lab.directory().join("controller");
    fs::rename(&data, lab.directory().join("lost")).unwrap();
    run(&mut lab.controller_command(&["restore", &backup]));
    lab.start_controller().unwrap();
    becomes(&lab, &["fake-a 2"]);
    assert_eq!(all_reports(&lab), [1, 0, 0], "what it held was older");
    // A retired host leaves nothing behind.
    lab.comber().ok(&["host", "retire", HOST, "--yes"]).unwrap();
    assert!(listed(&lab).is_empty());
}
