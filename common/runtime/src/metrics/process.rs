//! What the kernel accounts to this process, read from /proc at each scrape.
//!
//! Names and units are those that every Prometheus client library uses, so common dashboards work. A file that cannot
//! be read leaves its metrics out of the scrape rather than showing a zero.

use std::{fmt, fs, io};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// A collector of CPU time, memory, open files and start time.
#[derive(Debug)]
pub struct ProcessMetrics {
    ticks_per_second: f64,
    page_bytes: u64,
}

/// What one line of /proc/self/stat says of the process.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    resident_pages: u64,
}

impl ProcessMetrics {
    /// Reads the kernel's units once.
    pub fn new() -> Self {
        #[expect(
            clippy::cast_precision_loss,
            reason = "ticks a second are about a hundred"
        )]
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        Self {
            ticks_per_second,
            page_bytes: rustix::param::page_size() as u64,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a float is exact for 2^53 ticks, which take millions of years"
    )]
    fn seconds(&self, ticks: u64) -> f64 {
        ticks as f64 / self.ticks_per_second
    }
}

impl Default for ProcessMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(stat) = fs::read_to_string("/proc/self/stat")
            .ok()
            .as_deref()
            .and_then(parse_stat)
        {
            let cpu = ConstCounter::new(self.seconds(stat.cpu_ticks));
            add(
                &mut encoder,
                "process_cpu_seconds",
                "CPU time in user and kernel mode",
                &cpu,
            )?;
            let resident = gauge(stat.resident_pages.saturating_mul(self.page_bytes));
            add(
                &mut encoder,
                "process_resident_memory_bytes",
                "Memory in RAM",
                &resident,
            )?;
            if let Some(boot) = boot_time() {
                let start = ConstGauge::new(boot + self.seconds(stat.start_ticks));
                add(
                    &mut encoder,
                    "process_start_time_seconds",
                    "Start, in seconds since 1970",
                    &start,
                )?;
            }
        }
        if let Ok(count) = count_open_files() {
            add(
                &mut encoder,
                "process_open_fds",
                "Open files, sockets included",
                &gauge(count),
            )?;
        }
        if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
            add(
                &mut encoder,
                "process_max_fds",
                "Limit of open files",
                &gauge(limit),
            )?;
        }
        Ok(())
    }
}

fn add(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Fields are counted from behind the closing parenthesis: the program's name may hold spaces and parentheses.
fn parse_stat(line: &str) -> Option<Stat> {
    let (_, rest) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // proc(5) numbers from 1 and the first field here is its number 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        cpu_ticks: field(14)?.checked_add(field(15)?)?,
        start_ticks: field(22)?,
        resident_pages: field(24)?,
    })
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

fn count_open_files() -> io::Result<u64> {
    // Reading the directory opens one more file, which is not the process's own.
    let listed = fs::read_dir("/proc/self/fd")?.count() as u64;
    Ok(listed.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_shifts_nothing() {
        let line = "42 (a) (b c)) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 4 0 1234 9000000 321 184467";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                cpu_ticks: 12,
                start_ticks: 1234,
                resident_pages: 321
            })
        );
        assert_eq!(parse_stat("42 (short) S 1"), None);
    }

    #[test]
    fn a_scrape_has_all_of_them() {
        let mut metrics = crate::metrics::Metrics::new("test", "1.2.3");
        metrics.registry();
        let text = crate::metrics::encode(&metrics.seal()).unwrap();
        for part in [
            "# TYPE process_cpu_seconds counter",
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_max_fds ",
            "process_start_time_seconds ",
            "comber_build_info{component=\"test\",version=\"1.2.3\"} 1",
            "# EOF",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }

    #[test]
    fn open_files_are_counted() {
        let before = count_open_files().unwrap();
        let _held: Vec<_> = (0..50)
            .map(|_| fs::File::open("/proc/self/stat").unwrap())
            .collect();
        let after = count_open_files().unwrap();
        assert!(
            after >= before.min(after) + 40 || after > 50,
            "{before} then {after}"
        );
    }
}
