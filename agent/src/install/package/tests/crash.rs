//! Whatever an end of the agent or the host leaves between old and new, both ways lead out of it.
//!
//! The states that dpkg can be cut off in are made by its own commands; beside that, a whole activation and a whole way
//! back are killed at instants spread over their time, in a process namespace of their own, so that dpkg dies with them.

use std::process::{Child, Stdio};

use super::*;

const BEFORE: &str = "ii a 1 amd64, ii b 1 amd64";
const AFTER: &str = "ii a 2 amd64, ii b 2 amd64, ii c 2 amd64";

/// A host with an old state, and a release that leads away from it.
async fn host() -> Option<(DebHost, Record)> {
    let host = DebHost::new()?;
    host.by_hand(&[&host.deb(made("a", "1")), &host.deb(made("b", "1"))]);
    let a2 = host.deb(Made {
        control: "Depends: b (= 2)\n",
        ..made("a", "2")
    });
    let b2 = host.deb(Made {
        control: "Pre-Depends: c\n",
        ..made("b", "2")
    });
    let debs = [a2, b2, host.deb(made("c", "2"))];
    let (record, _) = host.staged("2.0", PLAIN, &debs).await;
    Some((host, record))
}

impl DebHost {
    fn pool(&self, name: &str) -> String {
        self.dir().join("pool").join(name).display().to_string()
    }

    /// Runs dpkg where it may fail: it is cut off in the middle, in a way.
    fn dpkg_may_fail(&self, words: &[&str]) {
        let root = format!("--root={}", self.host.root().display());
        let ran = Command::new("dpkg")
            .arg(root)
            .arg("--force-depends")
            .args(words)
            .output();
        ran.unwrap();
    }

    fn rewrite_status(&self, package: &str, to: &str) {
        let path = self.host.root().join("var/lib/dpkg/status");
        let text = fs::read_to_string(&path).unwrap();
        let edited: Vec<String> = text
            .split("\n\n")
            .map(|paragraph| {
                if paragraph.starts_with(&format!("Package: {package}\n")) {
                    let state = |line: &str| {
                        if line.starts_with("Status: ") {
                            format!("Status: {to}")
                        } else {
                            line.to_owned()
                        }
                    };
                    paragraph.lines().map(state).collect::<Vec<_>>().join("\n")
                } else {
                    paragraph.to_owned()
                }
            })
            .collect();
        fs::write(&path, edited.join("\n\n")).unwrap();
    }
}

/// A state in which dpkg can be cut off, and how a host gets there.
type State = (&'static str, fn(&DebHost));

/// All of them.
fn states() -> Vec<State> {
    vec![
        ("before the first run", |_| {}),
        ("one package done", |host| {
            host.dpkg_may_fail(&["-i", &host.pool("c_2_amd64.deb")]);
        }),
        ("one unpacked", |host| {
            host.dpkg_may_fail(&["--unpack", &host.pool("a_2_amd64.deb")]);
        }),
        ("all unpacked", |host| {
            let names =
                ["a_2_amd64.deb", "b_2_amd64.deb", "c_2_amd64.deb"].map(|name| host.pool(name));
            host.dpkg_may_fail(&["--unpack", &names[2], &names[1], &names[0]]);
        }),
        ("one half-configured", |host| {
            host.dpkg_may_fail(&[
                "-i",
                &host.pool("c_2_amd64.deb"),
                &host.pool("b_2_amd64.deb"),
            ]);
            host.rewrite_status("b", "install ok half-configured");
        }),
        ("the old one half-installed", |host| {
            host.rewrite_status("a", "install reinstreq half-installed");
        }),
        ("the new one half-installed", |host| {
            host.dpkg_may_fail(&["--unpack", &host.pool("a_2_amd64.deb")]);
            host.rewrite_status("a", "install reinstreq half-installed");
        }),
        ("cut off while it wrote its journal", |host| {
            host.dpkg_may_fail(&["--unpack", &host.pool("b_2_amd64.deb")]);
            let entry = "Package: c\nStatus: install reinstreq half-installed\nArchitecture: amd64\nVersion: 2\n\
                Maintainer: A <a@example.org>\nDescription: made by a test\n";
            fs::write(host.host.root().join("var/lib/dpkg/updates/0000"), entry).unwrap();
        }),
        ("all done, not looked at", |host| {
            let names =
                ["c_2_amd64.deb", "b_2_amd64.deb", "a_2_amd64.deb"].map(|name| host.pool(name));
            host.dpkg_may_fail(&["-i", &names[0], &names[1], &names[2]]);
        }),
    ]
}

#[tokio::test]
async fn from_every_state_that_a_cut_leaves_both_ways_lead_out() {
    let Some((host, record)) = host().await else {
        return;
    };
    let package = inner(host.dir(), &record);
    let manager = package.manager().unwrap();
    let went_well = |name: &str, way: Result<(), InstallError>, expected: &str| {
        if let Err(error) = way {
            panic!("{name}: {}", comber_runtime::telemetry::error_chain(&error));
        }
        assert_eq!(host.packages(), expected, "{name}");
        assert_eq!(host.audit(), "", "{name}");
        assert_eq!(package.changes.pending().unwrap(), None, "{name}");
    };
    for (name, cut) in states() {
        package.begin(&manager, None).await.unwrap();
        cut(&host);
        went_well(name, package.activate(None).await.map(drop), AFTER);
        went_well(name, package.roll_back(None).await, BEFORE);
        package.begin(&manager, None).await.unwrap();
        cut(&host);
        went_well(name, package.roll_back(None).await, BEFORE);
    }
}

#[tokio::test]
async fn a_change_of_which_only_the_mark_is_missing_is_known_as_done() {
    let Some((host, record)) = host().await else {
        return;
    };
    let package = inner(host.dir(), &record);
    package.activate(None).await.unwrap();
    let slot = record.slot();
    let mut change = package.changes.to(Some(&slot)).unwrap().unwrap();
    change.ended = false;
    package.changes.put(&change).unwrap();
    package.activate(None).await.unwrap();
    assert_eq!(package.changes.pending().unwrap(), None);
    package.changes.put(&change).unwrap();
    package.roll_back(None).await.unwrap();
    assert_eq!(host.packages(), BEFORE);
    assert_eq!(package.detect().unwrap(), Current::Nothing);
}

#[tokio::test]
async fn what_a_power_cut_tore_behind_dpkgs_back_is_brought_back() {
    let Some((host, record)) = host().await else {
        return;
    };
    let package = inner(host.dir(), &record);
    let edited = host.host.root().join("etc/b.conf");
    fs::write(&edited, "").unwrap();
    package.activate(None).await.unwrap();
    // As if power had been cut after dpkg's end: its database is on the disk, new configuration and links are not.
    let slot = record.slot();
    let mut change = package.changes.to(Some(&slot)).unwrap().unwrap();
    change.ended = false;
    change.boot = "another".to_owned();
    package.changes.put(&change).unwrap();
    let torn = host.host.root().join("etc/c.conf");
    fs::write(&torn, "").unwrap();
    fs::remove_file(host.host.root().join("usr/bin/c")).unwrap();
    package.activate(None).await.unwrap();
    assert_eq!(host.packages(), AFTER);
    assert_eq!(fs::read_to_string(&torn).unwrap(), "conf of 2\n");
    assert_eq!(host.dpkg(&["--verify", "c"]), "");
    // What the administrator emptied stays empty.
    assert_eq!(fs::read_to_string(&edited).unwrap(), "");
    package.roll_back(None).await.unwrap();
    assert_eq!(host.packages(), BEFORE);
    assert_eq!(fs::read_to_string(&edited).unwrap(), "");
}

#[tokio::test]
async fn a_change_that_nobody_knows_of_is_undone_before_another_begins() {
    let Some((host, record)) = host().await else {
        return;
    };
    let package = inner(host.dir(), &record);
    let manager = package.manager().unwrap();
    package.begin(&manager, None).await.unwrap();
    host.dpkg_may_fail(&["-i", &host.pool("c_2_amd64.deb")]);
    let (_, other) = host.staged("3.0", PLAIN, &[host.deb(made("b", "3"))]).await;
    other.activate(None).await.unwrap();
    assert_eq!(host.packages(), "ii a 1 amd64, ii b 3 amd64");
    other.roll_back(None).await.unwrap();
    assert_eq!(host.packages(), BEFORE);
}

/// Does nothing when run as a test; as a child it stands in the directory of a host and follows the orders there.
#[tokio::test]
async fn follows_the_orders_of_a_parent() {
    let Ok(orders) = fs::read_to_string("package-orders") else {
        return;
    };
    let dir = std::env::current_dir().unwrap();
    let records = site_at(&dir).catalog.of(&"tools".parse().unwrap()).unwrap();
    let package = site_at(&dir).installer(&records[0]);
    match orders.as_str() {
        "activate" => drop(package.activate(None).await.unwrap()),
        "roll back" => package.roll_back(None).await.unwrap(),
        other => panic!("{other}"),
    }
    fs::write("done", "").unwrap();
}

fn child(host: &DebHost, orders: &str) -> Child {
    let _ = fs::remove_file(host.dir().join("done"));
    fs::write(host.dir().join("package-orders"), orders).unwrap();
    // With the first process of a namespace all others in it die.
    Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "install::package::tests::crash::follows_the_orders_of_a_parent",
        ])
        .current_dir(host.dir())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills the step at instants spread over the time that it takes; after each `look` sees the host.
async fn killed_all_along(
    host: &DebHost,
    orders: &str,
    again: impl AsyncFn(),
    look: impl AsyncFn(u32),
) {
    const ROUNDS: u32 = 6;
    let clock = comber_runtime::clock::Clock::system();
    let began = clock.boot();
    assert!(child(host, orders).wait().unwrap().success());
    let whole = clock.boot().saturating_sub(began);
    assert!(host.dir().join("done").exists());
    again().await;
    for round in 0..ROUNDS {
        let mut child = child(host, orders);
        tokio::time::sleep(whole * round / ROUNDS).await;
        child.kill().unwrap();
        child.wait().unwrap();
        look(round).await;
        again().await;
    }
}

#[tokio::test]
async fn a_kill_at_any_instant_of_an_activation_leaves_both_ways_open() {
    let Some((host, record)) = host().await else {
        return;
    };
    let package = inner(host.dir(), &record);
    killed_all_along(
        &host,
        "activate",
        async || {
            package.roll_back(None).await.unwrap();
            assert_eq!(host.packages(), BEFORE);
        },
        async |round| {
            if round % 2 == 0 {
                package.activate(None).await.unwrap();
                assert_eq!(host.packages(), AFTER);
            }
            package.roll_back(None).await.unwrap();
            assert_eq!(host.packages(), BEFORE);
            assert_eq!(host.audit(), "");
            assert_eq!(package.detect().unwrap(), Current::Nothing);
        },
    )
    .await;
}

#[tokio::test]
async fn a_kill_at_any_instant_of_going_back_leaves_the_way_back_open() {
    let Some((host, record)) = host().await else {
        return;
    };
    let package = inner(host.dir(), &record);
    package.activate(None).await.unwrap();
    killed_all_along(
        &host,
        "roll back",
        async || {
            package.activate(None).await.unwrap();
            assert_eq!(host.packages(), AFTER);
        },
        async |_| {
            package.roll_back(None).await.unwrap();
            assert_eq!(host.packages(), BEFORE);
            assert_eq!(host.audit(), "");
        },
    )
    .await;
}

#[tokio::test]
async fn a_run_that_outlives_the_agent_is_waited_for() {
    let Some((host, record)) = host().await else {
        return;
    };
    let package = inner(host.dir(), &record);
    // Only the agent dies; its package manager goes on, and holds the lock.
    let _ = fs::remove_file(host.dir().join("done"));
    fs::write(host.dir().join("package-orders"), "activate").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "install::package::tests::crash::follows_the_orders_of_a_parent",
        ])
        .current_dir(host.dir())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let lock = host.host.root().join("var/lib/dpkg/lock-frontend");
    while !lock.exists() && child.try_wait().unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    package.activate(None).await.unwrap();
    assert_eq!(host.packages(), AFTER);
    assert_eq!(host.audit(), "");
}
