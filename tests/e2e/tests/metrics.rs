//! What monitoring scrapes: every figure that is promised is there, has a help text, and tells the truth.

use comber_e2e::{LONG, all_at_once, assert_outcomes, is};
use comber_test_support::{Lab, Product, wait};

/// The value of one series, written as it stands in the exposition.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    });
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{text}"));
    let number = line.rsplit(' ').next().unwrap_or_default();
    number
        .parse()
        .unwrap_or_else(|_| panic!("{line:?} has no number"))
}

#[track_caller]
fn is_now(text: &str, series: &str, expected: u32) {
    let found = value(text, series);
    let same = (found - f64::from(expected)).abs() < f64::EPSILON;
    assert!(same, "{series} is {found}, not {expected}");
}

#[test]
fn a_scrape_tells_of_hosts_rollouts_streams_times_bytes_and_the_process() {
    let mut lab = Lab::new().unwrap();
    lab.start_agents("h", 3, &[]).unwrap();
    lab.publish(&Product::good("1")).unwrap();
    let id = lab.roll_out(&all_at_once("1")).unwrap();
    lab.wait_for(&id, LONG, is("completed")).unwrap();
    let draft = lab.create(&all_at_once("1")).unwrap();
    lab.stop_agent("h3").unwrap();
    lab.comber().ok(&["host", "retire", "h2", "--yes"]).unwrap();
    let settled = wait::until(LONG, || {
        let text = lab.scrape().ok()?;
        text.contains("comber_hosts{state=\"connected\"} 1\n")
            .then_some(text)
    });
    let text = settled.unwrap();
    is_now(&text, "comber_hosts{state=\"disconnected\"}", 1);
    is_now(&text, "comber_hosts{state=\"retired\"}", 1);
    is_now(&text, "comber_streams", 1);
    is_now(&text, "comber_rollouts{state=\"completed\"}", 1);
    is_now(&text, "comber_rollouts{state=\"draft\"}", 1);
    is_now(&text, "comber_rollouts{state=\"halted\"}", 0);
    assert_outcomes(&lab, &id, &[("succeeded", 3)]);
    assert!(text.contains(&format!("rollout=\"{draft}\"")), "{text}");
    for positive in [
        "comber_plan_seconds_count",
        "comber_store_commit_seconds_count",
        "comber_artifact_sent_bytes_total",
        "comber_upload_received_bytes_total",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    ] {
        assert!(value(&text, positive) > 0.0, "{positive} is 0");
    }
    helped(&text);
}

/// Every series belongs to a family with a help text and a type.
#[track_caller]
fn helped(text: &str) {
    let (_, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let named = |kind: &str, name: &str| {
        ["", "_total", "_bucket", "_count", "_sum", "_info"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .any(|family| body.contains(&format!("# {kind} {family} ")))
    };
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        assert!(named("HELP", name), "{name} has no help");
        assert!(named("TYPE", name), "{name} has no type");
    }
    assert!(body.trim_end().ends_with("# EOF"), "the exposition is cut");
}
