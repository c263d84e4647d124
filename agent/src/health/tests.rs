//! Checks against real listeners and processes on this machine, all on ports that the kernel chose.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use comber_model::release::Manifest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

/// Everything ends with it.
struct Fixture {
    dir: tempfile::TempDir,
    tasks: JoinSet<()>,
}

impl Fixture {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            tasks: JoinSet::new(),
        }
    }

    /// A server that answers its nth connection with what `answer` says; counts them.
    async fn serve(&mut self, answer: fn(u32) -> String) -> (SocketAddr, Arc<AtomicU32>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&count);
        self.tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
                let mut request = vec![0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer(number).as_bytes()).await;
            }
        });
        (address, count)
    }

    async fn check(&self, checks: &str, within: Duration) -> Result<(), CheckFailed> {
        self.check_with(checks, &[], within).await
    }

    async fn check_with(
        &self,
        checks: &str,
        variables: &[(&str, &str)],
        within: Duration,
    ) -> Result<(), CheckFailed> {
        let source = format!(
            "name = \"a\"\nversion = \"1\"\n[installer]\ntype = \"archive\"\npath = \"/a\"\n{checks}"
        );
        let manifest = Manifest::parse(&source).unwrap();
        let checks: Vec<&Check> = manifest.checks.iter().collect();
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        let health = Health {
            exec: Exec::new(self.dir.path()),
            dir: self.dir.path().to_owned(),
            variables: variables.collect(),
            clock: Clock::system(),
        };
        health.all(&checks, within).await
    }
}

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(400);

fn http(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn http_check(address: SocketAddr, more: &str) -> String {
    format!(
        "[[check]]\nname = \"page\"\nhttp = {{ url = \"http://{address}/page\"{more} }}\ninterval = \"20ms\"\n"
    )
}

#[tokio::test]
async fn a_page_passes_once_it_has_answered_well_often_enough_in_a_row() {
    let mut fixture = Fixture::new();
    // Bad, good, bad, then good: only the last three are in a row.
    let (address, count) = fixture
        .serve(|n| {
            http(
                if matches!(n, 1 | 3) {
                    "503 Unavailable"
                } else {
                    "200 OK"
                },
                "",
            )
        })
        .await;
    let check = http_check(address, "") + "successes = 3\n";
    fixture.check(&check, LONG).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn a_failing_page_tells_its_status_and_how_often_it_was_tried() {
    let mut fixture = Fixture::new();
    let (address, count) = fixture.serve(|_| http("500 Broken", "")).await;
    let failed = fixture
        .check(&http_check(address, ""), SHORT)
        .await
        .unwrap_err();
    assert_eq!(failed.last, "status 500, expected 200");
    assert!(failed.tries > 1 && failed.tries.abs_diff(count.load(Ordering::SeqCst)) <= 1);
    let told = CheckFailed {
        tries: 12,
        after: Duration::from_secs(30),
        ..failed
    };
    let told = told.to_string();
    assert_eq!(
        told,
        "check page: status 500, expected 200, 12 tries in 30s"
    );
}

#[tokio::test]
async fn a_status_other_than_200_may_be_what_is_wanted() {
    let mut fixture = Fixture::new();
    let (address, _) = fixture.serve(|_| http("404 Not Found", "")).await;
    fixture
        .check(&http_check(address, ", status = 404"), LONG)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_text_is_searched_in_the_first_64_kib_only() {
    let mut fixture = Fixture::new();
    let (address, _) = fixture.serve(|_| http("200 OK", "version 2 is up")).await;
    let contains = |text: &str| http_check(address, &format!(", contains = \"{text}\""));
    fixture.check(&contains("version 2"), LONG).await.unwrap();
    let failed = fixture
        .check(&contains("version 3"), SHORT)
        .await
        .unwrap_err();
    assert_eq!(
        failed.last,
        "the body (15 bytes read) does not contain \"version 3\""
    );

    let (address, _) = fixture
        .serve(|_| http("200 OK", &("x".repeat(70_000) + "version 2")))
        .await;
    let check = http_check(address, ", contains = \"version 2\"");
    let failed = fixture.check(&check, SHORT).await.unwrap_err();
    assert_eq!(
        failed.last,
        "the body (65536 bytes read) does not contain \"version 2\""
    );
}

#[tokio::test]
async fn an_endless_body_is_not_read_to_its_end() {
    let mut fixture = Fixture::new();
    let (address, _) = fixture
        .serve(|_| format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(4 << 20)))
        .await;
    fixture.check(&http_check(address, ""), LONG).await.unwrap();
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_failed_try() {
    let mut fixture = Fixture::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    fixture.tasks.spawn(async move {
        let mut open = Vec::new();
        loop {
            open.push(listener.accept().await.unwrap());
        }
    });
    let check = http_check(address, "") + "timeout = \"50ms\"\n";
    let failed = fixture.check(&check, SHORT).await.unwrap_err();
    assert_eq!(failed.last, "no answer within 50ms");
    // Connecting is all that this one asks.
    let check = format!("[[check]]\nname = \"port\"\ntcp = {{ address = \"{address}\" }}\n");
    fixture.check(&check, LONG).await.unwrap();
}

#[tokio::test]
async fn garbage_is_no_answer() {
    let mut fixture = Fixture::new();
    let (address, _) = fixture
        .serve(|_| "SSH-2.0-OpenSSH\r\n\r\n".to_owned())
        .await;
    fixture
        .check(&http_check(address, ""), SHORT)
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_port_passes_once_somebody_listens() {
    let mut fixture = Fixture::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let check = "[[check]]\nname = \"port\"\ntcp = { address = \"127.0.0.1:${PORT}\" }\ninterval = \"10ms\"";
    let port = address.port().to_string();
    let variables = [("PORT", port.as_str())];
    let failed = fixture
        .check_with(check, &variables, SHORT)
        .await
        .unwrap_err();
    let expected = format!("cannot connect to {address}: Connection refused");
    assert!(failed.last.starts_with(&expected), "{failed}");
    let (listening, _) = fixture.serve(|_| String::new()).await;
    let port = listening.port().to_string();
    fixture
        .check_with(check, &[("PORT", &port)], LONG)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_command_runs_in_the_release_until_it_succeeds() {
    let fixture = Fixture::new();
    let check = "[[check]]\nname = \"count\"\nexec = { command = [\"sh\", \"-c\", \
        \"echo x >>tries; test $(wc -l <tries) -ge 3\"] }\ninterval = \"10ms\"";
    fixture.check(check, LONG).await.unwrap();
    assert_eq!(
        fs::read_to_string(fixture.dir.path().join("tries"))
            .unwrap()
            .lines()
            .count(),
        3
    );
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_and_tried_again() {
    let fixture = Fixture::new();
    let check = "[[check]]\nname = \"slow\"\nexec = { command = [\"sh\", \"-c\", \"echo x >>tries; sleep 1000\"] }\n\
        interval = \"10ms\"\ntimeout = \"100ms\"";
    let failed = fixture
        .check(check, Duration::from_secs(1))
        .await
        .unwrap_err();
    assert!(failed.tries > 1, "{failed}");
    let told = failed.last;
    assert!(told.contains("within 100ms"), "{told}");
}

#[tokio::test]
async fn an_unknown_variable_fails_at_once() {
    let fixture = Fixture::new();
    let check = "[[check]]\nname = \"page\"\nhttp = { url = \"http://127.0.0.1:${PORT}/\" }";
    let failed = fixture.check(check, LONG).await.unwrap_err();
    assert!(
        failed.last.starts_with("the variable ${PORT} has no value"),
        "{failed}"
    );
    assert_eq!(failed.tries, 1);
}

#[tokio::test]
async fn all_checks_run_at_once_and_all_that_failed_are_named() {
    let mut fixture = Fixture::new();
    let (address, _) = fixture.serve(|_| http("200 OK", "")).await;
    let failing = |name: &str| {
        format!(
            "[[check]]\nname = \"{name}\"\nexec = {{ command = [\"false\"] }}\ninterval = \"50ms\"\n"
        )
    };
    let checks = failing("one") + &http_check(address, "") + &failing("two") + &failing("three");
    let failed = fixture.check(&checks, SHORT).await.unwrap_err();
    assert_eq!(
        (failed.name.as_str(), &failed.also[..]),
        ("one", &["two".into(), "three".into()][..])
    );
    let told = failed.to_string();
    assert!(
        told.starts_with("check one: false ended with exit status: 1 and no output, "),
        "{told}"
    );
    assert!(told.ends_with("; also failing: two, three"), "{told}");
}

#[tokio::test]
async fn a_release_without_checks_is_healthy() {
    Fixture::new().check("", SHORT).await.unwrap();
}

#[tokio::test]
async fn a_unit_that_systemd_does_not_know_is_not_active() {
    let fixture = Fixture::new();
    let check = "[[check]]\nname = \"unit\"\nunit = { name = \"comber-test-unknown.service\" }\ninterval = \"20ms\"";
    let failed = fixture.check(check, SHORT).await.unwrap_err();
    assert!(failed.tries >= 1 && !failed.last.is_empty(), "{failed}");
}

#[tokio::test]
async fn dropped_checks_leave_no_process() {
    let fixture = Fixture::new();
    let check = "[[check]]\nname = \"slow\"\nexec = { command = [\"sh\", \"-c\", \"echo $$ >pid; sleep 1000\"] }\n\
        timeout = \"60s\"";
    let pid_file = fixture.dir.path().join("pid");
    let pid = async {
        loop {
            let text = fs::read_to_string(&pid_file).unwrap_or_default();
            if text.ends_with('\n') {
                return text.trim().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let pid = tokio::select! {
        ended = fixture.check(check, LONG) => panic!("{ended:?}"),
        pid = pid => pid,
    };
    let stat = format!("/proc/{pid}/stat");
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
