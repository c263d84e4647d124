//! Modules that mean harm, or are as broken as if they did: each is ended with all it started, and told.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::*;

const TIMEOUT: &str = "timeout = \"1s\"";

/// Waits until a process is gone or only waits to be reaped.
async fn gone(pid: Pid) {
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The processes that the module wrote down.
fn pids(fixture: &Fixture) -> Vec<Pid> {
    let text = fs::read_to_string(fixture.host.dir().join("modules/pids")).unwrap();
    let pid = |line: &str| Pid::from_raw(line.trim().parse().unwrap()).unwrap();
    let pids: Vec<Pid> = text.lines().map(pid).collect();
    assert!(!pids.is_empty());
    pids
}

/// A command of a shell that writes its number down and stays.
fn stays(how: &str) -> String {
    format!(
        "{how} sh -c 'trap \"\" TERM HUP; echo $$ >>\"$1/pids\"; while true; do sleep 1; done' x \"$dir\""
    )
}

const REACHED: &str = "while [ ! -s \"$dir/pids\" ]; do sleep 0.01; done";

#[tokio::test]
async fn one_that_hangs_is_ended_with_all_it_started() {
    for script in [
        stays(""),
        // Children in its group that do not care for TERM.
        format!("{} & sleep 1000", stays("")),
        // One in a session of its own, whose parent is gone.
        format!("({} &); sleep 1000", stays("setsid")),
        // One that forgets its environment and stays in the group.
        format!("{} & sleep 1000", stays("env -i")),
    ] {
        let fixture = Fixture::new();
        fixture.does("ArtifactInstall", &script);
        let (_, module) = fixture.staged("1.0", "", TIMEOUT).await;
        let error = told(&module.activate(None).await.unwrap_err());
        let expected = "did not end within 1s and was killed";
        assert!(error.contains(expected), "{error}");
        for pid in pids(&fixture) {
            gone(pid).await;
        }
        module.roll_back(None).await.unwrap();
        assert!(fixture.is_over());
    }
}

#[tokio::test]
async fn one_that_ends_when_it_is_asked_to_is_not_made_to() {
    let fixture = Fixture::new();
    let script = "trap 'echo asked >\"$dir/asked\"; exit 1' TERM; sleep 1000 & wait";
    fixture.does("ArtifactInstall", script);
    let (_, module) = fixture.staged("1.0", "", TIMEOUT).await;
    module.activate(None).await.unwrap_err();
    assert!(fixture.host.dir().join("modules/asked").exists());
}

#[tokio::test]
async fn what_a_failed_call_left_behind_is_ended_too() {
    for script in [
        format!("({} &); {REACHED}; exit 1", stays("setsid")),
        format!("{} & {REACHED}; exit 1", stays("env -i")),
    ] {
        let fixture = Fixture::new();
        fixture.does("ArtifactInstall", &script);
        let (_, module) = fixture.staged("1.0", "", "").await;
        module.activate(None).await.unwrap_err();
        for pid in pids(&fixture) {
            gone(pid).await;
        }
    }
}

#[tokio::test]
async fn a_cancelled_call_leaves_nothing_that_goes_on() {
    let fixture = Fixture::new();
    fixture.does(
        "ArtifactInstall",
        &format!("({} &); {}", stays("setsid"), stays("")),
    );
    let (_, module) = fixture.staged("1.0", "", "").await;
    let file = fixture.host.dir().join("modules/pids");
    let both = async {
        while fs::read_to_string(&file).map_or(0, |text| text.lines().count()) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = module.activate(None) => panic!("{ended:?}"),
        () = both => {}
    }
    for pid in pids(&fixture) {
        gone(pid).await;
    }
    module.roll_back(None).await.unwrap();
    assert_eq!(active(&module), None);
}

#[tokio::test]
async fn a_daemon_of_a_call_that_ended_well_lives_on_and_is_not_waited_for() {
    let fixture = Fixture::new();
    fixture.does(
        "ArtifactInstall",
        "sleep 1000 & echo $! >>\"$dir/pids\"; echo done",
    );
    let (_, module) = fixture.staged("1.0", "", "").await;
    module.activate(None).await.unwrap();
    for pid in pids(&fixture) {
        test_kill_process(pid).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }
}

#[tokio::test]
async fn a_flood_is_cut_and_neither_fills_memory_nor_hides_the_end() {
    let fixture = Fixture::new();
    let flood = "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo 'the reason' >&2; exit 1";
    fixture.does("ArtifactInstall", flood);
    let (_, module) = fixture.staged("1.0", "", "").await;
    let error = told(&module.activate(None).await.unwrap_err());
    assert!(
        error.ends_with("the reason") && error.len() < 600,
        "{error}"
    );

    let fixture = Fixture::new();
    fixture.does("NeedsArtifactReboot", "yes Yes | head -c 5000000");
    let (_, module) = fixture.staged("1.0", "", "").await;
    let error = told(&module.activate(None).await.unwrap_err());
    assert_eq!(
        error,
        "the module m answers NeedsArtifactReboot with 5000000 bytes, one word was wanted"
    );

    let fixture = Fixture::new();
    fixture.does("NeedsArtifactReboot", "yes");
    let (_, module) = fixture.staged("1.0", "", TIMEOUT).await;
    let error = told(&module.activate(None).await.unwrap_err());
    assert!(error.contains("did not end within 1s"), "{error}");
}

#[tokio::test]
async fn nonsense_is_no_answer() {
    for (query, answer) in [
        ("ProvidePayloadFileSizes", "Automatic"),
        ("SupportsRollback", "yes"),
        ("NeedsArtifactReboot", "Yes; No"),
        ("NeedsArtifactReboot", "No\\nNo"),
        ("NeedsArtifactReboot", "\\000\\377"),
    ] {
        let fixture = Fixture::new();
        fixture.does(query, &format!("printf '{answer}\\n'; exit 0"));
        let (_, module) = fixture.staged("1.0", "", "").await;
        let error = told(&module.activate(None).await.unwrap_err());
        assert!(error.contains(&format!("answers {query} with ")), "{error}");
    }
}

#[tokio::test]
async fn one_that_kills_itself_has_failed() {
    let fixture = Fixture::new();
    fixture.does("ArtifactInstall", "kill -9 $$");
    let (_, module) = fixture.staged("1.0", "", "").await;
    let error = told(&module.activate(None).await.unwrap_err());
    assert!(error.contains("signal: 9"), "{error}");
    module.roll_back(None).await.unwrap();
}

#[tokio::test]
async fn one_that_plunders_its_own_tree_is_told_and_harms_nobody_else() {
    let fixture = Fixture::new();
    let old = fixture.with_old().await;
    let outside = fixture.host.dir().join("outside");
    fs::write(&outside, "precious").unwrap();
    // What the agent opens as a pipe is one: nothing is written to where a link leads.
    let link = format!(
        "rm -rf stream-next streams; ln -s '{}' stream-next; sleep 0.2",
        outside.display()
    );
    fixture.does("Download", &link);
    let (_, module) = fixture.staged("2.0", "", "").await;
    module.activate(Some(&old)).await.unwrap_err();
    module.roll_back(Some(&old)).await.unwrap();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "precious");

    fixture.does("Download", "");
    fixture.does("ArtifactInstall", "cd /; rm -rf \"$2\"");
    let error = told(&module.activate(Some(&old)).await.unwrap_err());
    assert!(error.contains("failed in NeedsArtifactReboot"), "{error}");
    // The module cannot be called where its tree is gone, so nobody can say that it went back.
    let error = told(&module.roll_back(Some(&old)).await.unwrap_err());
    assert!(error.contains("failed in ArtifactRollback"), "{error}");
    assert_eq!(active(&module), Some(old));
}
