//! With clients that say what real ones said, and what none would say.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

/// A directory of programs, searched before all others.
fn clients(programs: &[(&str, &str)]) -> (TempDir, Systemd) {
    let dir = tempfile::tempdir().unwrap();
    for (name, body) in programs {
        let path = dir.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let variables = Variables::from([("PATH".to_owned(), path)]);
    let systemd = Systemd::new(Exec::new(dir.path()), variables, Use::Yes);
    (dir, systemd)
}

/// As systemd 252 printed it.
const LISTED: &str = "\
bad.service          loaded failed failed A unit that fails
getty@tty1.service   loaded failed failed Getty on tty1
mnt-a\\x2db.mount    loaded failed failed /mnt/a-b
";

#[test]
fn failed_units_are_read_as_systemd_prints_them() {
    let units = failed_units(LISTED).unwrap();
    let expected = ["bad.service", "getty@tty1.service", "mnt-a\\x2db.mount"];
    assert!(units.iter().eq(expected), "{units:?}");
    assert_eq!(failed_units("\n").unwrap(), BTreeSet::new());
    let marked = failed_units("● bad.service loaded failed failed x\n").unwrap();
    assert!(marked.contains("bad.service"), "{marked:?}");
}

#[test]
fn a_list_that_names_no_units_is_refused_whole() {
    let long = format!("{}.service", "a".repeat(300));
    for text in [
        "bad.service loaded\n\u{1b}[31mx.service\n",
        "Failed to list units: Connection refused",
        "../../etc/passwd",
        ".service",
        "service.",
        &long,
    ] {
        assert!(failed_units(text).is_err(), "{text:?}");
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_had_is_no_empty_list() {
    let (_dir, systemd) = clients(&[(
        "systemctl",
        "echo 'Failed to connect to bus: No such file or directory' >&2; exit 1",
    )]);
    let error = systemd.failed_units().await.unwrap_err().to_string();
    assert!(error.contains("Failed to connect to bus"), "{error}");
    let (_dir, systemd) = clients(&[(
        "systemctl",
        "yes 'a.service loaded failed' | head -c 300000",
    )]);
    let error = systemd.failed_units().await.unwrap_err().to_string();
    assert!(error.contains("more than 262144 bytes"), "{error}");
}

#[tokio::test]
async fn one_that_is_away_for_a_moment_is_asked_again() {
    let (dir, systemd) = clients(&[(
        "systemctl",
        "if mkdir ${0%/*}/once 2>/dev/null; then exit 1; fi; echo bad.service loaded failed failed x",
    )]);
    let units = systemd.failed_units().await.unwrap();
    assert!(units.contains("bad.service") && dir.path().join("once").exists());
}

#[tokio::test]
async fn the_state_is_the_word_and_not_the_exit_status() {
    let said = async |word: &str| {
        let (_dir, systemd) = clients(&[("systemctl", &format!("echo {word}; exit 1"))]);
        systemd.state().await
    };
    assert_eq!(said("running").await.unwrap(), SystemState::Running);
    assert_eq!(said("degraded").await.unwrap(), SystemState::Degraded);
    let starting = SystemState::Starting("starting".to_owned());
    assert_eq!(said("starting").await.unwrap(), starting);
    let other = SystemState::Other("maintenance".to_owned());
    assert_eq!(said("maintenance").await.unwrap(), other);
    for nothing in ["offline", "unknown", "''", "running running"] {
        assert!(said(nothing).await.is_err(), "{nothing}");
    }
}

#[tokio::test]
async fn answers_of_the_bus_are_read_and_what_is_none_is_refused() {
    let answer = async |line: &str| {
        let (_dir, systemd) = clients(&[("busctl", &format!("printf '%s\\n' '{line}'"))]);
        systemd.call("a call", &["s", "o", "i", "m"]).await
    };
    let values = answer(r#"{"type":"s","data":["yes"]}"#).await.unwrap();
    assert_eq!(values, [Value::from("yes")]);
    for nonsense in [
        "",
        "s \"yes\"",
        r#"{"type":"s"}"#,
        r#"{"type":"s","data":"yes"}"#,
        r#"{"type":"s","data":["yes"]"#,
        "{\"type\":\"s\",\"data\":[]}\n{\"type\":\"s\",\"data\":[]}",
    ] {
        assert!(answer(nonsense).await.is_err(), "{nonsense:?}");
    }
}

#[tokio::test]
async fn a_call_is_made_as_busctl_wants_it_and_its_refusal_is_told() {
    let (dir, systemd) = clients(&[(
        "busctl",
        "echo \"$@\" >${0%/*}/asked; echo 'Call failed: Access denied' >&2; exit 1",
    )]);
    let error = systemd
        .call_for_nothing(
            "Reboot",
            &["dest", "/path", "iface", "Reboot", "b", "false"],
        )
        .await
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("Call failed: Access denied"), "{error}");
    let asked = fs::read_to_string(dir.path().join("asked")).unwrap();
    assert_eq!(
        asked,
        "--system --json=short call dest /path iface Reboot b false\n"
    );
}

#[test]
fn it_is_there_where_it_is_the_init() {
    let exec = Exec::new("/tmp");
    let there = |wanted| Systemd::new(exec.clone(), Variables::new(), wanted).is_there();
    assert!(there(Use::Yes) && !there(Use::No));
    assert_eq!(there(Use::Auto), Path::new(BOOTED).is_dir());
}
