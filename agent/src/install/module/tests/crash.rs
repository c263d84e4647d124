//! The agent is killed in the middle of each call. The step runs in a child, which is this test program again.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::*;

/// Written into the directory of the host by the parent: what the child shall do.
const ORDERS: &str = "orders";
/// Writes down that it was reached, and does not end by itself; the second time it does nothing.
const STAYS: &str = "if [ ! -e \"$dir/pid\" ]; then echo $$ >\"$dir/pid\"; exec sleep 1000; fi";
const BACK: [&str; 4] = [
    "SupportsRollback",
    "ArtifactRollback",
    "ArtifactFailure",
    "Cleanup",
];

fn record(dir: &Path, version: &str) -> Option<Record> {
    let records = site_at(dir).catalog.of(&"webapp".parse().unwrap()).unwrap();
    records
        .into_iter()
        .find(|record| record.manifest.version.as_str() == version)
}

/// Does nothing when run as a test; as a child it stands in the directory of a host and follows the orders there.
#[tokio::test]
async fn follows_the_orders_of_a_parent() {
    let Ok(orders) = fs::read_to_string(ORDERS) else {
        return;
    };
    let dir = std::env::current_dir().unwrap();
    let (old, new) = (record(&dir, "1.0").unwrap(), record(&dir, "2.0").unwrap());
    let module = site_at(&dir).installer(&new);
    for order in orders.lines() {
        match order {
            "activate" => drop(module.activate(Some(&old)).await),
            "reboot" => drop(module.reboot().await),
            "prove" => drop(module.prove().await),
            "commit" => drop(module.commit().await),
            "roll back" => drop(module.roll_back(Some(&old)).await),
            "cleanup" => drop(module.cleanup(&["1.0".parse().unwrap()]).await),
            other => panic!("{other}"),
        }
    }
}

fn child(host: &TestHost, orders: &str) -> Child {
    fs::write(host.dir().join(ORDERS), orders).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "install::module::tests::crash::follows_the_orders_of_a_parent",
        ])
        .current_dir(host.dir())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A host on 1.0 whose agent was killed in that call on its way to 2.0.
async fn killed_in(call: &str, orders: &str, setup: impl Fn(&Fixture)) -> (Fixture, Record, Kind) {
    let fixture = Fixture::new();
    let old = fixture.with_old().await;
    let (_, module) = fixture.staged("2.0", "reboot = \"auto\"", "").await;
    setup(&fixture);
    let file = fixture
        .host
        .dir()
        .join("modules")
        .join(format!("do-{call}"));
    let does = fs::read_to_string(file).unwrap_or_default();
    fixture.does(call, &format!("{does}\n{STAYS}"));
    let mut child = child(&fixture.host, orders);
    let reached = fixture.host.dir().join("modules/pid");
    while fs::read_to_string(&reached).is_ok_and(|pid| !pid.ends_with('\n')) || !reached.exists() {
        let log = fixture.host.log();
        assert_eq!(
            child.try_wait().unwrap(),
            None,
            "{call} was not reached: {log:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    (fixture, old, module)
}

fn count(fixture: &Fixture, call: &str) -> usize {
    let log = fixture.host.log();
    log.iter().filter(|one| *one == call).count()
}

/// The module's process of before the crash does not go on beside what followed it.
fn assert_ended(fixture: &Fixture) {
    let pid = fs::read_to_string(fixture.host.dir().join("modules/pid")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    assert!(stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z ")));
}

fn assert_undone(fixture: &Fixture, old: &Record, module: &Kind, call: &str) {
    assert_eq!(active(module).as_ref(), Some(old), "{call}");
    assert!(fixture.is_over(), "{call}");
    for once in ["ArtifactInstall", "ArtifactCommit"] {
        let log = fixture.host.log();
        assert!(count(fixture, once) <= 1, "{call}: {log:?}");
    }
    assert_ended(fixture);
}

#[tokio::test]
async fn a_kill_in_each_call_of_an_activation_takes_the_way_back() {
    for call in ["ArtifactInstall", "NeedsArtifactReboot"] {
        let (fixture, old, module) = killed_in(call, "activate", |_| {}).await;
        assert_eq!(active(&module), Some(old.clone()));
        // Where the permit still lives, the agent tries to go on; nothing is called a second time.
        let error = module.activate(Some(&old)).await.unwrap_err();
        let expected =
            format!("{call} was cut off by an end of the agent or the host; it is not run again");
        assert_eq!(error.to_string(), expected);
        let called = fixture.host.log().len();
        module.roll_back(Some(&old)).await.unwrap();
        assert_eq!(fixture.host.log()[called..], BACK, "{call}");
        assert_undone(&fixture, &old, &module, call);
    }
}

#[tokio::test]
async fn a_kill_before_anything_was_installed_costs_a_cleanup_only() {
    for call in ["ProvidePayloadFileSizes", "Download", "SupportsRollback"] {
        // Back, ...
        let (fixture, old, module) = killed_in(call, "activate", |_| {}).await;
        module.roll_back(Some(&old)).await.unwrap();
        assert_eq!(fixture.host.log().last().unwrap(), "Cleanup");
        assert_eq!(count(&fixture, "ArtifactRollback"), 0);
        assert_undone(&fixture, &old, &module, call);
        // ... and forward.
        let (fixture, old, module) = killed_in(call, "activate", |_| {}).await;
        module.activate(Some(&old)).await.unwrap();
        assert_ended(&fixture);
        let log = fixture.host.log();
        let cleaned = log.iter().position(|call| call == "Cleanup").unwrap();
        assert_eq!(log[cleaned + 1..], FORWARD, "{call}");
        module.commit().await.unwrap();
        module.cleanup(&[]).await.unwrap();
        assert!(fixture.is_over());
    }
}

#[tokio::test]
async fn a_kill_in_a_reboot_is_what_a_reboot_looks_like() {
    let reboots = |fixture: &Fixture| fixture.does("NeedsArtifactReboot", "echo Yes");
    let (fixture, _, module) = killed_in("ArtifactReboot", "activate\nreboot", reboots).await;
    module.prove().await.unwrap();
    module.commit().await.unwrap();
    module.cleanup(&[]).await.unwrap();
    let expected = [
        "ArtifactReboot",
        "ArtifactVerifyReboot",
        "ArtifactCommit",
        "Cleanup",
    ];
    assert_eq!(fixture.host.log(), forward_and(&expected));

    let orders = "activate\nreboot\nprove\nroll back\nreboot";
    let (fixture, old, module) = killed_in("ArtifactRollbackReboot", orders, reboots).await;
    module.prove_back().await.unwrap();
    module.cleanup(&["1.0".parse().unwrap()]).await.unwrap();
    assert_eq!(count(&fixture, "ArtifactVerifyRollbackReboot"), 1);
    assert_undone(&fixture, &old, &module, "ArtifactRollbackReboot");
}

#[tokio::test]
async fn a_kill_in_the_last_calls_forward_takes_the_way_back() {
    let reboots = |fixture: &Fixture| fixture.does("NeedsArtifactReboot", "echo Yes");
    let orders = "activate\nreboot\nprove";
    let (fixture, old, module) = killed_in("ArtifactVerifyReboot", orders, reboots).await;
    module.prove().await.unwrap_err();
    module.roll_back(Some(&old)).await.unwrap();
    module.reboot().await.unwrap();
    module.cleanup(&["1.0".parse().unwrap()]).await.unwrap();
    assert_eq!(count(&fixture, "ArtifactVerifyRollbackReboot"), 1);
    assert_undone(&fixture, &old, &module, "ArtifactVerifyReboot");

    let (fixture, old, module) = killed_in("ArtifactCommit", "activate\ncommit", |_| {}).await;
    module.prove().await.unwrap_err();
    module.commit().await.unwrap_err();
    module.roll_back(Some(&old)).await.unwrap();
    assert_undone(&fixture, &old, &module, "ArtifactCommit");
}

#[tokio::test]
async fn a_kill_on_the_way_back_goes_on_with_it() {
    for call in ["ArtifactRollback", "ArtifactFailure", "Cleanup"] {
        let (fixture, old, module) = killed_in(call, "activate\nroll back", |_| {}).await;
        module.roll_back(Some(&old)).await.unwrap();
        assert_eq!(count(&fixture, call), 2, "{:?}", fixture.host.log());
        assert_undone(&fixture, &old, &module, call);
    }
    // The query stays only the second time that it is asked.
    let orders = "activate\nroll back";
    let (fixture, old, module) = killed_in("SupportsRollback", orders, |fixture| {
        let first = "echo Yes\nif [ ! -e \"$dir/asked\" ]; then touch \"$dir/asked\"; exit 0; fi";
        fixture.does("SupportsRollback", first);
    })
    .await;
    module.roll_back(Some(&old)).await.unwrap();
    assert_undone(&fixture, &old, &module, "SupportsRollback");
}

#[tokio::test]
async fn a_kill_in_the_last_cleanup_keeps_the_release_and_cleans_up_later() {
    let orders = "activate\ncommit\ncleanup";
    let (fixture, _, module) = killed_in("Cleanup", orders, |_| {}).await;
    assert!(module.is_unfinished());
    module.cleanup(&["1.0".parse().unwrap()]).await.unwrap();
    assert!(fixture.is_over() && !module.is_unfinished());
    assert_eq!(count(&fixture, "ArtifactRollback"), 0);
    assert_eq!(active(&module).unwrap().manifest.version.as_str(), "2.0");
}

#[tokio::test]
async fn a_kill_between_two_calls_leaves_the_way_back_open() {
    // Ever later kills, of which most hit what the agent does between the calls.
    let fixture = Fixture::new();
    let old = fixture.with_old().await;
    let (new, module) = fixture.staged("2.0", "", "").await;
    for round in 0_u32..60 {
        fixture.host.clear_log();
        let mut child = child(&fixture.host, "activate\ncommit");
        tokio::time::sleep(Duration::from_millis(2) * round).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let found = active(&module).unwrap();
        assert!(found == old || found == new, "round {round}");
        module.roll_back(Some(&old)).await.unwrap();
        assert_eq!(active(&module), Some(old.clone()), "round {round}");
        assert!(fixture.is_over(), "round {round}");
        for once in ["ArtifactInstall", "ArtifactCommit"] {
            let log = fixture.host.log();
            assert!(count(&fixture, once) <= 1, "round {round}: {log:?}");
        }
    }
}
