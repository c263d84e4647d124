//! The `archive` installer with a real unit on real hosts.

use std::collections::BTreeSet;

use comber_e2e::{assert_outcomes, is};
use comber_hosts::{Behaviour, HostLab, LONG, SERVICE_UNIT, Service};
use comber_test_support::Product;

/// Three waves of one host each.
fn in_waves(product: &Product) -> String {
    format!(
        "release = \"app@{}\"\nselector = \"true\"\n[[wave]]\nhosts = 1\n[[wave]]\nhosts = 1\n[[wave]]\nhosts = \"rest\"\n",
        product.version
    )
}

/// What each host's service says that it is.
fn versions(lab: &HostLab) -> Vec<Option<String>> {
    lab.fleet().hosts().iter().map(Service::says).collect()
}

#[test]
#[ignore = "needs root and real hosts"]
fn a_release_goes_over_real_hosts_in_waves_and_a_bad_one_stops_at_the_first() {
    let lab = HostLab::new(3).unwrap();
    for host in lab.fleet().hosts() {
        Service::install_unit(host).unwrap();
    }
    let boots: Vec<_> = lab
        .fleet()
        .hosts()
        .iter()
        .map(|host| host.boot_id().unwrap())
        .collect();

    let good = Service::version("1", Behaviour::Good);
    lab.lab().publish(&good).unwrap();
    let id = lab.lab().roll_out(&in_waves(&good)).unwrap();
    let status = lab.lab().wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(lab.lab(), &id, &[("succeeded", 3)]);
    let opened: Vec<_> = status["waves"]
        .as_array()
        .unwrap()
        .iter()
        .map(|wave| wave["opened_at"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(opened.len(), 3);
    assert!(opened.is_sorted(), "{opened:?}");
    let one = Some("1".to_owned());
    assert_eq!(versions(&lab), [one.clone(), one.clone(), one.clone()]);
    for host in lab.fleet().hosts() {
        host.exec(&["systemctl", "is-active", SERVICE_UNIT])
            .unwrap();
    }

    let bad = Service::version("2", Behaviour::Unhealthy);
    lab.lab().publish(&bad).unwrap();
    let id = lab.lab().roll_out(&in_waves(&bad)).unwrap();
    let status = lab.lab().wait_for(&id, LONG, is("halted")).unwrap();
    assert_eq!(status["failed_by_class"]["health"], 1, "{status:#}");
    assert_outcomes(lab.lab(), &id, &[("failed", 1), ("pending", 2)]);
    // Also the host that had it is back on what it ran, and no host was rebooted for any of this.
    assert_eq!(versions(&lab), [one.clone(), one.clone(), one]);
    let now: Vec<_> = lab
        .fleet()
        .hosts()
        .iter()
        .map(|host| host.boot_id().unwrap())
        .collect();
    assert_eq!(now, boots);
    let touched: BTreeSet<_> = lab
        .fleet()
        .hosts()
        .iter()
        .filter(|host| {
            let ledger = host.ledger().unwrap();
            !ledger.locally_bad.is_empty()
        })
        .map(|host| host.name().to_owned())
        .collect();
    assert_eq!(touched.len(), 1, "{touched:?}");
}
