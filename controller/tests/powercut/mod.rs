//! Emulated power cuts: a child process under load on a disk that forgets what was not synced.
//!
//! Compiles `powercut.c` with `cc`, starts this test binary again as the child, kills it, and puts together what a
//! disk would hold. The invariant: what [`Cut::disk`] makes holds synced bytes under synced names, and, when asked
//! to, a random choice of pages that were written and not synced.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The environment variable that tells a child its work: `kind:round:directory`.
pub(crate) const WORK: &str = "COMBER_STORE_CHILD";

/// What one run of the child told before it ended.
pub(crate) struct Run {
    /// Lines on its standard output.
    pub(crate) lines: Vec<String>,
    /// Its standard error, for a failing test to print.
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn acknowledged(&self) -> usize {
        self.lines
            .iter()
            .filter(|line| line.starts_with("ACK "))
            .count()
    }
}

/// When the child is killed.
#[derive(Clone, Copy)]
pub(crate) enum Kill {
    /// So long after its first acknowledgement.
    AfterFirstAck(Duration),
    /// So long after it was started, so that opening is interrupted, too.
    AfterStart(Duration),
    /// Not at all: it ends by itself.
    Never,
}

/// Builds the shim once for a test.
pub(crate) fn shim(home: &Path) -> PathBuf {
    let library = home.join("powercut.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/powercut/powercut.c");
    let built = Command::new("cc")
        .args(["-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(
        built.expect("cc runs").success(),
        "powercut.c does not compile"
    );
    library
}

/// A child of this test binary that has not been started yet.
pub(crate) struct Cut<'a> {
    pub(crate) kind: &'a str,
    pub(crate) round: u32,
    pub(crate) live: &'a Path,
    /// The shim and where it keeps the durable state; without it the child runs on the real disk.
    pub(crate) shim: Option<(&'a Path, &'a Path)>,
    pub(crate) env: &'a [(&'a str, &'a str)],
}

impl Cut<'_> {
    /// Runs the child until it is killed or ends.
    pub(crate) fn run(&self, kill: Kill) -> Run {
        let mut child = self.start();
        let stdout = child.stdout.take().expect("piped");
        let mut stderr = child.stderr.take().expect("piped");
        let (first, seen) = mpsc::channel();
        let reader = thread::spawn(move || {
            let mut lines = Vec::new();
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.starts_with("ACK ") && lines.iter().all(|l: &String| !l.starts_with("ACK "))
                {
                    let _ = first.send(());
                }
                lines.push(line);
            }
            lines
        });
        let errors = thread::spawn(move || {
            let mut text = String::new();
            drop(stderr.read_to_string(&mut text));
            text
        });
        match kill {
            Kill::AfterFirstAck(wait) => {
                // A child that dies early drops the channel; its errors are in the run.
                let _ = seen.recv_timeout(Duration::from_secs(20));
                thread::sleep(wait);
            }
            Kill::AfterStart(wait) => thread::sleep(wait),
            Kill::Never => {}
        }
        if !matches!(kill, Kill::Never) {
            drop(child.kill());
        }
        child.wait().expect("waits for the child");
        let lines = reader.join().expect("the reader ends");
        Run {
            lines,
            stderr: errors.join().expect("the reader ends"),
        }
    }

    fn start(&self) -> Child {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
        command.env(
            WORK,
            format!("{}:{}:{}", self.kind, self.round, self.live.display()),
        );
        if let Some((library, shadow)) = self.shim {
            command.env("LD_PRELOAD", library);
            command
                .env("POWERCUT_DIR", self.live)
                .env("POWERCUT_SHADOW", shadow);
        }
        command.envs(self.env.iter().copied());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("starts the child")
    }

    /// Puts together what the disk holds after the cut. With `torn`, some pages that were never synced are there.
    pub(crate) fn disk(&self, to: &Path, torn: Option<&mut Random>) {
        let (_, shadow) = self.shim.expect("only the shim knows what was synced");
        if !shadow.join("ready").exists() {
            // Killed before it came to its work: the disk is as it was.
            return copy_tree(self.live, to);
        }
        Disk {
            shadow,
            live: self.live,
            torn,
        }
        .copy("root", Path::new(""), to);
    }
}

struct Disk<'a> {
    shadow: &'a Path,
    live: &'a Path,
    torn: Option<&'a mut Random>,
}

impl Disk<'_> {
    fn copy(&mut self, names: &str, relative: &Path, to: &Path) {
        fs::create_dir_all(to).expect("creatable");
        // A directory that was never synced itself is empty.
        let listed = fs::read_to_string(self.shadow.join("names").join(names)).unwrap_or_default();
        for line in listed.lines() {
            let mut parts = line.splitn(3, ' ');
            let (kind, id, name) = (parts.next(), parts.next(), parts.next().expect("a name"));
            let (relative, target) = (relative.join(name), to.join(name));
            if kind == Some("D") {
                self.copy(&format!("{names}%{name}"), &relative, &target);
                continue;
            }
            let inode = self.shadow.join("inodes").join(id.expect("an id"));
            fs::write(&target, fs::read(inode).unwrap_or_default()).expect("writable");
            self.tear(&relative, &target, name);
        }
    }

    /// Only files that keep their name for life: of others the live content may belong to a successor.
    fn tear(&mut self, relative: &Path, target: &Path, name: &str) {
        let lives = ["journal-0", "acknowledged", "db", "checkpoint-0"];
        let Some(random) = self.torn.as_mut() else {
            return;
        };
        if !lives.iter().any(|prefix| name.starts_with(prefix)) {
            return;
        }
        let Ok(live) = fs::read(self.live.join(relative)) else {
            return;
        };
        let file = fs::OpenOptions::new()
            .write(true)
            .open(target)
            .expect("writable");
        for (page, bytes) in live.chunks(4096).enumerate() {
            if random.below(2) == 0 {
                file.write_all_at(bytes, page as u64 * 4096)
                    .expect("writable");
            }
        }
    }
}

/// What must be in the store: what was acknowledged, and, for each thread, the one thing that may or may not be.
#[derive(Default)]
pub(crate) struct Expected {
    /// Value and revision of each key; no value when it was removed.
    pub(crate) sure: BTreeMap<String, (Option<String>, u64)>,
    unsure: BTreeMap<String, Vec<Option<String>>>,
}

impl Expected {
    /// Takes in the lines of a run: `TRY thread key value` before a commit, `ACK thread key revision` after it.
    pub(crate) fn learn(&mut self, run: &Run) {
        let mut tried: BTreeMap<String, (String, Option<String>)> = BTreeMap::new();
        for line in &run.lines {
            let parts: Vec<&str> = line.split(' ').collect();
            match parts.as_slice() {
                ["TRY", thread, key, value] => {
                    let value = (*value != "-").then(|| (*value).to_owned());
                    tried.insert((*thread).to_owned(), ((*key).to_owned(), value));
                }
                ["ACK", thread, key, revision] => {
                    let (tried_key, value) = tried.remove(*thread).expect("tried before");
                    assert_eq!(&tried_key, key);
                    self.sure
                        .insert(tried_key, (value, revision.parse().expect("a number")));
                }
                _ => {}
            }
        }
        self.unsure = tried
            .into_values()
            .map(|(key, value)| (key, vec![value]))
            .collect();
    }

    /// Adds what was expected before this run and was not touched by it.
    pub(crate) fn also_possible(&mut self, before: Self) {
        for (key, sure) in before.sure {
            self.sure.entry(key).or_insert(sure);
        }
        for (key, values) in before.unsure {
            self.unsure.entry(key).or_default().extend(values);
        }
    }

    /// Says what is wrong in a store that holds `found`, and takes it as what is sure from now on.
    pub(crate) fn compare(&mut self, found: &BTreeMap<String, (String, u64)>) -> Vec<String> {
        let mut wrong = Vec::new();
        for (key, (value, revision)) in &self.sure {
            let is = found.get(key);
            let same = is.map(|(value, _)| value) == value.as_ref()
                && is.is_none_or(|(_, found)| found == revision);
            let unsure = self.unsure.get(key);
            let newer =
                unsure.is_some_and(|tried| tried.iter().any(|t| t.as_ref() == is.map(|(v, _)| v)));
            if !same && !newer {
                wrong.push(format!(
                    "{key}: acknowledged {value:?} at {revision}, found {is:?}"
                ));
            }
        }
        for (key, (value, _)) in found {
            let tried = self
                .unsure
                .get(key)
                .is_some_and(|tried| tried.contains(&Some(value.clone())));
            if !self.sure.contains_key(key) && !tried {
                wrong.push(format!("{key}: never written, found {value}"));
            }
        }
        let now = found.iter();
        self.sure = now
            .map(|(key, (v, r))| (key.clone(), (Some(v.clone()), *r)))
            .collect();
        self.unsure.clear();
        wrong
    }
}

/// Copies a directory with all that is in it.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("creatable");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copies");
        }
    }
}

/// A fixed sequence, so that the choices of a failing run can be made again.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
