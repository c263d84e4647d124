//! The cable is pulled while a host fetches, activates and reboots: it finishes alone, and reports when it is back.

use std::time::Duration;

use comber_e2e::{assert_outcomes, has, is};
use comber_hosts::{
    Behaviour, Host, HostLab, LONG, Made, Packages, STATE_DIR, Service, Vendor as _, Wish,
};
use comber_model::AgentState;
use comber_test_support::{Product, wait};

/// One wave, patient with a host that is away.
fn patient(product: &Product) -> String {
    format!(
        "release = \"app@{}\"\nselector = \"true\"\n[budget]\nsilent = {{ after = \"1h\" }}\n[[wave]]\nhosts = \"rest\"\n",
        product.version
    )
}

/// One host with the product's unit.
#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn lab() -> HostLab {
    let lab = HostLab::new(1).unwrap();
    Service::install_unit(lab.host(1)).unwrap();
    lab
}

/// Waits until the ledger shows a state.
#[track_caller]
fn becomes(host: &Host, state: AgentState) {
    let there = wait::until(LONG, || {
        (host.ledger()?.state.kind() == state).then_some(())
    });
    assert!(there.is_some(), "never {state}: {:#?}", host.ledger());
}

/// Bytes that the host has of what it fetches.
fn fetched(host: &Host) -> u64 {
    let staging = host.inside(&format!("{STATE_DIR}/staging"));
    let Some(Ok(files)) = staging.map(std::fs::read_dir) else {
        return 0;
    };
    files
        .flatten()
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum()
}

/// Bytes of artifacts that the controller has sent.
#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn sent(lab: &HostLab) -> u64 {
    let text = lab.lab().scrape().unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("comber_artifact_sent_bytes"));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("not in\n{text}"))
}

/// The controller hears the end, and nothing but that.
#[track_caller]
fn told_after_healing(lab: &HostLab, id: &str) {
    let host = lab.host(1);
    becomes(host, AgentState::Committed);
    assert_eq!(Service::says(host).as_deref(), Some("1"));
    told_then(lab, id);
}

#[track_caller]
#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn told_then(lab: &HostLab, id: &str) {
    let host = lab.host(1);
    assert_outcomes(lab.lab(), id, &[("pending", 1)]);
    host.heal().unwrap();
    lab.lab().wait_for(id, LONG, is("completed")).unwrap();
    assert_outcomes(lab.lab(), id, &[("succeeded", 1)]);
}

#[test]
#[ignore = "needs root and real hosts"]
fn a_fetch_goes_on_where_the_cable_was_cut() {
    const LENGTH: u64 = 12 << 20;
    let lab = lab();
    let host = lab.host(1);
    let mut product = Service::version("1", Behaviour::Good);
    let wish = Wish {
        length: usize::try_from(LENGTH).unwrap(),
        ..Wish::GOOD
    };
    product.files.push(("data".to_owned(), wish.bytes()));
    lab.lab().publish(&product).unwrap();
    host.slow(&["rate=20000"]).unwrap();
    let id = lab.lab().roll_out(&patient(&product)).unwrap();
    wait::until(LONG, || (fetched(host) > LENGTH / 2).then_some(())).unwrap();
    host.cut().unwrap();
    // What was on its way arrives or is lost; then neither side moves any more.
    let rests = wait::until(LONG, || {
        let before = (fetched(host), sent(&lab));
        wait::past(Duration::from_secs(3));
        (before == (fetched(host), sent(&lab))).then_some(before)
    });
    let (has_bytes, were_sent) = rests.unwrap();
    assert!(has_bytes > LENGTH / 2 && has_bytes < LENGTH);
    host.heal().unwrap();
    lab.lab()
        .wait_for(&id, LONG, has(&[("succeeded", 1)]))
        .unwrap();
    let again = sent(&lab) - were_sent;
    let missing = LENGTH - has_bytes;
    // Random bytes do not compress: the carried length is that of the file but for a few kilobytes.
    assert!(
        again.abs_diff(missing) < 64 << 10,
        "{missing} were missing and {again} were sent"
    );
    let data = host.pull("/app/current/data").unwrap();
    Wish::prove(&data).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn an_activation_finishes_without_the_cable() {
    let lab = lab();
    let host = lab.host(1);
    let mut product = Service::version("1", Behaviour::Good);
    product.start = "while [ -e /run/hold ]; do sleep 0.05; done".to_owned();
    host.write("/run/hold", b"").unwrap();
    lab.lab().publish(&product).unwrap();
    let id = lab.lab().roll_out(&patient(&product)).unwrap();
    becomes(host, AgentState::Activating);
    host.cut().unwrap();
    host.exec(&["rm", "/run/hold"]).unwrap();
    told_after_healing(&lab, &id);
}

#[test]
#[ignore = "needs root and real hosts"]
fn a_host_that_reboots_into_no_network_finishes_and_reports_on_return() {
    let lab = lab();
    let host = lab.host(1);
    let before = host.boot_id().unwrap();
    let mut product = Service::version("1", Behaviour::Good);
    product.head.push_str("reboot = \"required\"");
    lab.lab().publish(&product).unwrap();
    let id = lab.lab().roll_out(&patient(&product)).unwrap();
    becomes(host, AgentState::Rebooting);
    // The cut lasts over the boot.
    host.cut().unwrap();
    let booted = wait::until(LONG, || host.boot_id().ok().filter(|boot| *boot != before));
    assert!(booted.is_some());
    host.wait().unwrap();
    told_after_healing(&lab, &id);
}

#[test]
#[ignore = "needs root and real hosts"]
fn a_package_change_goes_on_without_the_cable() {
    let lab = HostLab::new(1).unwrap();
    let (host, vendor) = (lab.host(1), Packages::default());
    vendor.prepare(host).unwrap();
    let roll_out = |made: &Made| {
        let spec = format!(
            "release = \"{}\"\nselector = \"true\"\n[budget]\nsilent = {{ after = \"1h\" }}\n[[wave]]\nhosts = \"rest\"\n",
            made.release
        );
        lab.lab().roll_out(&spec).unwrap()
    };
    let is_there = |made: &Made| {
        let installed = vendor.installed(host).unwrap();
        assert_eq!(installed.as_ref(), Some(&made.version));
        vendor.prove_whole(host).unwrap();
    };

    // In the fetch: it goes on where it was.
    let long = Wish {
        length: 6 << 20,
        ..Wish::GOOD
    };
    let first = vendor.make(&lab, &long).unwrap();
    host.slow(&["rate=20000"]).unwrap();
    let id = roll_out(&first);
    wait::until(LONG, || (fetched(host) > 1 << 20).then_some(())).unwrap();
    host.cut().unwrap();
    host.heal().unwrap();
    host.fast().unwrap();
    lab.lab().wait_for(&id, LONG, is("completed")).unwrap();
    is_there(&first);

    // In the activation, while the manager runs a script.
    host.write("/run/hold", b"").unwrap();
    let second = vendor.make_held(&lab, "/run/hold").unwrap();
    let id = roll_out(&second);
    let runs = wait::until(LONG, || host.read("/run/held").map(drop));
    assert!(runs.is_some(), "{:#?}", host.ledger());
    host.cut().unwrap();
    host.exec(&["rm", "/run/hold"]).unwrap();
    becomes(host, AgentState::Committed);
    is_there(&second);
    told_then(&lab, &id);

    // Over a reboot into no network.
    let before = host.boot_id().unwrap();
    let with_reboot = Wish {
        reboot: true,
        ..Wish::GOOD
    };
    let third = vendor.make(&lab, &with_reboot).unwrap();
    let id = roll_out(&third);
    becomes(host, AgentState::Rebooting);
    host.cut().unwrap();
    let booted = wait::until(LONG, || host.boot_id().ok().filter(|boot| *boot != before));
    assert!(booted.is_some());
    host.wait().unwrap();
    becomes(host, AgentState::Committed);
    is_there(&third);
    told_then(&lab, &id);
}
