//! Figures of the agent on a real host: what it weighs, how often it wakes up, how long an activation takes.
//!
//! Measures and asserts nothing about speed: what it prints goes into docs/benchmarks.md. Builds the agent that is shipped,
//! which takes minutes, so it does nothing unless it is asked to.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use comber_e2e::is;
use comber_hosts::{
    AGENT_UNIT, Host, HostLab, HostLabOptions, LONG, Packages, Page, Service, Vendor, Wish,
};
use comber_test_support::{target_directory, wait};
use serde_json::Value;

/// Set to anything, it has this measured.
const ASKED: &str = "COMBER_HOSTS_FIGURES";
/// How often each case is measured; the median is told.
const TIMES: usize = 7;
/// After the last event the agent is left alone for so long before it counts as idle.
const SETTLES: Duration = Duration::from_secs(20);
const MINUTE: Duration = Duration::from_mins(1);

/// The agent that is shipped.
#[expect(clippy::unwrap_used, reason = "a test that cannot build has failed")]
fn shipped() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--profile",
            "dist-agent",
            "--package",
            "comber-agent",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success(), "{built}");
    let profile = target_directory().unwrap();
    profile.with_file_name("dist-agent").join("comber-agent")
}

/// A number of a file of lines such as `VmRSS:    7372 kB`.
#[expect(clippy::unwrap_used, reason = "a test that cannot read has failed")]
fn number(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How often the process has waited for something, all threads together: each time it was woken up again.
#[expect(clippy::unwrap_used, reason = "a test that cannot read has failed")]
fn waits(process: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let task = |task: std::io::Result<std::fs::DirEntry>| {
        let path = task.unwrap().path().join("status");
        number(&path.display().to_string(), "voluntary_ctxt_switches:")
    };
    tasks.map(task).sum()
}

/// From the permit to the commit of a release, by the host's own journal.
#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn took(host: &Host, release: &str) -> Duration {
    let found = wait::until(LONG, || {
        let text = host
            .exec(&["journalctl", "--no-pager", "-o", "json", "-u", AGENT_UNIT])
            .ok()?;
        let at = |moved: &str| {
            let lines = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut lines = lines.filter(|line| {
                let message = line["MESSAGE"].as_str().unwrap_or_default();
                message.contains(moved) && message.contains(&format!("release=\"{release}\""))
            });
            let stamp = lines.next()?["__REALTIME_TIMESTAMP"]
                .as_str()?
                .parse()
                .ok()?;
            Some(Duration::from_micros(stamp))
        };
        Some(at("to=committed")?.saturating_sub(at("from=awaiting_permit to=activating")?))
    });
    found.unwrap()
}

#[expect(clippy::unwrap_used, reason = "a test that cannot roll out has failed")]
fn median(lab: &HostLab, host: &Host, vendor: &dyn Vendor, wish: &Wish) -> Duration {
    let mut all: Vec<Duration> = Vec::new();
    for _ in 0..TIMES {
        let made = vendor.make(lab, wish).unwrap();
        let spec = format!(
            "release = \"{}\"\nselector = 'host == \"{}\"'\n[[wave]]\nhosts = \"rest\"\n",
            made.release,
            host.name()
        );
        let id = lab.lab().roll_out(&spec).unwrap();
        lab.lab().wait_for(&id, LONG, is("completed")).unwrap();
        all.push(took(host, &made.release));
    }
    all.sort_unstable();
    all[TIMES / 2]
}

#[test]
#[ignore = "needs root and real hosts"]
#[expect(
    clippy::disallowed_methods,
    reason = "whether a test measures is said by its environment"
)]
fn figures() {
    if std::env::var_os(ASKED).is_none() {
        println!("skipped: nothing is measured unless {ASKED} is set");
        return;
    }
    let program = shipped();
    println!("| binary | {} bytes |", program.metadata().unwrap().len());
    let options = HostLabOptions {
        program: Some(program),
        ..HostLabOptions::default()
    };
    // The timers that ship: those of the other tests wake it up more often.
    let lab = HostLab::with(4, &options).unwrap();
    let idle = lab.host(4);
    idle.exec(&["rm", "/etc/comber/agent.d/50-test.toml"])
        .unwrap();
    idle.exec(&["sh", "-c", "sync; systemctl restart comber-agent.service"])
        .unwrap();
    lab.wait_connected(4).unwrap();
    wait::past(SETTLES);
    let agent = idle.agent().unwrap();
    let status = format!("/proc/{agent}/status");
    println!(
        "| resident memory, VmRSS | {} kB |",
        number(&status, "VmRSS:")
    );
    println!("| of it RssAnon | {} kB |", number(&status, "RssAnon:"));
    let smaps = format!("/proc/{agent}/smaps_rollup");
    println!(
        "| proportional share, Pss | {} kB |",
        number(&smaps, "Pss:")
    );
    let before = waits(agent);
    wait::past(MINUTE);
    println!("| wake-ups in a minute | {} |", waits(agent) - before);

    let (service, packages, page) = (Service::default(), Packages::default(), Page::default());
    let with_reboot = Wish {
        reboot: true,
        ..Wish::GOOD
    };
    let cases: [(&str, usize, &dyn Vendor, Wish); 4] = [
        ("`archive` with a unit", 1, &service, Wish::GOOD),
        ("the same with a reboot", 1, &service, with_reboot),
        ("`package`, two of Debian's kind", 2, &packages, Wish::GOOD),
        ("`module`", 3, &page, Wish::GOOD),
    ];
    for (name, host, vendor, wish) in cases {
        let host = lab.host(host);
        vendor.prepare(host).unwrap();
        let took = median(&lab, host, vendor, &wish);
        println!(
            "| from permit to commit, {name} | {} ms |",
            took.as_millis()
        );
    }
}
