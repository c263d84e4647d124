//! Processes that are killed in the middle of a step. The step runs in a child, which is this test program again.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use crate::testing::site_at;
use crate::trust::Unverified;

/// Written into the directory of the host by the parent: what the child shall do.
const ORDERS: &str = "orders";

fn record(dir: &Path, version: &str) -> Option<Record> {
    let records = site_at(dir).catalog.of(&"webapp".parse().unwrap()).unwrap();
    records
        .into_iter()
        .find(|record| record.manifest.version.as_str() == version)
}

/// The bundle of version 1.0 that lies in the directory.
fn verified(dir: &Path) -> Verified {
    let path = dir.join("webapp-1.0.bundle");
    let limits = comber_bundle::Limits { length: 1 << 20 };
    let contents = comber_bundle::inspect(fs::File::open(&path).unwrap(), limits).unwrap();
    let artifact = contents.artifact;
    let release = contents.listing.manifest().id();
    Unverified { path, artifact }.assume(&release).unwrap()
}

/// Does nothing when run as a test; as a child it stands in the directory of a host and follows the orders there.
#[tokio::test]
async fn follows_the_orders_of_a_parent() {
    let Ok(orders) = fs::read_to_string(ORDERS) else {
        return;
    };
    let dir = std::env::current_dir().unwrap();
    if orders == "stage" {
        let verified = verified(&dir);
        let archive = site_at(&dir).installer(&record_of(&verified));
        archive.stage(verified).await.unwrap();
        return fs::write("done", "").unwrap();
    }
    let (old, new) = (record(&dir, "1.0").unwrap(), record(&dir, "2.0").unwrap());
    let archive = site_at(&dir).installer(&new);
    match orders.as_str() {
        "activate" => drop(archive.activate(Some(&old)).await.unwrap()),
        "roll back" => archive.roll_back(Some(&old)).await.unwrap(),
        "cleanup" => archive.cleanup(&[]).await.unwrap(),
        other => panic!("{other}"),
    }
    fs::write("done", "").unwrap();
}

fn child(host: &TestHost, orders: &str) -> Child {
    fs::write(host.dir().join(ORDERS), orders).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "install::tests::crash::follows_the_orders_of_a_parent",
        ])
        .current_dir(host.dir())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs the step in children that are killed ever later, until one of them reached its end.
///
/// After each of them `look` sees the host as the crash left it.
async fn killed_ever_later(host: &TestHost, orders: &str, look: impl AsyncFn()) -> u32 {
    for round in 0_u32.. {
        let mut child = child(host, orders);
        tokio::time::sleep(Duration::from_micros(400) * round).await;
        child.kill().unwrap();
        child.wait().unwrap();
        look().await;
        if host.dir().join("done").exists() {
            return round;
        }
    }
    unreachable!("the rounds never end by themselves");
}

#[tokio::test]
async fn a_kill_at_any_step_of_staging_leaves_all_or_recognisably_not_all() {
    let host = TestHost::new();
    let release = host.release("1.0");
    let archive = host.site().installer(&record_of(&release));
    let place = host.site().release_dir(&record_of(&release));
    killed_ever_later(&host, "stage", async || {
        let is_staged = archive.is_staged().unwrap();
        assert_eq!(is_staged, place.exists());
        archive.stage(release.clone()).await.unwrap();
        assert_eq!(fs::read_to_string(place.join("version")).unwrap(), "1.0");
        assert_eq!(release_dirs(&host), 1);
        if is_staged {
            archive.cleanup(&[]).await.unwrap();
        } else {
            fs::remove_dir_all(&place).unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_kill_at_any_step_of_an_activation_leaves_the_old_or_the_new() {
    let host = TestHost::new();
    let (old, first) = staged(&host, host.release("1.0")).await;
    first.activate(None).await.unwrap();
    let (new, second) = staged(&host, host.release("2.0")).await;
    let killed = killed_ever_later(&host, "activate", async || {
        let Current::Release(active) = second.detect().unwrap() else {
            panic!("{:?}", second.detect());
        };
        let version = current_version(&host).unwrap();
        assert_eq!(version, active.manifest.version.as_str());
        // From either of them, both ways are open.
        second.activate(Some(&old)).await.unwrap();
        assert_eq!(
            second.detect().unwrap(),
            Current::Release(Box::new(new.clone()))
        );
        second.roll_back(Some(&old)).await.unwrap();
        assert_eq!(
            second.detect().unwrap(),
            Current::Release(Box::new(old.clone()))
        );
    })
    .await;
    assert!(killed > 0);
}

#[tokio::test]
async fn a_kill_at_any_step_of_going_back_leaves_the_way_back_open() {
    let host = TestHost::new();
    let (old, first) = staged(&host, host.release("1.0")).await;
    first.activate(None).await.unwrap();
    let (_, second) = staged(&host, host.release("2.0")).await;
    second.activate(Some(&old)).await.unwrap();
    killed_ever_later(&host, "roll back", async || {
        assert!(matches!(second.detect().unwrap(), Current::Release(_)));
        second.roll_back(Some(&old)).await.unwrap();
        assert_eq!(current_version(&host).unwrap(), "1.0");
        second.activate(Some(&old)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_kill_at_any_step_of_cleaning_up_never_touches_what_is_active() {
    let host = TestHost::new();
    let (_, first) = staged(&host, host.release("1.0")).await;
    let (_, second) = staged(&host, host.release("2.0")).await;
    second.activate(None).await.unwrap();
    killed_ever_later(&host, "cleanup", async || {
        assert_eq!(current_version(&host).unwrap(), "2.0");
        assert!(second.is_staged().unwrap());
        // What is left of the other is all or recognisably not all, so it can be staged again.
        first.stage(host.release("1.0")).await.unwrap();
        let kept = host
            .product()
            .join("releases")
            .join(record(host.dir(), "1.0").unwrap().slot());
        assert_eq!(fs::read_to_string(kept.join("version")).unwrap(), "1.0");
    })
    .await;
}
