//! What the host says of itself. The only file that knows `sysinfo`.
//!
//! Reads small files of the host and asks `systemd-detect-virt` once. Bias: a fact that cannot be read is empty, and a
//! selector that asks for it does not match; the agent never fails for it. Invariant: what comes out passes
//! [`Facts::check`].

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use comber_model::Facts;
use comber_model::facts::{CpuFacts, OsFacts, TEXT_MAX};
use comber_runtime::fsx;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// Longest file read here; os-release has a few hundred bytes.
const FILE_MAX: u64 = 64 << 10;
/// Most entries of `ID_LIKE` that a host may say.
const LIKE_MAX: usize = 16;

/// Reads facts; what cannot change within a boot is read once, when it is made.
#[derive(Debug, Clone)]
pub struct FactReader {
    root: PathBuf,
    virtualization: String,
    cpu_model: String,
}

impl FactReader {
    /// For a host whose releases go below `root`. Blocks for some milliseconds.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let system =
            System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
        let cpu_model = system
            .ok()
            .and_then(|system| system.cpus().first().map(|cpu| clean(cpu.brand())));
        Self {
            root: root.into(),
            virtualization: virtualization(),
            cpu_model: cpu_model.unwrap_or_default(),
        }
    }

    /// The facts as they are now. Blocks for about a millisecond.
    pub fn read(&self) -> Facts {
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
            timezone: timezone(Path::new("/")),
        }
    }
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
    let output = Command::new("systemd-detect-virt")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let text = output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    match clean(&text) {
        none if none == "none" => String::new(),
        kind => kind,
    }
}

/// The zone of the host's clock, found as the C library and its tools do: the name that `/etc/localtime` points to, else
/// the one in `/etc/timezone`, else the rule at the end of `/etc/localtime` itself. A host with none of them shows UTC.
fn timezone(root: &Path) -> String {
    let localtime = root.join("etc/localtime");
    let linked = std::fs::read_link(&localtime).unwrap_or_default();
    let linked = linked.to_string_lossy().into_owned();
    if let Some((_, name)) = linked.split_once("zoneinfo/") {
        return clean(name.trim_start_matches("posix/"));
    }
    let named = fsx::read_limited(&root.join("etc/timezone"), FILE_MAX).unwrap_or_default();
    let named = String::from_utf8_lossy(&named).into_owned();
    match named.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(name) => clean(name),
        None => rule(&fsx::read_limited(&localtime, FILE_MAX).unwrap_or_default()),
    }
}

/// The rule for today and later, which a file of tzfile(5) ends with: a line of its own.
fn rule(file: &[u8]) -> String {
    let Some(body) = file
        .strip_suffix(b"\n")
        .filter(|_| file.starts_with(b"TZif"))
    else {
        return String::new();
    };
    let line = body.rsplit(|byte| *byte == b'\n').next();
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    clean(line.filter(|line| line.is_ascii()).unwrap_or_default())
}

fn text_of(path: &str) -> String {
    let bytes = fsx::read_limited(Path::new(path), FILE_MAX).unwrap_or_default();
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

    #[test]
    fn this_host_has_facts_that_the_controller_takes() {
        let facts = FactReader::new("/").read();
        facts.check().unwrap();
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
    fn the_time_zone_is_found_where_systems_keep_it() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        assert_eq!(timezone(root.path()), "", "a host without any shows UTC");
        let file = b"TZif2\0\0binary\nmore\nCET-1CEST,M3.5.0,M10.5.0/3\n";
        std::fs::write(etc.join("localtime"), file).unwrap();
        assert_eq!(timezone(root.path()), "CET-1CEST,M3.5.0,M10.5.0/3");
        std::fs::write(etc.join("timezone"), "Asia/Tokyo\n").unwrap();
        assert_eq!(timezone(root.path()), "Asia/Tokyo");
        std::fs::remove_file(etc.join("localtime")).unwrap();
        let target = "../usr/share/zoneinfo/Europe/Berlin";
        std::os::unix::fs::symlink(target, etc.join("localtime")).unwrap();
        assert_eq!(timezone(root.path()), "Europe/Berlin");
        assert_eq!(rule(b"no such file\nUTC0\n"), "");
    }

    #[test]
    fn hostile_texts_are_cut_and_cleaned() {
        assert_eq!(clean(" a\u{1b}[31m\n"), "a[31m");
        let cut = clean(&"ä".repeat(TEXT_MAX));
        assert_eq!(cut.len(), TEXT_MAX - 1);
    }
}
