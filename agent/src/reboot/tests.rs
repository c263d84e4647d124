//! Guards that hold, let pass, or do not say; and the request, as systemd 252 takes it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::systemd::Use;
use crate::testing::TestHost;

/// As busctl of systemd 252 printed it.
const LOCKED: &str =
    r#"{"type":"a(ssssuu)","data":[[["shutdown","a backup","copies the disk","block",0,37]]]}"#;
const NOT_LOCKED: &str = r#"{"type":"a(ssssuu)","data":[[["sleep:handle-lid-switch","power","acts on its own","block",0,41],["shutdown","Unattended Upgrades","stops in order","delay",0,42]]]}"#;
const LOGGED_IN: &str = r#"{"type":"a(susso)","data":[[["c1",1000,"ada","","/org/freedesktop/login1/session/c1"],["7",0,"root","","/org/freedesktop/login1/session/_37"]]]}"#;
const PERSON: &str = "{\"type\":\"s\",\"data\":\"user\"}\n{\"type\":\"s\",\"data\":\"active\"}";

fn here(dir: &Path, command: &[&str], systemd: Systemd) -> Reboot {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    Reboot::new(command, dir.join("boot_id"), systemd)
}

fn none(dir: &Path) -> Systemd {
    Systemd::new(Exec::new(dir), Variables::new(), Use::No)
}

struct World {
    host: TestHost,
    reboot: Reboot,
    exec: Exec,
}

impl World {
    fn new() -> Self {
        let host = TestHost::new();
        let reboot = here(host.dir(), &[], host.systemd());
        let exec = Exec::new(host.state());
        Self { host, reboot, exec }
    }

    async fn may(&self) -> Result<(), String> {
        let may = self.reboot.may(&self.exec, "webapp@2").await;
        may.map_err(|error| comber_runtime::telemetry::error_chain(&error))
    }

    fn client(&self, name: &str, body: &str) {
        let path = self.host.dir().join("systemd").join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_missing_or_empty_boot_id_is_no_new_boot() {
    let dir = tempfile::tempdir().unwrap();
    let reboot = here(dir.path(), &["true"], none(dir.path()));
    assert!(matches!(reboot.boot_id(), Err(BootIdError::File(_))));
    fs::write(&reboot.boot_id_file, " \n").unwrap();
    assert!(matches!(reboot.boot_id(), Err(BootIdError::Empty { .. })));
    fs::write(&reboot.boot_id_file, "56e6-8a2a\n").unwrap();
    assert_eq!(reboot.boot_id().unwrap(), "56e6-8a2a");
}

#[test]
fn the_kernel_has_a_boot_id() {
    let file = "/proc/sys/kernel/random/boot_id".into();
    let reboot = Reboot::new(Vec::new(), file, none(Path::new("/")));
    assert_eq!(reboot.boot_id().unwrap().len(), 36);
}

#[tokio::test]
async fn a_refused_command_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let exec = Exec::new(dir.path());
    let script = "echo 'blocked by backup'; exit 1";
    let refusing = here(dir.path(), &["sh", "-c", script], none(dir.path()));
    let error = refusing.ask(&exec, "webapp@2").await.unwrap_err();
    let told = comber_runtime::telemetry::error_chain(&error);
    assert!(told.ends_with("blocked by backup"), "{told}");
    let mark = dir.path().join("asked");
    let touching = here(
        dir.path(),
        &["touch", mark.to_str().unwrap()],
        none(dir.path()),
    );
    touching.ask(&exec, "webapp@2").await.unwrap();
    assert!(mark.exists());
}

#[tokio::test]
async fn a_host_with_neither_logind_nor_a_command_says_what_to_set() {
    let dir = tempfile::tempdir().unwrap();
    let exec = Exec::new(dir.path());
    let reboot = here(dir.path(), &[], none(dir.path()));
    reboot.may(&exec, "webapp@2").await.unwrap();
    let error = reboot.ask(&exec, "webapp@2").await.unwrap_err().to_string();
    assert!(error.contains("set [reboot] command"), "{error}");
}

#[tokio::test]
async fn logind_is_asked_so_that_it_looks_at_inhibitors_itself() {
    let world = World::new();
    world.may().await.unwrap();
    world.reboot.ask(&world.exec, "webapp@2").await.unwrap();
    let asked = [
        "logind SetWallMessage sb Comber installs webapp@2 and needs a reboot. true",
        "logind RebootWithFlags t 1",
    ];
    assert_eq!(world.host.log(), asked);
}

#[tokio::test]
async fn a_logind_that_knows_no_flags_is_asked_without_them() {
    let mut world = World::new();
    let log = world.host.dir().join("log").display().to_string();
    let old = format!(
        "case \"$*\" in *WithFlags*) echo 'Call failed: Unknown method RebootWithFlags or interface x.' >&2; exit 1;; esac; \
         shift 6; echo \"$*\" >>{log}"
    );
    world.client("busctl", &old);
    world.reboot.ask(&world.exec, "webapp@2").await.unwrap();
    assert_eq!(world.host.log()[1], "Reboot b false");
    // A flag that is not known is another refusal; it is only ever given where inhibitors do not count.
    let refused = "case \"$*\" in *WithFlags*) echo 'Call failed: Invalid flags parameter' >&2; exit 1;; esac";
    world.client("busctl", refused);
    world.reboot.ask(&world.exec, "webapp@2").await.unwrap_err();
    world.reboot.policy.inhibitors = Heed::Ignore;
    world.reboot.ask(&world.exec, "webapp@2").await.unwrap();
}

#[tokio::test]
async fn an_inhibitor_holds_the_reboot_up_and_is_named() {
    let mut world = World::new();
    world.host.answers("inhibitors", LOCKED);
    let told = world.may().await.unwrap_err();
    let expected = "an inhibitor holds it up: a backup (process 37): copies the disk";
    assert_eq!(told, expected);
    world.host.answers("inhibitors", NOT_LOCKED);
    world.may().await.unwrap();
    world.host.answers("inhibitors", LOCKED);
    world.reboot.policy.inhibitors = Heed::Ignore;
    world.may().await.unwrap();
}

#[tokio::test]
async fn a_guard_that_cannot_be_read_blocks_and_says_so() {
    let world = World::new();
    let refused = "echo 'Call failed: Connection refused' >&2; exit 1";
    for (answer, said) in [
        (refused, "Connection refused"),
        (
            "echo '{\"type\":\"a(ssssuu)\",\"data\":[[[1]]]}'",
            "invalid type",
        ),
        (
            "echo '{\"type\":\"a(ssssuu)\",\"data\":[]}'",
            "not exactly one value",
        ),
        ("echo not json", "expected"),
        ("head -c 300000 /dev/zero", "more than 262144 bytes"),
        ("exit 0", "0 lines"),
    ] {
        world.client("busctl", answer);
        let told = world.may().await.unwrap_err();
        assert!(
            told.starts_with("cannot tell whether inhibitors hold"),
            "{told}"
        );
        assert!(told.contains(said), "{told}");
    }
}

#[tokio::test]
async fn people_who_are_logged_in_hold_it_up_where_that_is_wanted() {
    let mut world = World::new();
    world.host.answers("sessions", LOGGED_IN);
    world.host.answers("c1", PERSON);
    world
        .host
        .answers("_37", &PERSON.replace("user", "background"));
    world.may().await.unwrap();
    world.reboot.policy.sessions = Heed::Respect;
    let told = world.may().await.unwrap_err();
    assert_eq!(told, "somebody is logged in: ada (session c1)");
    for nobody in ["manager", "greeter", "lock-screen", "background"] {
        world.host.answers("c1", &PERSON.replace("user", nobody));
        world.may().await.unwrap();
    }
    world
        .host
        .answers("c1", &PERSON.replace("active", "closing"));
    world.may().await.unwrap();
    world
        .host
        .answers("c1", "{\"type\":\"s\",\"data\":\"user\"}");
    let told = world.may().await.unwrap_err();
    assert!(
        told.starts_with("cannot tell whether sessions hold"),
        "{told}"
    );
}

#[tokio::test]
async fn a_session_that_ends_meanwhile_holds_nothing_up() {
    let mut world = World::new();
    world.reboot.policy.sessions = Heed::Respect;
    let dir = world.host.dir().join("systemd").display().to_string();
    let empty = r#"{"type":"a(susso)","data":[[]]}"#;
    world.client(
        "busctl",
        &format!(
            "case \"$*\" in *ListInhibitors*) echo '{{\"type\":\"x\",\"data\":[[]]}}';; \
             *ListSessions*) if mkdir {dir}/asked 2>/dev/null; then echo '{LOGGED_IN}'; else echo '{empty}'; fi;; \
             *) echo 'Failed to get property: Unknown object' >&2; exit 1;; esac"
        ),
    );
    world.may().await.unwrap();
}

#[tokio::test]
async fn hostile_names_of_sessions_never_become_arguments() {
    let mut world = World::new();
    world.reboot.policy.sessions = Heed::Respect;
    for path in [
        "--help",
        "/org/freedesktop/login1/session/",
        "/org/freedesktop/login1/session/a/../../x",
        "/org/freedesktop/login1/session/a b",
        "/etc/passwd",
    ] {
        let listed = format!(r#"{{"type":"a(susso)","data":[[["c1",1,"ada","","{path}"]]]}}"#);
        world.host.answers("sessions", &listed);
        let told = world.may().await.unwrap_err();
        assert!(told.contains("is not the path of a session"), "{told}");
    }
}

#[tokio::test]
async fn what_others_wrote_is_told_short_and_clean() {
    let world = World::new();
    let who = format!("\\u001b[31m{}", "x".repeat(500));
    let lock = format!(r#"["shutdown:sleep","{who}","w\ny","block-weak",0,1]"#);
    let locks = vec![lock; 5].join(",");
    world.host.answers(
        "inhibitors",
        &format!(r#"{{"type":"x","data":[[{locks}]]}}"#),
    );
    let told = world.may().await.unwrap_err();
    assert!(
        told.len() < 400 && !told.contains(char::is_control),
        "{told}"
    );
    assert!(told.ends_with("and 2 more"), "{told}");
}

#[tokio::test]
async fn people_are_told_and_given_time_and_the_guards_are_looked_at_again() {
    let mut world = World::new();
    world.reboot.policy.grace = Duration::from_millis(300);
    world.reboot.policy.message = "Maintenance of ${HOST}!".to_owned();
    world.may().await.unwrap();
    assert!(world.host.log().is_empty(), "nobody is there to be told");
    world.host.answers("sessions", LOGGED_IN);
    world.host.answers("c1", PERSON);
    world
        .host
        .answers("_37", &PERSON.replace("user", "background"));
    let looking = world.may();
    let meanwhile = async {
        while world.host.log().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.host.answers("inhibitors", LOCKED);
        std::future::pending::<()>().await;
    };
    let may = tokio::select! {
        may = looking => may,
        () = meanwhile => unreachable!("it never ends"),
    };
    assert!(may.unwrap_err().contains("a backup"));
    let told = "wall Maintenance of $ {HOST}! This host reboots in 300ms.";
    assert_eq!(world.host.log(), [told]);
}

#[tokio::test]
async fn who_cannot_be_told_does_not_hold_the_reboot_up() {
    let mut world = World::new();
    world.reboot.policy.grace = Duration::from_millis(10);
    world.host.answers("sessions", "not json");
    world.client("wall", "exit 1");
    world.may().await.unwrap();
}
