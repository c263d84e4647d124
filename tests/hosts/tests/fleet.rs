//! The fleet itself: what the other tests rely on is so.

use std::fs;

use comber_hosts::{Fleet, HostLab};

#[test]
#[ignore = "needs root and real hosts"]
fn a_host_loses_what_was_not_synced_and_gets_a_new_boot_id() {
    let fleet = Fleet::up(2).unwrap();
    let (one, two) = (fleet.host(1), fleet.host(2));
    let first = one.boot_id().unwrap();
    assert_ne!(first, two.boot_id().unwrap());
    one.write("/root/kept", b"synced").unwrap();
    one.exec(&["sync"]).unwrap();
    one.write("/root/lost", b"not synced").unwrap();
    one.powercut().unwrap();
    assert!(one.leader().is_none());
    one.start().unwrap();
    assert_ne!(first, one.boot_id().unwrap());
    assert_eq!(one.pull("/root/kept").unwrap(), b"synced");
    assert!(one.pull("/root/lost").is_err());

    let second = one.boot_id().unwrap();
    one.reboot().unwrap();
    assert_ne!(second, one.boot_id().unwrap());

    let address = one.address().unwrap();
    let ping = ["ping", "-c1", "-W1", &address];
    two.exec(&ping).unwrap();
    one.cut().unwrap();
    assert_ne!(two.run(&ping).unwrap().code, 0);
    one.heal().unwrap();
    two.exec(&ping).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn agents_connect_by_their_unit_and_again_after_a_reboot() {
    let lab = HostLab::new(3).unwrap();
    lab.host(2).reboot().unwrap();
    lab.host(3).powercut().unwrap();
    lab.wait_connected(2).unwrap();
    lab.host(3).start().unwrap();
    lab.wait_connected(3).unwrap();
    let agent = lab.host(1).agent().unwrap();
    lab.host(1).kill_agent().unwrap();
    comber_test_support::wait::until(comber_hosts::LONG, || {
        lab.host(1).agent().filter(|new| *new != agent)
    })
    .unwrap();
    lab.wait_connected(3).unwrap();
}

#[test]
#[ignore = "needs root and real hosts"]
fn what_a_killed_process_left_is_taken_down_and_no_other_fleet() {
    let lives = Fleet::up(1).unwrap();
    let boot = lives.host(1).boot_id().unwrap();
    let left = lives.directory().with_file_name("comber-left");
    fs::create_dir_all(&left).unwrap();
    // Nobody holds it locked.
    fs::write(left.join("owner"), "").unwrap();
    let other = Fleet::up(1).unwrap();
    assert!(!left.exists());
    assert_eq!(lives.host(1).boot_id().unwrap(), boot);
    drop(other);
    assert_eq!(lives.host(1).boot_id().unwrap(), boot);
    lives.host(1).exec(&["true"]).unwrap();
}
