//! What the host says of itself. The only file that knows `sysinfo`.
//!
//! Reads small files of the host, asks `systemd-detect-virt` once, and systemd and the reboot check's own questions each
//! time that may bring news. Bias: a fact that cannot be read is empty, and a
//! selector that asks for it does not match; the agent never fails for it. Invariant: what comes out passes
//! [`Facts::check`].

mod disks;
mod restart;
mod timezone;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use comber_model::Facts;
use comber_model::facts::{CpuFacts, NAMES_MAX, OsFacts, TEXT_MAX};
use comber_runtime::fsx;
use jiff::Timestamp;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use crate::exec::{Exec, tool};
use crate::reboot::Need;
use crate::systemd::Systemd;

/// Longest file read here; os-release has a few hundred bytes.
const FILE_MAX: u64 = 64 << 10;
/// Most entries of `ID_LIKE` that a host may say.
const LIKE_MAX: usize = 16;

/// Reads facts; what cannot change within a boot is read once, when it is made.
#[derive(Debug)]
pub struct FactReader {
    fixed: Fixed,
    restart: restart::Restart,
    systemd: Systemd,
}

/// What of the host is asked beside its files.
#[derive(Debug)]
pub struct Asked {
    /// Runs the tools.
    pub exec: Exec,
    /// Whether it needs a reboot.
    pub need: Need,
    /// Which units failed.
    pub systemd: Systemd,
}

/// What the reading of files needs.
#[derive(Debug, Clone)]
struct Fixed {
    root: PathBuf,
    boot_id_file: PathBuf,
    virtualization: String,
    cpu_model: String,
}

impl FactReader {
    /// For a host whose releases go below `root`, and whose boots that file tells apart. Blocks for some milliseconds.
    pub fn new(root: impl Into<PathBuf>, boot_id_file: impl Into<PathBuf>, asked: Asked) -> Self {
        let system =
            System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
        let cpu_model = system
            .ok()
            .and_then(|system| system.cpus().first().map(|cpu| clean(cpu.brand())));
        let fixed = Fixed {
            root: root.into(),
            boot_id_file: boot_id_file.into(),
            virtualization: virtualization(),
            cpu_model: cpu_model.unwrap_or_default(),
        };
        Self {
            fixed,
            restart: restart::Restart::new(asked.need, asked.exec),
            systemd: asked.systemd,
        }
    }

    /// The facts as they are now; `None` where reading them broke down.
    pub async fn read(&mut self) -> Option<Facts> {
        let fixed = self.fixed.clone();
        // On a thread of its own: a file system that hangs must not hold up the work in hand.
        let files = tokio::task::spawn_blocking(move || fixed.read()).await;
        let facts = match files {
            Ok(facts) => facts,
            Err(error) => {
                tracing::warn!(%error, "facts could not be read");
                return None;
            }
        };
        let reboot = self.restart.read().await;
        Some(Facts {
            failed_units: self.failed_units().await,
            reboot_required: reboot.required,
            reboot_required_by: reboot.by,
            ..facts
        })
    }

    /// None where there is no systemd, or it does not answer: a selector that asks for failed units does not match then.
    async fn failed_units(&self) -> Vec<String> {
        if !self.systemd.is_there() {
            return Vec::new();
        }
        match self.systemd.failed_units().await {
            // In the order of their names.
            Ok(units) => units
                .into_iter()
                .filter(|unit| unit.len() <= TEXT_MAX)
                .take(NAMES_MAX)
                .collect(),
            Err(error) => {
                tracing::debug!(%error, "failed units are not known");
                Vec::new()
            }
        }
    }
}

impl Fixed {
    /// Blocks for about a millisecond.
    fn read(&self) -> Facts {
        let uname = rustix::system::uname();
        let memory = MemoryRefreshKind::nothing().with_ram();
        let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory));
        let count = std::thread::available_parallelism().map_or(0, usize::from);
        Facts {
            os: os(&os_release()),
            kernel: clean(&uname.release().to_string_lossy()),
            arch: clean(&uname.machine().to_string_lossy()),
            cpu: CpuFacts {
                count: u32::try_from(count).unwrap_or(u32::MAX),
                model: self.cpu_model.clone(),
            },
            memory_bytes: system.map_or(0, |system| system.total_memory()),
            disk_bytes: fsx::free_space(&self.root).map_or(0, |space| space.total),
            hostname: clean(&uname.nodename().to_string_lossy()),
            machine_id: clean(&text_of("/etc/machine-id")),
            virtualization: self.virtualization.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            timezone: timezone::read(Path::new("/")),
            disks: disks::read(),
            boot_id: clean(&text_of(&self.boot_id_file)),
            booted_at: booted_at(System::boot_time().unwrap_or(0)),
            ..Facts::default()
        }
    }
}

/// To the minute: the kernel derives it from the wall clock, and it wavers with it. 0 means that it is not known.
fn booted_at(second: u64) -> Option<Timestamp> {
    let second = i64::try_from(second).ok().filter(|second| *second > 0)?;
    Timestamp::from_second(second - second % 60).ok()
}

/// The second place is for systems that ship the file with the image.
fn os_release() -> String {
    let text = text_of("/etc/os-release");
    if text.is_empty() {
        text_of("/usr/lib/os-release")
    } else {
        text
    }
}

fn os(release: &str) -> OsFacts {
    let value = |wanted: &str| {
        let lines = release.lines().filter_map(|line| line.split_once('='));
        // As in a shell, the last of several lines counts.
        let found = lines.rev().find(|(key, _)| key.trim() == wanted);
        found.map_or_else(String::new, |(_, value)| unquoted(value))
    };
    OsFacts {
        id: clean(&value("ID")),
        version: clean(&value("VERSION_ID")),
        like: value("ID_LIKE")
            .split_whitespace()
            .map(clean)
            .take(LIKE_MAX)
            .collect(),
    }
}

/// os-release(5) allows shell quoting; the values used here hold no character that needs an escape.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let inner = |quote| {
        let rest = value.strip_prefix(quote)?;
        rest.strip_suffix(quote)
    };
    inner('"')
        .or_else(|| inner('\''))
        .unwrap_or(value)
        .to_owned()
}

/// `none` is what it says on bare metal; a host without it says nothing.
fn virtualization() -> String {
    let output = tool("systemd-detect-virt").stderr(Stdio::null()).output();
    let text = output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    match clean(&text) {
        none if none == "none" => String::new(),
        kind => kind,
    }
}

fn text_of(path: impl AsRef<Path>) -> String {
    let bytes = fsx::read_limited(path.as_ref(), FILE_MAX).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text that the controller takes: without control characters, cut between characters.
fn clean(text: &str) -> String {
    let mut clean = String::new();
    for c in text.trim().chars().filter(|c| !c.is_control()) {
        if clean.len() + c.len_utf8() > TEXT_MAX {
            break;
        }
        clean.push(c);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::Variables;
    use crate::systemd::Use;

    #[tokio::test]
    async fn this_host_has_facts_that_the_controller_takes() {
        let boot_id = "/proc/sys/kernel/random/boot_id";
        let dir = tempfile::tempdir().unwrap();
        let exec = Exec::new(dir.path());
        let asked = Asked {
            exec: exec.clone(),
            need: Need::default(),
            systemd: Systemd::new(exec, Variables::new(), Use::Auto),
        };
        let facts = FactReader::new("/", boot_id, asked).read().await.unwrap();
        facts.check().unwrap();
        assert_eq!(facts.boot_id.len(), 36);
        assert!(facts.disks.contains_key("/"), "{facts:?}");
        assert!(facts.booted_at.is_some(), "{facts:?}");
        assert!(
            facts.cpu.count > 0 && facts.memory_bytes > 0 && facts.disk_bytes > 0,
            "{facts:?}"
        );
        assert_eq!(facts.arch, std::env::consts::ARCH);
        assert!(
            !facts.kernel.is_empty() && !facts.os.id.is_empty(),
            "{facts:?}"
        );
    }

    #[test]
    fn os_release_is_read_as_a_shell_would() {
        let found =
            os("ID=debian\nVERSION_ID=\"12\"\nID_LIKE='rhel  fedora'\nNAME=\"ID=x\"\nID=ubuntu\n");
        assert_eq!(
            (found.id.as_str(), found.version.as_str()),
            ("ubuntu", "12")
        );
        assert_eq!(found.like, ["rhel", "fedora"]);
        assert_eq!(os(""), OsFacts::default());
    }

    #[test]
    fn the_boot_is_told_to_the_minute() {
        let at = booted_at(1_700_000_059).unwrap();
        assert_eq!(at.as_second(), 1_700_000_040);
        assert_eq!((booted_at(0), booted_at(u64::MAX)), (None, None));
    }

    #[test]
    fn hostile_texts_are_cut_and_cleaned() {
        assert_eq!(clean(" a\u{1b}[31m\n"), "a[31m");
        let cut = clean(&"ä".repeat(TEXT_MAX));
        assert_eq!(cut.len(), TEXT_MAX - 1);
    }
}
