//! Commands that end, fail, hang and leave daemons behind: real processes, all started here.

use std::fs;

use super::*;

struct Fixture {
    dir: tempfile::TempDir,
    variables: Variables,
}

impl Fixture {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            variables: Variables::from([("PORT".to_owned(), "8080".to_owned())]),
        }
    }

    async fn sh(&self, script: &str, timeout: Duration) -> Result<String, ExecError> {
        self.run(&["sh", "-c", script], timeout).await
    }

    async fn run(&self, command: &[&str], timeout: Duration) -> Result<String, ExecError> {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let run = Run {
            command: &command,
            dir: self.dir.path(),
            variables: &self.variables,
            timeout,
        };
        Exec::new(self.dir.path()).run(&run).await
    }

    /// The number that a script wrote into a file; waits until it is there.
    async fn pid(&self, file: &str) -> Pid {
        loop {
            let text = fs::read_to_string(self.dir.path().join(file)).unwrap_or_default();
            if let Some(pid) = text.strip_suffix('\n') {
                return Pid::from_raw(pid.parse().unwrap()).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

const LONG: Duration = Duration::from_mins(1);

/// Waits until the process is gone or only waits to be reaped.
async fn gone(pid: Pid) {
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    while let Ok(text) = fs::read_to_string(&stat) {
        if text
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.starts_with(" Z"))
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_alive(pid: Pid) -> bool {
    rustix::process::test_kill_process(pid).is_ok()
}

#[tokio::test]
async fn a_command_sees_its_variables_and_its_directory() {
    let fixture = Fixture::new();
    let output = fixture
        .sh("echo $PORT ${PORT}; pwd; echo err >&2", LONG)
        .await
        .unwrap();
    let dir = fixture.dir.path().display();
    assert_eq!(output, format!("8080 8080\n{dir}\nerr"));
    let environment = fixture.run(&["env"], LONG).await.unwrap();
    assert!(!environment.contains("CARGO"), "{environment}");
}

#[tokio::test]
async fn a_relative_program_is_the_releases_own() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.dir.path().join("bin")).unwrap();
    let program = fixture.dir.path().join("bin/app");
    fs::write(&program, "#!/bin/sh\necho own\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).unwrap();
    assert_eq!(fixture.run(&["bin/app"], LONG).await.unwrap(), "own");
    let error = fixture.run(&["bin/other"], LONG).await.unwrap_err();
    assert!(matches!(error, ExecError::Start { .. }), "{error}");
}

#[tokio::test]
async fn the_end_of_a_failures_output_is_told() {
    let fixture = Fixture::new();
    let script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exit 3";
    let error = fixture.sh(script, LONG).await.unwrap_err();
    let ExecError::Failed { status, output, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(status.code(), Some(3));
    assert!(
        output.len() <= OUTPUT_MAX && output.ends_with("line 1999"),
        "{output}"
    );
    let told = error.to_string();
    assert!(
        told.starts_with("sh ended with exit status: 3; its output ends: …"),
        "{told}"
    );
    assert!(told.len() < 400 && told.ends_with("line 1999"), "{told}");
}

#[tokio::test]
async fn a_timeout_kills_the_whole_group() {
    let fixture = Fixture::new();
    let script = "sleep 1000 & echo $! >child; echo $$ >leader; echo waiting; wait";
    let (ended, child) = tokio::join!(
        fixture.sh(script, Duration::from_millis(500)),
        fixture.pid("child")
    );
    let error = ended.unwrap_err();
    assert!(
        matches!(&error, ExecError::TimedOut { output, .. } if output == "waiting"),
        "{error}"
    );
    gone(child).await;
    gone(fixture.pid("leader").await).await;
}

#[tokio::test]
async fn a_dropped_run_kills_the_whole_group() {
    let fixture = Fixture::new();
    let script = "sleep 1000 & echo $! >child; wait";
    let child = tokio::select! {
        ended = fixture.sh(script, LONG) => panic!("{ended:?}"),
        child = fixture.pid("child") => child,
    };
    gone(child).await;
}

#[tokio::test]
async fn a_daemon_that_keeps_the_output_open_is_not_waited_for() {
    let fixture = Fixture::new();
    let output = fixture
        .sh("sleep 1000 & echo $! >child; echo started", LONG)
        .await
        .unwrap();
    assert_eq!(output, "started");
    let child = fixture.pid("child").await;
    assert!(is_alive(child));
    rustix::process::kill_process(child, Signal::KILL).unwrap();
}

#[tokio::test]
async fn nothing_is_left_in_the_scratch_directory() {
    let fixture = Fixture::new();
    fixture.sh("echo x", LONG).await.unwrap();
    fixture.sh("exit 1", LONG).await.unwrap_err();
    assert_eq!(fs::read_dir(fixture.dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_unknown_variable_starts_nothing() {
    let fixture = Fixture::new();
    let error = fixture
        .sh("touch x; echo ${NOWHERE}", LONG)
        .await
        .unwrap_err();
    assert!(matches!(error, ExecError::Expand(_)), "{error}");
    assert_eq!(fs::read_dir(fixture.dir.path()).unwrap().count(), 0);
}
