//! Comber's own packages on real hosts: installed, enrolled, rolled out to, removed.

use comber_e2e::{assert_outcomes, is};
use comber_hosts::{
    AGENT_UNIT, Behaviour, Debs, HostLab, HostLabOptions, LONG, STATE_DIR, Service,
};

#[test]
#[ignore = "needs root and real hosts"]
fn hosts_with_the_package_enrol_and_get_a_release_in_three_waves() {
    let debs = Debs::make().unwrap();
    let options = HostLabOptions {
        package: Some(debs.of("comber-agent").unwrap()),
        ..HostLabOptions::default()
    };
    let lab = HostLab::with(5, &options).unwrap();
    for host in lab.fleet().hosts() {
        Service::install_unit(host).unwrap();
    }
    lab.lab()
        .publish(&Service::version("1", Behaviour::Good))
        .unwrap();
    let spec = "release = \"app@1\"\nselector = \"true\"\n[[wave]]\nhosts = 1\n[[wave]]\nhosts = 2\n[[wave]]\nhosts = \"rest\"\n";
    let id = lab.lab().roll_out(spec).unwrap();
    lab.lab().wait_for(&id, LONG, is("completed")).unwrap();
    assert_outcomes(lab.lab(), &id, &[("succeeded", 5)]);

    let host = lab.host(1);
    // Installed again it goes on; removed it leaves its state; purged nothing of it, and all of what it installed.
    let agent = host.agent().unwrap();
    host.exec(&[
        "apt-get",
        "install",
        "-qy",
        "--reinstall",
        "/root/comber-agent.deb",
    ])
    .unwrap();
    lab.wait_connected(5).unwrap();
    assert_ne!(host.agent().unwrap(), agent);
    host.exec(&["apt-get", "remove", "-qy", "comber-agent"])
        .unwrap();
    assert!(host.agent().is_none());
    assert!(host.read("/usr/bin/comber-agent").is_none());
    assert!(host.ledger().is_some());
    host.exec(&["apt-get", "purge", "-qy", "comber-agent"])
        .unwrap();
    assert!(host.inside(STATE_DIR).is_some_and(|state| !state.exists()));
    assert_eq!(Service::says(host).as_deref(), Some("1"));
    let left = host.run(&["systemctl", "cat", AGENT_UNIT]).unwrap();
    assert_ne!(left.code, 0, "{}", left.stdout);
    assert_eq!(host.exec(&["dpkg", "--audit"]).unwrap(), "");
    assert_eq!(
        host.exec(&["systemctl", "is-system-running"])
            .unwrap()
            .trim(),
        "running"
    );
}
