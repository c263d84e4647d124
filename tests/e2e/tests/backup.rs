//! A backup, taken while the controller works, makes a controller that every host and operator goes on with.

use std::fs;

use comber_e2e::{LONG, all_at_once, assert_outcomes, has, is};
use comber_test_support::{Lab, Product, wait};

const HOSTS: usize = 3;

#[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
fn done(lab: &Lab, version: &str) -> String {
    let id = lab.roll_out(&all_at_once(version)).unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    id
}

/// Runs the controller's own binary to its end, which must be a good one.
#[track_caller]
#[expect(clippy::unwrap_used, reason = "a test that cannot run it has failed")]
fn controller(lab: &Lab, arguments: &[&str]) -> String {
    let output = lab.controller_command(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_restored_controller_goes_on_with_hosts_that_know_more_than_it_does() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", HOSTS, &[]).unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let first = done(&lab, "1");
    let backup = lab.directory().join("backup");
    let backup = backup.to_string_lossy().into_owned();
    let told = controller(&lab, &["backup", &backup]);
    assert!(told.contains("artifacts"), "{told}");

    // What comes after the backup is lost with the disk, but the hosts have seen it.
    lab.publish(&Product::good("2")).unwrap();
    let lost = done(&lab, "2");
    lab.kill_controller();
    let (data, away) = (
        lab.directory().join("controller"),
        lab.directory().join("lost"),
    );
    fs::rename(&data, &away).unwrap();
    controller(&lab, &["restore", &backup]);
    fs::rename(away.join("artifacts"), data.join("artifacts")).unwrap();
    lab.start_controller().unwrap();

    assert_outcomes(&lab, &first, &[("succeeded", HOSTS as u64)]);
    let gone = lab.comber().run(&["rollout", "status", &lost]).unwrap();
    assert_ne!(gone.code, 0, "{}", gone.stdout);
    let back = wait::until(LONG, || {
        let hosts = lab.comber().json(&["host", "list"]).ok()?;
        let hosts = hosts["hosts"].as_array()?.clone();
        let all = hosts
            .iter()
            .all(|h| h["connected"] == true && h["installed"].to_string().contains("app@2"));
        (all && hosts.len() == HOSTS).then_some(())
    });
    let hosts = || lab.comber().json(&["host", "list"]).unwrap();
    assert!(back.is_some(), "hosts do not come back: {:#}", hosts());

    // What was published after the backup can be published again; hosts that run it are there already.
    lab.publish(&Product::good("2")).unwrap();
    let again = lab.roll_out(&all_at_once("2")).unwrap();
    lab.wait_for(&again, LONG, has(&[("succeeded", 3)]))
        .unwrap();
    // The generations begin again far below what the hosts accepted from the lost controller.
    lab.publish(&Product::good("3")).unwrap();
    let third = done(&lab, "3");
    assert_outcomes(&lab, &third, &[("succeeded", HOSTS as u64)]);
    assert_eq!(lab.running("h1").as_deref(), Some("3"));
    // The old store is of another life: a restore never goes over what is there.
    let output = lab.controller_command(&["restore", &backup]).output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("away first"),
        "{text}"
    );
}

#[test]
fn a_controller_that_lost_its_store_refuses_to_begin_anew() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 1, &[]).unwrap();
    lab.kill_controller();
    let (store, away) = (
        lab.directory().join("controller/store"),
        lab.directory().join("lost"),
    );
    fs::rename(&store, &away).unwrap();
    let output = lab.controller_command(&["serve"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("comber-controller restore"),
        "{text}"
    );
    // Once it is found again, everything goes on.
    fs::remove_dir_all(&store).unwrap();
    fs::rename(&away, &store).unwrap();
    lab.start_controller().unwrap();
    let back = wait::until(LONG, || {
        let hosts = lab.comber().json(&["host", "list"]).ok()?;
        (hosts["hosts"][0]["connected"] == true).then_some(())
    });
    assert!(back.is_some(), "the host does not come back");
}
