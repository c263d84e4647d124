//! The run: what is measured in which order, and how it is told.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use comber_test_support::{Lab, LabOptions, Product};
use http::Uri;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::host::Gates;
use crate::{Arguments, fleet, floor, host};

const SPEC: &str = r#"
release = "app@1"
selector = "true"
[pace]
max_in_flight = "100%"
permit = "1h"
[[wave]]
hosts = "rest"
"#;

/// Measures time; the one clock of this program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts at zero.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Since the start.
    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Runs the benchmark and prints its figures.
#[expect(clippy::too_many_lines, reason = "one run, told in its order")]
pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let mut lab = tokio::task::spawn_blocking(|| Lab::with(&LabOptions::default())).await??;
    let empty = memory(&mut lab)?;
    lab.publish(&Product::good("1"))?;
    let (hosts, concurrency) = (arguments.hosts, arguments.concurrency as usize);
    let url: Uri = lab.url().parse()?;
    let token = lab.token(&["--uses", &hosts.to_string()])?;

    println!("{hosts} hosts");
    let watch = Stopwatch::start();
    let configs = fleet::enrol(&url, &token, hosts, concurrency).await?;
    rate(
        "enrol all, key and certificate each",
        watch.elapsed(),
        hosts,
    );
    let handshakes = floor::handshakes(&url, &configs, concurrency).await?;
    let commits = floor::commits(hosts).await?;

    // A fresh process, since one that has enrolled all and shaken hands with all keeps what that took at its peak.
    println!(
        "  {:<52} {:>8} MB",
        "memory of the controller at its peak",
        memory(&mut lab)? / 1_000_000
    );
    lab = tokio::task::spawn_blocking(move || -> Result<Lab> {
        lab.stop_controller()?;
        lab.start_controller()?;
        Ok(lab)
    })
    .await??;
    let before = used(&mut lab)?;
    let gates = Arc::new(Gates::new(configs.len()));
    let dials = Arc::new(Semaphore::new(concurrency));
    let watch = Stopwatch::start();
    let mut fleet = JoinSet::new();
    for config in configs {
        let (url, dials, gates) = (url.clone(), Arc::clone(&dials), Arc::clone(&gates));
        fleet.spawn(host::live(url, config, dials, gates));
    }
    together(&mut fleet, gates.connected.wait()).await?;
    let connected = watch.elapsed();
    against(
        "connect all",
        connected,
        hosts,
        "bare TLS handshakes",
        handshakes,
    );
    cost(before, used(&mut lab)?, hosts);
    let idle = memory(&mut lab)?;
    per_host(
        "memory of the controller per host, connected",
        empty,
        idle,
        hosts,
    );

    let id = lab.create(SPEC)?;
    let comber = lab.comber();
    let before = used(&mut lab)?;
    let watch = Stopwatch::start();
    let start = tokio::task::spawn_blocking(move || comber.ok(&["rollout", "start", &id]));
    together(&mut fleet, gates.assigned.wait()).await?;
    rate(
        "push an assignment to all, from the command on",
        watch.elapsed(),
        hosts,
    );
    start.await??;
    cost(before, used(&mut lab)?, hosts);

    let before = used(&mut lab)?;
    let watch = Stopwatch::start();
    gates.ask.wait().await;
    together(&mut fleet, gates.permitted.wait()).await?;
    rate(
        "take all receipts durably and give all a permit",
        watch.elapsed(),
        hosts,
    );
    cost(before, used(&mut lab)?, hosts);

    let before = used(&mut lab)?;
    let watch = Stopwatch::start();
    gates.report.wait().await;
    together(&mut fleet, gates.acknowledged.wait()).await?;
    against(
        "take all reports durably",
        watch.elapsed(),
        hosts,
        "bare group commits",
        commits,
    );
    cost(before, used(&mut lab)?, hosts);
    let after = memory(&mut lab)?;
    per_host(
        "memory of the controller per host, after traffic",
        empty,
        after,
        hosts,
    );

    let status = lab.status("r1")?;
    ensure!(
        status["outcomes"]["succeeded"] == hosts,
        "not every host succeeded: {status:#}"
    );
    gates.over.wait().await;
    while let Some(ended) = fleet.join_next().await {
        ended??;
    }
    drop(lab);
    Ok(())
}

/// Waits for a gate, or for the first host that fails: the gate would then never open.
async fn together(
    fleet: &mut JoinSet<Result<()>>,
    gate: impl Future<Output = tokio::sync::BarrierWaitResult>,
) -> Result<()> {
    // Both arms may be dropped: a host that ended well is past the last gate, and a gate is waited for only here.
    tokio::select! {
        biased;
        _ = gate => Ok(()),
        Some(ended) = fleet.join_next() => match ended? {
            Ok(()) => anyhow::bail!("a host ended too early"),
            Err(error) => Err(error),
        },
    }
}

fn rate(what: &str, took: Duration, hosts: u32) {
    let per_second = f64::from(hosts) / took.as_secs_f64();
    println!(
        "  {what:<52} {:>8.3} s  {per_second:>9.0} hosts/s",
        took.as_secs_f64()
    );
}

fn against(what: &str, took: Duration, hosts: u32, floor: &str, floor_took: Duration) {
    rate(what, took, hosts);
    rate(&format!("  floor: {floor}"), floor_took, hosts);
    println!(
        "  {:<52} {:>8.2}",
        "  ratio",
        took.as_secs_f64() / floor_took.as_secs_f64()
    );
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn per_host(what: &str, before: u64, now: u64, hosts: u32) {
    let each = now.saturating_sub(before) as f64 / f64::from(hosts) / 1000.0;
    println!(
        "  {what:<52} {each:>8.1} kB  ({} MB in all)",
        now / 1_000_000
    );
}

/// Processor time that the controller has used so far, user and system, from the kernel's account.
fn used(lab: &mut Lab) -> Result<Duration> {
    let process = lab.controller().and_then(|process| process.id());
    let process = process.context("the controller does not run")?;
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name of the program stands in brackets and may hold spaces; user and system time are 12th and 13th after it.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let mut times = fields.split_whitespace().skip(11).take(2);
    let mut ticks = || -> Result<u64> { Ok(times.next().context("no time in stat")?.parse()?) };
    let total = ticks()? + ticks()?;
    Ok(Duration::from_millis(
        total * 1000 / rustix::param::clock_ticks_per_second(),
    ))
}

fn cost(before: Duration, now: Duration, hosts: u32) {
    let each = now.saturating_sub(before).as_secs_f64() * 1e6 / f64::from(hosts);
    println!(
        "  {:<52} {each:>8.0} us of the controller's processor time per host",
        "  cost"
    );
}

/// Resident memory of the controller in bytes, from the kernel's account.
fn memory(lab: &mut Lab) -> Result<u64> {
    let process = lab.controller().and_then(|process| process.id());
    let process = process.context("the controller does not run")?;
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: u64 = kilobytes.context("no VmRSS")?.trim().parse()?;
    Ok(kilobytes * 1024)
}
