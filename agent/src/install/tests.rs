//! The archive installer on real files with real commands.

mod crash;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use super::*;
use crate::testing::{TestHost, logging, record_of};

/// Stages a release and returns its record and installer.
async fn staged(host: &TestHost, verified: Verified) -> (Record, Kind) {
    let record = record_of(&verified);
    let archive = host.site().installer(&record);
    archive.stage(verified).await.unwrap();
    assert!(archive.is_staged().unwrap());
    (record, archive)
}

fn current_version(host: &TestHost) -> Option<String> {
    fs::read_to_string(host.product().join("current/version")).ok()
}

fn release_dirs(host: &TestHost) -> usize {
    fs::read_dir(host.product().join("releases")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_first_release_is_staged_activated_and_rolled_back_to_nothing() {
    let host = TestHost::new();
    let (record, archive) = staged(&host, host.release("1.0")).await;
    assert_eq!(archive.detect().unwrap(), Current::Nothing);
    assert_eq!(current_version(&host), None);

    archive.activate(None).await.unwrap();
    assert_eq!(
        archive.detect().unwrap(),
        Current::Release(Box::new(record))
    );
    assert_eq!(host.log(), ["start 1.0 in current after"]);
    let app = host.product().join("current/bin/app");
    assert_eq!(
        fs::metadata(app).unwrap().permissions().mode() & 0o7777,
        0o755
    );

    archive.roll_back(None).await.unwrap();
    assert_eq!(archive.detect().unwrap(), Current::Nothing);
    let stopped = host.log().pop().unwrap();
    assert!(stopped.starts_with("stop 1.0 in 1.0-"), "{stopped}");
    // Once more changes nothing.
    archive.roll_back(None).await.unwrap();
    assert_eq!(host.log().len(), 2);
}

#[tokio::test]
async fn an_update_stops_the_old_in_its_own_directory_and_starts_the_new() {
    let host = TestHost::new();
    let (old, first) = staged(&host, host.release("1.0")).await;
    first.activate(None).await.unwrap();
    let (new, second) = staged(&host, host.release("2.0")).await;
    host.clear_log();
    second.activate(Some(&old)).await.unwrap();
    let stop = format!("stop 1.0 in {} after", old.slot());
    assert_eq!(
        host.log(),
        [stop.as_str(), "start 2.0 in current after 1.0"]
    );
    assert_eq!(
        second.detect().unwrap(),
        Current::Release(Box::new(new.clone()))
    );

    host.clear_log();
    second.roll_back(Some(&old)).await.unwrap();
    let stop = format!("stop 2.0 in {} after 1.0", new.slot());
    assert_eq!(host.log(), [stop.as_str(), "start 1.0 in current after"]);
    assert_eq!(current_version(&host).unwrap(), "1.0");
}

#[tokio::test]
async fn a_release_that_changes_over_by_itself_is_not_stopped() {
    let host = TestHost::new();
    let recipe = || {
        format!(
            "restart = {}\nstop = {}",
            logging("restart"),
            logging("stop")
        )
    };
    let (old, first) = staged(&host, host.release_of("webapp", "1.0", &recipe())).await;
    first.activate(None).await.unwrap();
    let (_, second) = staged(&host, host.release_of("webapp", "2.0", &recipe())).await;
    second.activate(Some(&old)).await.unwrap();
    second.roll_back(Some(&old)).await.unwrap();
    let log = host.log();
    assert_eq!(
        log,
        [
            "restart 1.0 in current after",
            "restart 2.0 in current after 1.0",
            "restart 1.0 in current after"
        ]
    );
}

#[tokio::test]
async fn a_stop_that_fails_leaves_the_old_release_active() {
    let host = TestHost::new();
    let failing = "[\"sh\", \"-c\", \"echo cannot let go; exit 4\"]";
    let old = host.release_with("1.0", &logging("start"), failing, "");
    let (old, first) = staged(&host, old).await;
    first.activate(None).await.unwrap();
    let (_, second) = staged(&host, host.release("2.0")).await;
    let error = second.activate(Some(&old)).await.unwrap_err();
    assert_eq!(error.to_string(), "the stop command of webapp@1.0 failed");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.contains("exit status: 4") && cause.ends_with("cannot let go"),
        "{cause}"
    );
    assert_eq!(current_version(&host).unwrap(), "1.0");

    // The way back starts the old one again, whatever its stop says.
    host.clear_log();
    second.roll_back(Some(&old)).await.unwrap();
    assert_eq!(host.log(), ["start 1.0 in current after"]);
}

#[tokio::test]
async fn a_start_that_hangs_is_killed_and_rolled_back() {
    let host = TestHost::new();
    let (old, first) = staged(&host, host.release("1.0")).await;
    first.activate(None).await.unwrap();
    let hanging = "[\"sh\", \"-c\", \"echo $$ >pid; sleep 1000\"]";
    let more = "[timeouts]\nactivate = \"300ms\"";
    let new = host.release_with("2.0", hanging, &logging("stop"), more);
    let (new, second) = staged(&host, new).await;
    let error = second.activate(Some(&old)).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.contains("did not end within 300ms and was killed"),
        "{cause}"
    );
    assert_eq!(second.detect().unwrap(), Current::Release(Box::new(new)));
    second.roll_back(Some(&old)).await.unwrap();
    assert_eq!(current_version(&host).unwrap(), "1.0");
}

#[tokio::test]
async fn a_start_that_leaves_a_daemon_behind_does_not_hang() {
    let host = TestHost::new();
    let start = "[\"sh\", \"-c\", \"sleep 1000 & echo $! >${COMBER_ROOT}/pid\"]";
    let stop = "[\"sh\", \"-c\", \"kill $(cat ${COMBER_ROOT}/pid)\"]";
    let (_, archive) = staged(&host, host.release_with("1.0", start, stop, "")).await;
    archive.activate(None).await.unwrap();
    let pid = fs::read_to_string(host.product().join("pid")).unwrap();
    let proc = format!("/proc/{}/stat", pid.trim());
    assert!(fs::read_to_string(&proc).is_ok_and(|stat| !stat.contains(") Z ")));
    archive.remove().await.unwrap();
    while fs::read_to_string(&proc).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(archive.detect().unwrap(), Current::Nothing);
}

#[tokio::test]
async fn activating_again_after_the_switch_starts_again() {
    let host = TestHost::new();
    let failing_stop = "[\"false\"]";
    let new = host.release_with("1.0", &logging("start"), failing_stop, "");
    let (_, archive) = staged(&host, new).await;
    archive.activate(None).await.unwrap();
    archive.activate(None).await.unwrap();
    assert_eq!(host.log(), ["start 1.0 in current after"; 2]);
}

#[tokio::test]
async fn cleanup_keeps_what_it_is_told_and_what_is_active() {
    let host = TestHost::new();
    let mut archives = Vec::new();
    for version in ["1.0", "2.0", "3.0"] {
        let (_, archive) = staged(&host, host.release(version)).await;
        archive.activate(None).await.unwrap();
        archives.push(archive);
    }
    let releases = host.product().join("releases");
    fs::create_dir(releases.join("4.0-0123456789ab.partial")).unwrap();
    fs::create_dir(releases.join("9.9-0123456789ab")).unwrap();
    fs::create_dir(releases.join("notes")).unwrap();
    archives[0]
        .cleanup(&["2.0".parse().unwrap()])
        .await
        .unwrap();
    // Two releases, and the directory that is nobody's business here.
    assert_eq!(release_dirs(&host), 3);
    assert_eq!(current_version(&host).unwrap(), "3.0");
    assert!(!archives[0].is_staged().unwrap());
    assert!(archives[1].is_staged().unwrap() && archives[2].is_staged().unwrap());

    // Whatever the ledger says, what is active stays.
    archives[0].cleanup(&[]).await.unwrap();
    assert_eq!(current_version(&host).unwrap(), "3.0");
    assert_eq!(release_dirs(&host), 2);
}

#[tokio::test]
async fn a_removed_product_leaves_nothing() {
    let host = TestHost::new();
    let (record, archive) = staged(&host, host.release("1.0")).await;
    archive.activate(None).await.unwrap();
    archive.remove().await.unwrap();
    assert_eq!(archive.detect().unwrap(), Current::Nothing);
    // The way back from a removal.
    archive.roll_back(Some(&record)).await.unwrap();
    assert_eq!(current_version(&host).unwrap(), "1.0");
    archive.remove().await.unwrap();
    archive.remove().await.unwrap();
    archive.cleanup(&[]).await.unwrap();
    assert!(!host.product().exists());
    assert_eq!(host.site().catalog.products().unwrap(), []);
    archive.cleanup(&[]).await.unwrap();
}

#[tokio::test]
async fn somebody_elses_current_is_told_and_not_destroyed() {
    let host = TestHost::new();
    let (_, archive) = staged(&host, host.release("1.0")).await;
    let current = host.product().join("current");
    symlink("/somewhere", &current).unwrap();
    assert_eq!(
        archive.detect().unwrap(),
        Current::Foreign("/somewhere".into())
    );
    fs::remove_file(&current).unwrap();

    fs::create_dir(&current).unwrap();
    fs::write(current.join("data"), "precious").unwrap();
    assert!(matches!(archive.detect().unwrap(), Current::Foreign(_)));
    for error in [
        archive.activate(None).await.map(drop),
        archive.roll_back(None).await,
    ] {
        assert!(
            matches!(error, Err(InstallError::NotALink { .. })),
            "{error:?}"
        );
    }
    assert_eq!(
        fs::read_to_string(current.join("data")).unwrap(),
        "precious"
    );
}

#[tokio::test]
async fn going_back_to_a_release_that_is_gone_says_so() {
    let host = TestHost::new();
    let (_, archive) = staged(&host, host.release("2.0")).await;
    archive.activate(None).await.unwrap();
    let gone = record_of(&host.release("1.0"));
    let error = archive.roll_back(Some(&gone)).await.unwrap_err();
    assert!(matches!(&error, InstallError::Gone { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .starts_with("webapp@1.0 is not on this host any more")
    );
}

#[tokio::test]
async fn bytes_whose_record_was_lost_are_exchanged_for_proven_ones() {
    let host = TestHost::new();
    let (record, archive) = staged(&host, host.release("1.0")).await;
    archive.activate(None).await.unwrap();
    fs::write(host.product().join("current/version"), "tampered").unwrap();
    host.site().catalog.remove(&record).unwrap();
    assert!(matches!(archive.detect().unwrap(), Current::Foreign(_)));
    assert!(!archive.is_staged().unwrap());
    archive.stage(host.release("1.0")).await.unwrap();
    assert_eq!(
        archive.detect().unwrap(),
        Current::Release(Box::new(record))
    );
    assert_eq!(current_version(&host).unwrap(), "1.0");
    assert_eq!(release_dirs(&host), 1);
}

#[tokio::test]
async fn a_damaged_record_counts_as_lost_and_is_written_anew() {
    let host = TestHost::new();
    let (record, archive) = staged(&host, host.release("1.0")).await;
    archive.activate(None).await.unwrap();
    let path = host
        .state()
        .join("releases/webapp")
        .join(record.slot() + ".json");
    for damage in ["", "{\"format\": 1", "{\"format\": 99}"] {
        fs::write(&path, damage).unwrap();
        assert!(matches!(archive.detect().unwrap(), Current::Foreign(_)));
        archive.stage(host.release("1.0")).await.unwrap();
        assert_eq!(
            archive.detect().unwrap(),
            Current::Release(Box::new(record.clone()))
        );
    }
}

#[tokio::test]
async fn other_bytes_of_the_same_short_name_are_refused() {
    let host = TestHost::new();
    let verified = host.release("1.0");
    let mut other = record_of(&verified);
    other.artifact.digest.0[31] ^= 1;
    host.site().catalog.put(&other).unwrap();
    let archive = host.site().installer(&record_of(&verified));
    assert!(!archive.is_staged().unwrap());
    let error = archive.stage(verified).await.unwrap_err();
    assert!(matches!(error, InstallError::Collision { .. }), "{error:?}");
}

#[tokio::test]
async fn a_unit_that_systemd_does_not_know_fails_the_activation() {
    let host = TestHost::new();
    let recipe = "units = [\"comber-test-that-does-not-exist.service\"]";
    let (_, archive) = staged(&host, host.release_of("webapp", "1.0", recipe)).await;
    let error = archive.activate(None).await.unwrap_err();
    assert!(
        matches!(
            &error,
            InstallError::Unit {
                action: "restart",
                ..
            }
        ),
        "{error:?}"
    );
    archive.roll_back(None).await.unwrap();
    assert_eq!(archive.detect().unwrap(), Current::Nothing);
}

#[tokio::test]
async fn a_bundle_of_another_release_is_not_trusted() {
    let host = TestHost::new();
    let (carried, _) = host.bundle("webapp", "1.0", "");
    let assigned = "webapp@2.0".parse().unwrap();
    let error = carried.assume(&assigned).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the bundle says that it is webapp@1.0, webapp@2.0 was assigned"
    );
    assert_eq!(error.class(), comber_model::FailureClass::Trust);
}
