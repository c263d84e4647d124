//! Gates that ask a real Prometheus, and a program of one's own, on real processes.
//!
//! Where no Prometheus is installed, one line says so and the rest of the file still runs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use comber_e2e::{LONG, has, is};
use comber_test_support::{Lab, LabOptions, Process, Product, wait};

/// A Prometheus that scrapes itself, with its data in a directory that lasts as long as it.
struct Prometheus {
    port: u16,
    _process: Process,
    _data: tempfile::TempDir,
}

/// Starts one; absent where none is installed.
fn prometheus() -> Result<Option<Prometheus>> {
    let there = Command::new("prometheus").arg("--version").output();
    if !there.is_ok_and(|output| output.status.success()) {
        println!("skipped: no prometheus is installed (Debian: apt-get install prometheus)");
        return Ok(None);
    }
    // It does not tell which port it was given, so one is found; another process may be quicker.
    for _ in 0..5 {
        let data = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = data.path().join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: itself\n    static_configs:\n      - targets: [\"127.0.0.1:{port}\"]\n"
        );
        fs::write(&config, text)?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                data.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut process = Process::start(&mut command, &data.path().join("log"))?;
        let ready = wait::until(LONG, || {
            let answer = get(port, "/-/ready").unwrap_or_default();
            let is_over = !process.is_running();
            (is_over || answer.contains("200 OK")).then_some(!is_over)
        });
        if ready == Some(true) {
            return Ok(Some(Prometheus {
                port,
                _process: process,
                _data: data,
            }));
        }
    }
    anyhow::bail!("prometheus is installed and does not start")
}

fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A program that gives one verdict after the other, then ends; it tells what it was asked.
fn approver(verdicts: &'static [&'static str]) -> Result<(u16, JoinHandle<Vec<String>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let serving = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for verdict in verdicts {
            let Ok((mut stream, _)) = listener.accept() else {
                return asked;
            };
            asked.push(body(&mut stream));
            let answer = format!("{{\"verdict\":\"{verdict}\",\"reason\":\"said {verdict}\"}}");
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            );
        }
        asked
    });
    Ok((port, serving))
}

/// Reads a request to the end of its body.
fn body(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut part = [0; 1024];
    while let Ok(read) = stream.read(&mut part) {
        text.push_str(&String::from_utf8_lossy(&part[..read]));
        if read == 0 || text.trim_end().ends_with('}') {
            break;
        }
    }
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
    body.unwrap_or_default().to_owned()
}

fn lab(sources: &str) -> Result<Lab> {
    let mut lab = Lab::with(&LabOptions {
        controller: sources.to_owned(),
        ..LabOptions::default()
    })?;
    lab.start_agents("web", 2, &[])?;
    for version in ["1", "2", "3"] {
        lab.publish(&Product::good(version))?;
    }
    Ok(lab)
}

fn spec(version: &str, gate: &str) -> String {
    format!(
        "release = \"app@{version}\"\nselector = \"true\"\n[pace]\nmax_in_flight = \"100%\"\n\
         [[wave]]\nhosts = 1\n[[wave]]\nhosts = \"rest\"\n[wave.gate]\n{gate}\n"
    )
}

fn events(lab: &Lab, id: &str) -> Result<String> {
    lab.comber()
        .ok(&["events", "--rollout", id, "--output", "json"])
}

#[test]
fn a_query_to_a_real_prometheus_opens_a_wave_or_halts_the_rollout() -> Result<()> {
    let Some(prometheus) = prometheus()? else {
        return Ok(());
    };
    let url = format!("http://127.0.0.1:{}", prometheus.port);
    let lab = lab(&format!(
        "[sources.metrics]\nkind = \"prometheus\"\nurl = \"{url}\"\n"
    ))?;

    // What it scraped of itself: nothing at first, which is inconclusive, and asked again.
    let query = "prometheus = { source = \"metrics\", query = \"min(up{job='itself'})\", pass = \"value == 1\" }\nevery = \"1s\"\ntries = 60";
    let id = lab.roll_out(&spec("1", query))?;
    lab.wait_for(&id, LONG, is("completed"))?;
    let told = events(&lab, &id)?;
    assert!(
        told.contains("prometheus metrics says pass to wave 2: 1 (value == 1)"),
        "{told}"
    );

    let query =
        "prometheus = { source = \"metrics\", query = \"vector(0.25)\", pass = \"value < 0.01\" }";
    let id = lab.roll_out(&spec("2", query))?;
    let status = lab.wait_for(&id, LONG, is("halted"))?;
    assert!(
        has(&[("succeeded", 1), ("pending", 1)])(&status),
        "{status:#}"
    );
    let why = status["halt"]["text"].as_str().context("no reason")?;
    assert!(
        why.contains("prometheus metrics says fail: 0.25, to pass: value < 0.01"),
        "{why}"
    );

    // Two series, a query that it refuses, and one that gives nothing: never clear, so a person is asked.
    let queries = [
        (
            "vector(1) or label_replace(vector(2), 'a', 'b', '', '')",
            "2 series",
        ),
        ("sum(", "parse error"),
        ("absent_metric", "no series"),
        ("vector(0)/0", "NaN"),
    ];
    for (query, reason) in queries {
        let gate = format!(
            "prometheus = {{ source = \"metrics\", query = \"{query}\", pass = \"value < 1\" }}\nevery = \"1s\"\ntries = 2"
        );
        let id = lab.roll_out(&spec("3", &gate))?;
        lab.wait_for(&id, LONG, is("paused"))?;
        let why = lab.comber().ok(&["why", "rollout", &id])?;
        // Lines are wrapped, so words are compared.
        let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            why.contains("paused itself") && why.contains(reason),
            "{query}: {why}"
        );
        lab.comber()
            .ok(&["rollout", "abort", &id, "--wait", "--yes"])?;
    }
    Ok(())
}

#[test]
fn a_program_of_ones_own_is_asked_until_it_says_pass() -> Result<()> {
    let (port, serving) = approver(&["inconclusive", "pass"])?;
    let lab = lab(&format!(
        "[sources.approver]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/gate\"\n"
    ))?;
    let gate = "webhook = { source = \"approver\" }\nevery = \"1s\"";
    let id = lab.roll_out(&spec("1", gate))?;
    lab.wait_for(&id, LONG, is("completed"))?;
    let told = events(&lab, &id)?;
    assert!(
        told.contains("webhook approver says inconclusive to wave 2: said inconclusive"),
        "{told}"
    );
    assert!(
        told.contains("webhook approver says pass to wave 2: said pass"),
        "{told}"
    );
    let asked = serving.join().ok().context("the program panicked")?;
    assert_eq!(asked.len(), 2, "{asked:?}");
    let second: serde_json::Value = serde_json::from_str(&asked[1])?;
    assert_eq!(second["rollout"], id.as_str());
    assert_eq!(
        (&second["release"], &second["try"]),
        (&"app@1".into(), &2.into())
    );

    // A source that nobody configured is refused before anything moves.
    let unknown = "prometheus = { source = \"metrics\", query = \"up\", pass = \"value == 1\" }";
    let refused = lab.create(&spec("2", unknown)).map(|_| ()).unwrap_err();
    let refused = format!("{refused:#}");
    assert!(
        refused.contains("no prometheus source metrics"),
        "{refused}"
    );
    Ok(())
}
