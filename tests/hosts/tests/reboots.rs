//! Releases that need a reboot: hosts really reboot, as many at once as allowed, and go back by another reboot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use comber_e2e::{assert_outcomes, has, is};
use comber_hosts::{Behaviour, Host, HostLab, HostLabOptions, LONG, Service};
use comber_test_support::{Product, wait};

/// Where each try of the product's check writes down the boot that it was made in.
const CHECKED: &str = "/var/lib/app.checked";

/// A version that needs a reboot and whose check leaves a trace.
fn with_reboot(version: &str, behaviour: Behaviour) -> Product {
    let mut product = Service::version(version, behaviour);
    product.head.push_str("reboot = \"required\"");
    let boot = "cat /proc/sys/kernel/random/boot_id";
    product.check = format!("{boot} >>{CHECKED}-{version}; {}", product.check);
    product
}

/// One wave, so many hosts down at once.
fn at_most(product: &Product, hosts: u32) -> String {
    format!(
        "release = \"app@{}\"\nselector = \"true\"\n[pace]\nmax_in_flight = {hosts}\n[budget]\nfailures = {{ max = 0 }}\n[[wave]]\nhosts = \"rest\"\n",
        product.version
    )
}

/// The lab of all tests here: hosts that run version 1.
#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn lab(hosts: usize, options: &HostLabOptions) -> HostLab {
    let lab = HostLab::with(hosts, options).unwrap();
    for host in lab.fleet().hosts() {
        Service::install_unit(host).unwrap();
    }
    let first = Service::version("1", Behaviour::Good);
    lab.lab().publish(&first).unwrap();
    let id = lab.lab().roll_out(&at_most(&first, 9)).unwrap();
    lab.lab().wait_for(&id, LONG, is("completed")).unwrap();
    lab
}

#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn boots(lab: &HostLab) -> Vec<String> {
    let hosts = lab.fleet().hosts().iter();
    hosts.map(|host| host.boot_id().unwrap()).collect()
}

/// How many boots the host's own journal knows.
#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn boots_of(host: &Host) -> usize {
    let list = host
        .exec(&["journalctl", "--list-boots", "--no-pager"])
        .unwrap();
    list.lines()
        .filter(|line| line.trim_start().starts_with(['-', '0']))
        .count()
}

/// Whether a host is off, between two boots, or in an activation.
fn is_down(host: &Host) -> bool {
    host.ledger()
        .is_none_or(|ledger| ledger.state.kind().is_active())
}

#[test]
#[ignore = "needs root and real hosts"]
fn hosts_reboot_one_at_a_time_and_are_checked_after_the_boot() {
    let lab = lab(3, &HostLabOptions::default());
    let before = boots(&lab);
    let product = with_reboot("2", Behaviour::Good);
    lab.lab().publish(&product).unwrap();
    let over = AtomicBool::new(false);
    let most_down = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::SeqCst) {
                wait::past(Duration::from_millis(1));
                let down = lab.fleet().hosts().iter().filter(|host| is_down(host));
                most = most.max(down.count());
            }
            most
        });
        let id = lab.lab().roll_out(&at_most(&product, 1)).unwrap();
        let ended = lab.lab().wait_for(&id, LONG, is("completed"));
        over.store(true, Ordering::SeqCst);
        assert_outcomes(lab.lab(), &id, &[("succeeded", 3)]);
        ended.unwrap();
        watch.join().unwrap()
    });
    assert_eq!(most_down, 1, "hosts were down at once");
    for (host, before) in lab.fleet().hosts().iter().zip(before) {
        let now = host.boot_id().unwrap();
        assert_ne!(now, before, "{} did not reboot", host.name());
        assert_eq!(boots_of(host), 2, "{}", host.name());
        let checked = host.pull(&format!("{CHECKED}-2")).unwrap();
        let checked = String::from_utf8(checked).unwrap();
        assert!(
            checked.lines().all(|boot| boot == now),
            "checked before the boot: {checked}"
        );
        assert_eq!(Service::says(host).as_deref(), Some("2"));
    }
}

#[test]
#[ignore = "needs root and real hosts"]
fn a_service_that_does_not_come_up_after_the_reboot_is_rolled_back_with_a_second_one() {
    let lab = lab(3, &HostLabOptions::default());
    let before = boots(&lab);
    let product = with_reboot("2", Behaviour::DiesAtBoot);
    lab.lab().publish(&product).unwrap();
    let id = lab.lab().roll_out(&at_most(&product, 1)).unwrap();
    let status = lab.lab().wait_for(&id, LONG, is("halted")).unwrap();
    assert_eq!(status["failed_by_class"]["health"], 1, "{status:#}");
    assert_outcomes(lab.lab(), &id, &[("failed", 1), ("pending", 2)]);
    let mut boots: Vec<_> = lab.fleet().hosts().iter().map(boots_of).collect();
    boots.sort_unstable();
    assert_eq!(
        boots,
        [1, 1, 3],
        "one host rebooted there and back, the others never"
    );
    for (host, before) in lab.fleet().hosts().iter().zip(before) {
        host.wait().unwrap();
        assert_eq!(Service::says(host).as_deref(), Some("1"), "{}", host.name());
        assert_eq!(host.boot_id().unwrap() == before, boots_of(host) == 1);
    }
}

#[test]
#[ignore = "needs root and real hosts"]
fn a_reboot_that_never_comes_back_is_silent_then_failed_and_corrected_when_it_does() {
    let options = HostLabOptions {
        agent: "[reboot]\ncommand = [\"systemctl\", \"poweroff\"]\n".to_owned(),
        ..HostLabOptions::default()
    };
    let lab = lab(1, &options);
    let before = boots(&lab);
    let product = with_reboot("2", Behaviour::Good);
    lab.lab().publish(&product).unwrap();
    let spec = format!(
        "release = \"app@{}\"\nselector = \"true\"\n[budget]\nfailures = {{ max = \"100%\" }}\nsilent = {{ after = \"4s\", counts_as = \"pending\" }}\n[pace]\nattempt_deadline = \"25s\"\n[[wave]]\nhosts = \"rest\"\n",
        product.version
    );
    let id = lab.lab().roll_out(&spec).unwrap();
    // It is off and nobody says so.
    let host = lab.host(1);
    wait::until(LONG, || host.leader().is_none().then_some(())).unwrap();
    let why = wait::until(LONG, || {
        let why = lab.comber().json(&["why", "host", host.name()]).ok()?;
        why["rollouts"]
            .to_string()
            .contains("silent")
            .then_some(why)
    });
    assert!(
        why.is_some(),
        "{:#}",
        lab.comber().json(&["why", "host", host.name()]).unwrap()
    );
    assert_outcomes(lab.lab(), &id, &[("pending", 1)]);

    let failed = lab
        .lab()
        .wait_for(&id, LONG, has(&[("failed", 1)]))
        .unwrap();
    assert_eq!(failed["failed_by_class"]["timeout"], 1, "{failed:#}");

    host.start().unwrap();
    lab.lab()
        .wait_for(&id, LONG, has(&[("succeeded", 1)]))
        .unwrap();
    assert_ne!(boots(&lab), before);
    assert_eq!(Service::says(host).as_deref(), Some("2"));
    let events = lab
        .comber()
        .ok(&["events", "--rollout", &id, "--output", "json"])
        .unwrap();
    assert!(events.contains("corrected"), "{events}");
    assert_outcomes(lab.lab(), &id, &[("succeeded", 1)]);
}
