//! The package installer on a tree of its own, with the real dpkg and apt and packages made here.
//!
//! They need root, since dpkg unpacks as root only; elsewhere each says that it was skipped.

mod crash;
mod host;
mod rpm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::install::Kind;
use crate::testing::{TestHost, site_at};
use host::{DebHost, Made, PLAIN, can_run, detected, inner, made, release, run, staged, told};

#[tokio::test]
async fn packages_are_upgraded_and_exactly_brought_back() {
    let Some(host) = DebHost::new() else { return };
    let (a1, b1) = (host.deb(made("a", "1")), host.deb(made("b", "1")));
    host.by_hand(&[&a1, &b1]);
    let a2 = host.deb(Made {
        control: "Depends: b (= 2), lib (>= 1)\n",
        ..made("a", "2")
    });
    let debs = [a2, host.deb(made("b", "2")), host.deb(made("lib", "1:1"))];
    let before = host.packages();
    let (record, package) = host.staged("2.0", PLAIN, &debs).await;
    assert_eq!(package.preflight(None).await.unwrap(), Fit::Fits);
    assert_eq!(host.packages(), before);

    package.activate(None).await.unwrap();
    assert_eq!(
        host.packages(),
        "ii a 2 amd64, ii b 2 amd64, ii lib 1:1 amd64"
    );
    assert_eq!(detected(&package), "2.0");
    package.prove().await.unwrap();
    // Once more changes nothing.
    package.activate(None).await.unwrap();

    package.roll_back(None).await.unwrap();
    assert_eq!(host.packages(), before);
    assert_eq!(host.audit(), "");
    assert_eq!(package.detect().unwrap(), Current::Nothing);
    assert_eq!(host.text("etc/a.conf"), "conf of 1\n");
    package.roll_back(None).await.unwrap();

    // And forward again.
    package.activate(None).await.unwrap();
    assert_eq!(detected(&package), record.manifest.version.to_string());
    package.remove().await.unwrap();
    assert_eq!(host.packages(), before);
    package.cleanup(&[]).await.unwrap();
    assert!(!host.dir().join("state/shelves/tools").exists());
}

#[tokio::test]
async fn a_package_of_which_no_file_is_left_is_built_anew() {
    let Some(host) = DebHost::new() else { return };
    host.by_hand(&[&host.deb(made("a", "1"))]);
    fs::remove_file(host.dir().join("pool/a_1_amd64.deb")).unwrap();
    let before = host.packages();
    let (_, package) = host.staged("2.0", PLAIN, &[host.deb(made("a", "2"))]).await;
    package.preflight(None).await.unwrap();
    package.activate(None).await.unwrap();
    assert_eq!(host.text("usr/lib/a/data"), "2");
    package.roll_back(None).await.unwrap();
    assert_eq!(host.packages(), before);
    assert_eq!(host.text("usr/lib/a/data"), "1");
    assert_eq!(host.text("usr/bin/a-link"), "#!/bin/sh\necho 1\n");
    assert!(host.host.root().join("lib").is_symlink());
    let mode = fs::metadata(host.host.root().join("usr/bin/a")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o7777,
        0o4755
    );
    // Everything that the package brought is known to dpkg at its own place.
    assert!(host.dpkg(&["-L", "a"]).contains("/lib/a/data"));
    assert_eq!(host.dpkg(&["--verify", "a"]), "");
}

#[tokio::test]
async fn configuration_that_was_changed_on_the_host_stays() {
    let Some(host) = DebHost::new() else { return };
    host.by_hand(&[&host.deb(made("a", "1"))]);
    let conf = host.host.root().join("etc/a.conf");
    fs::write(&conf, "the administrator's\n").unwrap();
    let (_, package) = host.staged("2.0", PLAIN, &[host.deb(made("a", "2"))]).await;
    package.activate(None).await.unwrap();
    assert_eq!(host.text("etc/a.conf"), "the administrator's\n");
    package.roll_back(None).await.unwrap();
    assert_eq!(host.text("etc/a.conf"), "the administrator's\n");
    // dpkg still knows that it is not the package's own, so a later upgrade keeps it, too.
    assert!(host.dpkg(&["--verify", "a"]).contains("c /etc/a.conf"));
}

#[tokio::test]
async fn a_release_that_is_satisfied_already_changes_nothing() {
    let Some(host) = DebHost::new() else { return };
    let a2 = host.deb(made("a", "2"));
    host.by_hand(&[&a2]);
    let written = fs::metadata(host.host.root().join("usr/bin/a"))
        .unwrap()
        .modified()
        .unwrap();
    for (version, deb) in [("2.0", a2), ("1.0", host.deb(made("a", "1")))] {
        let (_, package) = host.staged(version, PLAIN, &[deb]).await;
        assert_eq!(package.preflight(None).await.unwrap(), Fit::Fits);
        package.activate(None).await.unwrap();
        assert_eq!(detected(&package), version);
        package.prove().await.unwrap();
        package.roll_back(None).await.unwrap();
    }
    assert_eq!(host.packages(), "ii a 2 amd64");
    let now = fs::metadata(host.host.root().join("usr/bin/a"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(now, written);

    let replace = format!("{PLAIN}\nnewer = \"replace\"");
    let (_, package) = host
        .staged("1.1", &replace, &[host.deb(made("a", "1"))])
        .await;
    package.activate(None).await.unwrap();
    assert_eq!(host.packages(), "ii a 1 amd64");
}

#[tokio::test]
async fn going_back_to_an_earlier_release_takes_along_what_the_later_one_brought() {
    let Some(host) = DebHost::new() else { return };
    let (old, first) = host.staged("1.0", PLAIN, &[host.deb(made("a", "1"))]).await;
    first.activate(None).await.unwrap();
    let debs = [host.deb(made("a", "2")), host.deb(made("extra", "1"))];
    let (new, second) = host.staged("2.0", PLAIN, &debs).await;
    second.activate(Some(&old)).await.unwrap();
    assert_eq!(host.packages(), "ii a 2 amd64, ii extra 1 amd64");

    assert_eq!(first.preflight(Some(&new)).await.unwrap(), Fit::Fits);
    first.activate(Some(&new)).await.unwrap();
    assert_eq!(host.packages(), "ii a 1 amd64");
    assert_eq!(detected(&first), "1.0");
    // And the way back from that way back.
    first.roll_back(Some(&new)).await.unwrap();
    assert_eq!(host.packages(), "ii a 2 amd64, ii extra 1 amd64");
    assert_eq!(detected(&first), "2.0");
    // Gone altogether: nothing was there before.
    second.remove().await.unwrap();
    assert_eq!(host.packages(), "");
    second.roll_back(Some(&new)).await.unwrap();
    assert_eq!(host.packages(), "ii a 2 amd64, ii extra 1 amd64");
    assert_eq!(detected(&second), "2.0");
}

#[tokio::test]
async fn what_the_host_cannot_take_is_refused_before_anything_changes() {
    let Some(host) = DebHost::new() else { return };
    let other = host.deb(Made {
        control: "Depends: a (= 1)\n",
        ..made("other", "1")
    });
    host.by_hand(&[&host.deb(made("a", "1")), &other]);
    let before = host.packages();
    let refused = async |version: &str, recipe: &str, debs: &[PathBuf]| {
        let (_, package) = host.staged(version, recipe, debs).await;
        let why = told(package.preflight(None).await);
        assert_eq!(told(package.activate(None).await), why);
        package.roll_back(None).await.unwrap();
        assert_eq!(host.packages(), before);
        why
    };
    let needy = host.deb(Made {
        control: "Depends: absent (>= 2)\n",
        ..made("needy", "1")
    });
    let why = refused("1", PLAIN, &[needy]).await;
    assert!(why.contains("needy : Depends: absent (>= 2)"), "{why}");

    let a2 = host.deb(made("a", "2"));
    let why = refused("2", PLAIN, std::slice::from_ref(&a2)).await;
    assert!(
        why.contains("would remove other:amd64") || why.contains("other : Depends: a (= 1)"),
        "{why}"
    );

    host.dpkg(&["--remove", "other"]);
    let before = host.packages();
    let mut hold = Command::new("sh");
    let set = format!(
        "echo a hold | dpkg --root={} --set-selections",
        host.host.root().display()
    );
    run(hold.args(["-c", &set]));
    let (_, package) = host.staged("3", PLAIN, &[a2]).await;
    let why = told(package.preflight(None).await);
    assert_eq!(
        why,
        "held on this host: a:amd64; release the hold, or exempt the host"
    );
    assert_eq!(host.packages().replace("hi ", "ii "), before);
}

#[tokio::test]
async fn a_package_that_takes_the_place_of_another_is_exchanged_both_ways() {
    let Some(host) = DebHost::new() else { return };
    host.by_hand(&[&host.deb(made("old", "1"))]);
    let before = host.packages();
    let new = host.deb(Made {
        control: "Conflicts: old\nReplaces: old\nProvides: old\n",
        ..made("new", "1")
    });
    let (_, package) = host.staged("2.0", PLAIN, &[new]).await;
    package.preflight(None).await.unwrap();
    package.activate(None).await.unwrap();
    assert!(host.packages().contains("ii new 1"), "{}", host.packages());
    package.roll_back(None).await.unwrap();
    assert_eq!(host.packages(), before);
}

#[tokio::test]
async fn a_release_for_other_hosts_is_not_applicable() {
    let Some(host) = DebHost::new() else { return };
    let foreign = host.deb(Made {
        arch: "s390x",
        ..made("a", "1")
    });
    let (_, package) = host.staged("1.0", PLAIN, &[foreign]).await;
    let Fit::NotApplicable(why) = package.preflight(None).await.unwrap() else {
        panic!("taken");
    };
    assert!(
        why.starts_with("its packages are for s390x, and this host takes "),
        "{why}"
    );

    let only = format!("{PLAIN}\nonly_installed = true");
    let (_, package) = host.staged("2.0", &only, &[host.deb(made("a", "1"))]).await;
    let fit = package.preflight(None).await.unwrap();
    let why = "none of its packages is installed here (a)".to_owned();
    assert_eq!(fit, Fit::NotApplicable(why));

    host.by_hand(&[&host.deb(made("a", "1"))]);
    let debs = [host.deb(made("a", "2")), host.deb(made("b", "2"))];
    let (_, package) = host.staged("3.0", &only, &debs).await;
    package.activate(None).await.unwrap();
    assert_eq!(host.packages(), "ii a 2 amd64");
}

#[tokio::test]
async fn a_package_that_somebody_changed_since_is_drift() {
    let Some(host) = DebHost::new() else { return };
    let (_, package) = host.staged("2.0", PLAIN, &[host.deb(made("a", "2"))]).await;
    package.activate(None).await.unwrap();
    host.by_hand(&[&host.deb(made("a", "3"))]);
    assert_eq!(detected(&package), "2.0");
    host.by_hand(&[&host.deb(made("a", "1"))]);
    assert!(matches!(package.detect().unwrap(), Current::Foreign(_)));
    let why = told(package.prove().await);
    assert_eq!(why, "no longer as the release left it: a:amd64 2");
    // The release is what is wanted, so it is brought about again.
    package.activate(None).await.unwrap();
    assert_eq!(detected(&package), "2.0");
}

#[tokio::test]
async fn marks_of_dependencies_are_as_they_were() {
    let Some(host) = DebHost::new() else { return };
    host.by_hand(&[&host.deb(made("a", "1")), &host.deb(made("lib", "1"))]);
    let states = host.host.root().join("var/lib/apt/extended_states");
    let auto = "Package: lib\nArchitecture: amd64\nAuto-Installed: 1\n\n";
    fs::write(&states, auto).unwrap();
    let debs = [host.deb(made("a", "2")), host.deb(made("lib", "2"))];
    let (_, package) = host.staged("2.0", PLAIN, &debs).await;
    let marked = || {
        host.text("var/lib/apt/extended_states")
            .matches("Auto-Installed: 1")
            .count()
    };
    package.activate(None).await.unwrap();
    assert_eq!(marked(), 1);
    package.roll_back(None).await.unwrap();
    assert_eq!(marked(), 1);
}
