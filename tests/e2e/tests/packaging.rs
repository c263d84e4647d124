//! What packages install is true: the configuration files name each setting that there is with its default, and the units
//! are in order and fit the programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use comber_e2e::tools::{packaging, succeeded, tool};
use comber_test_support::Binaries;

/// Settings that have no default, or one that is the machine's own: the file gives an example.
const EXAMPLES: [&str; 6] = [
    "controller",
    "name",
    "variables.PORT",
    "artifacts.dir",
    "fleet_lock.listen",
    "trust.root",
];

/// The sandbox of the controller, as `systemd-analyze security` counts it, in tenths; ten is none at all.
const EXPOSURE: &str = "15";

#[expect(clippy::unwrap_used, reason = "a test that cannot read has failed")]
fn unit(name: &str) -> String {
    let path = packaging().join("usr/lib/systemd/system").join(name);
    fs::read_to_string(path).unwrap()
}

/// What the unit says of a setting, once.
#[track_caller]
fn said(unit: &str, key: &str) -> String {
    let prefix = format!("{key}=");
    let values: Vec<_> = unit
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .collect();
    assert_eq!(values.len(), 1, "{key} is set like this: {values:?}");
    values.concat()
}

/// A setting as `show-config` prints it.
#[derive(Debug, PartialEq)]
struct Shown {
    value: String,
    /// Where it comes from: a file, or its being the default.
    origin: String,
}

#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn ask(program: &Path, file: &Path, question: &str) -> String {
    let output = Command::new(program)
        .arg("--config")
        .arg(file)
        .arg(question)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{} {question}: {error}",
        program.display()
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What `show-config` prints, by key; settings that are not set are absent.
fn shown(program: &Path, file: &Path) -> BTreeMap<String, Shown> {
    let text = ask(program, file, "show-config");
    let set = text.lines().filter_map(|line| line.split_once(" = "));
    set.map(|(key, rest)| {
        let (value, origin) = rest.rsplit_once("  # ").unwrap_or((rest, ""));
        let shown = Shown {
            value: value.to_owned(),
            origin: origin.to_owned(),
        };
        (key.to_owned(), shown)
    })
    .collect()
}

/// The file with every setting in force. A setting's comment has no space after the mark, an explanation's has.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| {
        line.strip_prefix('#')
            .filter(|rest| !rest.starts_with(' '))
            .unwrap_or(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
#[expect(clippy::unwrap_used, reason = "a test that cannot read has failed")]
fn holds(program: &Path, name: &str) {
    let source = packaging().join("etc/comber").join(name);
    let text = fs::read_to_string(source).unwrap();
    let home = tempfile::tempdir().unwrap();
    let place = |name: &str, content: &str| {
        let file: PathBuf = home.path().join(name);
        fs::write(&file, content).unwrap();
        file
    };
    let defaults = shown(program, &place("empty.toml", ""));
    let file = place("whole.toml", &uncommented(&text));
    ask(program, &file, "check-config");
    let written = shown(program, &file);
    let text_of_whole = ask(program, &file, "show-config");
    let unset: Vec<&str> = text_of_whole
        .lines()
        .filter(|line| line.ends_with(" is not set"))
        .collect();
    assert!(unset.is_empty(), "{name} does not name these: {unset:?}");
    for (key, setting) in &written {
        assert!(
            setting.origin.ends_with("whole.toml"),
            "{name} does not name {key}: {setting:?}"
        );
        if !EXAMPLES.contains(&key.as_str()) && !key.starts_with("sources.") {
            let default = defaults.get(key).map(|default| &default.value);
            assert_eq!(
                Some(&setting.value),
                default,
                "{name}: {key} has another default"
            );
        }
    }
    assert_eq!(
        shown(program, &place("installed.toml", &text)),
        defaults,
        "{name} changes something as it is installed"
    );
}

#[test]
fn the_installed_files_name_every_setting_with_its_default() {
    let binaries = Binaries::get().unwrap();
    holds(&binaries.controller, "controller.toml");
    holds(&binaries.agent, "agent.toml");
}

#[test]
fn the_units_fit_the_programs_and_the_service_manager_takes_them() {
    let binaries = Binaries::get().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (name, program, key) in [
        ("comber-controller", &binaries.controller, "data_dir"),
        ("comber-agent", &binaries.agent, "state_dir"),
    ] {
        let unit = unit(&format!("{name}.service"));
        let empty = dir.path().join("empty.toml");
        fs::write(&empty, "").unwrap();
        let state = format!("\"/var/lib/{}\"", said(&unit, "StateDirectory"));
        assert_eq!(shown(program, &empty)[key].value, state, "{name}");
        // What the unit runs is a command line of the program.
        let line = said(&unit, "ExecStart");
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some(&*format!("/usr/bin/{name}")));
        let help = Command::new(program).args(words).arg("--help").output();
        succeeded(&help.unwrap());
        let here = dir.path().join(format!("{name}.service"));
        let started = format!("ExecStart={}", program.display());
        let text = unit.replace(&format!("ExecStart=/usr/bin/{name}"), &started);
        fs::write(&here, text).unwrap();
        let mut verify = Command::new("systemd-analyze");
        let Some(verified) = tool(verify.args(["verify", "--man=no"]).arg(&here)) else {
            continue;
        };
        succeeded(&verified);
        let wrong = String::from_utf8_lossy(&verified.stderr);
        assert!(!wrong.contains(name), "{wrong}");
    }
}

#[test]
fn the_controller_stays_in_its_sandbox() {
    let unit = packaging().join("usr/lib/systemd/system/comber-controller.service");
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager", "--threshold"]);
    if let Some(judged) = tool(analyze.arg(EXPOSURE).arg(unit)) {
        succeeded(&judged);
    }
}

#[test]
fn the_agents_unit_outlasts_a_switch_and_waits_for_its_enrolment() {
    let unit = unit("comber-agent.service");
    // Two minutes for the switch, which the agent itself keeps, and some for the rest.
    assert_eq!(said(&unit, "TimeoutStopSec"), "150s");
    assert_eq!(said(&unit, "KillMode"), "process");
    let state = said(&unit, "StateDirectory");
    for file in [
        format!("/var/lib/{state}/identity.toml"),
        "/etc/comber/enroll.toml".to_owned(),
    ] {
        let condition = format!("\nConditionPathExists=|{file}\n");
        assert!(unit.contains(&condition), "not in the unit: {condition}");
    }
    assert!(said(&unit, "ExecStart").ends_with("--enroll-file /etc/comber/enroll.toml"));
}
