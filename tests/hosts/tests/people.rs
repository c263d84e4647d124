//! People who are logged in on a host: they hold its reboot up where the host's administrators want that, and are told else.

use comber_e2e::{assert_outcomes, is};
use comber_hosts::{
    Behaviour, FURTHER, FleetOptions, Host, HostLab, HostLabOptions, LONG, Service,
};
use comber_test_support::{Product, wait};

/// What her terminal shows.
const TERMINAL: &str = "/var/log/terminal";

/// Somebody logs in at a terminal, as at a console: by login(1) and its PAM, which tells logind.
#[expect(clippy::unwrap_used, reason = "a test that cannot log in has failed")]
fn log_in(host: &Host) {
    let script = format!(
        "id ada 2>/dev/null >&2 || useradd --create-home --shell /bin/sh ada; \
         systemd-run --quiet --unit=terminal sh -c 'sleep infinity | script --quiet --flush --command \"login -f ada\" {TERMINAL}'"
    );
    host.shell(&script).unwrap();
    let there = wait::until(LONG, || {
        let sessions = host
            .exec(&["loginctl", "list-sessions", "--no-legend"])
            .ok()?;
        sessions.contains(" ada").then_some(())
    });
    assert!(there.is_some(), "no session of ada");
}

#[expect(
    clippy::unwrap_used,
    reason = "a test that cannot configure has failed"
)]
fn configure(host: &Host, reboot: &str) {
    let text = format!("[reboot]\n{reboot}\n");
    host.write("/etc/comber/agent.d/60-reboot.toml", text.as_bytes())
        .unwrap();
    host.exec(&["systemctl", "restart", "comber-agent.service"])
        .unwrap();
}

fn with_reboot(version: &str) -> Product {
    let mut product = Service::version(version, Behaviour::Good);
    product.head.push_str("reboot = \"required\"");
    product
}

fn spec(version: &str) -> String {
    format!("release = \"app@{version}\"\nselector = \"true\"\n[[wave]]\nhosts = \"rest\"\n")
}

#[test]
#[ignore = "needs root and real hosts"]
fn who_is_logged_in_holds_the_reboot_up_or_is_told_of_it() {
    let options = HostLabOptions {
        fleet: FleetOptions {
            more: FURTHER.to_vec(),
            ..FleetOptions::default()
        },
        ..HostLabOptions::default()
    };
    let lab = HostLab::with(1, &options).unwrap();
    let (host, before) = (lab.host(1), lab.host(1).boot_id().unwrap());
    Service::install_unit(host).unwrap();
    configure(host, "sessions = \"respect\"");
    log_in(host);
    lab.lab().publish(&with_reboot("1")).unwrap();
    let id = lab.lab().roll_out(&spec("1")).unwrap();
    let held = wait::until(LONG, || {
        let told = host
            .exec(&["comber-agent", "status", "--output", "json"])
            .ok()?;
        told.contains("somebody is logged in: ada (session ")
            .then_some(())
    });
    assert!(
        held.is_some(),
        "{}",
        host.exec(&["comber-agent", "status"]).unwrap()
    );
    assert_eq!(host.boot_id().unwrap(), before, "it rebooted all the same");
    // She closes her terminal. The host is asked again after a minute, and at once after a start of the agent.
    host.exec(&["systemctl", "stop", "terminal.service"])
        .unwrap();
    let gone = wait::until(LONG, || {
        let sessions = host
            .exec(&["loginctl", "list-sessions", "--no-legend"])
            .ok()?;
        (!sessions.contains(" ada")).then_some(())
    });
    assert!(gone.is_some(), "the session stays");
    host.exec(&["systemctl", "restart", "comber-agent.service"])
        .unwrap();
    lab.lab().wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(lab.lab(), &id, &[("succeeded", 1)]);
    let second = host.boot_id().unwrap();
    assert_ne!(second, before);
    host.wait().unwrap();

    // Where nobody is heeded, she is told and has some time.
    configure(
        host,
        "sessions = \"ignore\"\ngrace = \"1s\"\nmessage = \"Save your work.\"",
    );
    log_in(host);
    lab.lab().publish(&with_reboot("2")).unwrap();
    let id = lab.lab().roll_out(&spec("2")).unwrap();
    lab.lab().wait_for(&id, LONG, is("completed")).unwrap();
    assert_ne!(host.boot_id().unwrap(), second);
    let shown = host.read(TERMINAL).unwrap();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(
        shown.contains("Save your work. This host reboots in 1s."),
        "she saw {shown}"
    );
}
