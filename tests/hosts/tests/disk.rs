//! A host whose disk is too small for a release refuses it before anything is changed, and says how much is missing.

use comber_e2e::has;
use comber_hosts::{
    Behaviour, FleetOptions, Host, HostLab, HostLabOptions, LONG, Packages, STATE_DIR, Service,
    Vendor as _, Wish,
};

/// The disk, of which the agent's program of a test build takes some 60 MB and the journal some.
const DISK: &str = "320M";
/// Fits once and not twice.
const LARGE: usize = 150 << 20;

#[test]
#[ignore = "needs root and real hosts"]
fn a_release_that_does_not_fit_twice_is_refused_before_anything_is_changed() {
    let options = HostLabOptions {
        fleet: FleetOptions {
            disk: DISK,
            ..FleetOptions::default()
        },
        ..HostLabOptions::default()
    };
    let lab = HostLab::with(2, &options).unwrap();
    let spec = |release: &str, host: &Host| {
        format!(
            "release = \"{release}\"\nselector = 'host == \"{}\"'\n[budget]\nfailures = {{ max = \"100%\" }}\n[[wave]]\nhosts = \"rest\"\n",
            host.name()
        )
    };
    let succeeds = |release: &str, host: &Host| {
        let id = lab.lab().roll_out(&spec(release, host)).unwrap();
        let end = lab.lab().wait_for(&id, LONG, has(&[("succeeded", 1)]));
        assert!(end.is_ok(), "{release}: {end:?}");
    };
    let is_refused = |release: &str, host: &Host| {
        let id = lab.lab().roll_out(&spec(release, host)).unwrap();
        let end = lab.lab().wait_for(&id, LONG, has(&[("failed", 1)]));
        let why = lab.comber().json(&["rollout", "hosts", &id]).unwrap();
        assert_eq!(end.unwrap()["failed_by_class"]["preflight"], 1, "{why:#}");
        let why = why.to_string();
        assert!(why.contains("needs") && why.contains("are free"), "{why}");
        let left = format!("find {STATE_DIR} -size +1M; ls -A {STATE_DIR}/staging");
        assert_eq!(host.shell(&left).unwrap(), "", "of it is left");
    };

    let host = lab.host(1);
    Service::install_unit(host).unwrap();
    let mut large = Service::version("2", Behaviour::Good);
    // It travels as a few kilobytes, and takes what it says on the disk.
    large.files.push(("zeros".to_owned(), vec![0; LARGE]));
    for product in [&Service::version("1", Behaviour::Good), &large] {
        lab.lab().publish(product).unwrap();
    }
    succeeds("app@1", host);
    is_refused("app@2", host);
    assert_eq!(Service::says(host).as_deref(), Some("1"));
    assert_eq!(Service::installed(host).as_deref(), Some("1"));

    // A package takes what it says of itself.
    let (host, vendor) = (lab.host(2), Packages::default());
    vendor.prepare(host).unwrap();
    let large = vendor.make_large(&lab, LARGE / 1024).unwrap();
    is_refused(&large.release, host);
    assert_eq!(vendor.installed(host).unwrap(), None);
    assert_eq!(host.exec(&["dpkg", "--audit"]).unwrap(), "");
    let small = vendor.make(&lab, &Wish::GOOD).unwrap();
    succeeds(&small.release, host);
    assert_eq!(vendor.installed(host).unwrap(), Some(small.version));
}
