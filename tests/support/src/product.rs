//! A small product to roll out in tests: a few files and shell commands, whose behaviour each version chooses.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Short, so that what hangs is noticed soon; still long enough for a busy machine.
const TIMEOUTS: &str = "verify = \"5s\"\nactivate = \"30s\"\nreboot = \"10s\"\n";

/// One version of the product `app`.
#[derive(Debug, Clone)]
pub struct Product {
    /// Its version.
    pub version: String,
    /// Shell script that starts it; `true` where empty.
    pub start: String,
    /// Shell script of its check after activation; `true` where empty.
    pub check: String,
    /// systemd units that it consists of.
    pub units: Vec<String>,
    /// More files: path and content.
    pub files: Vec<(String, Vec<u8>)>,
    /// More lines of `release.toml`, before its tables.
    pub head: String,
    /// Lines of its timeouts.
    pub timeouts: String,
    /// More tables of `release.toml`.
    pub tail: String,
}

impl Product {
    /// A version that starts at once and is healthy.
    pub fn good(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            start: String::new(),
            check: String::new(),
            units: Vec::new(),
            files: Vec::new(),
            head: String::new(),
            timeouts: TIMEOUTS.to_owned(),
            tail: String::new(),
        }
    }

    /// A version whose check fails on every host.
    pub fn bad(version: &str) -> Self {
        Self {
            check: "echo the page is missing; exit 1".to_owned(),
            ..Self::good(version)
        }
    }

    /// Writes it as a directory for `comber release build`.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let files = directory.join("files");
        fs::create_dir_all(&files).with_context(|| format!("cannot make {}", files.display()))?;
        fs::write(files.join("version"), &self.version)?;
        for (path, content) in &self.files {
            fs::write(files.join(path), content)?;
        }
        let command = |script: &str| {
            let script = if script.is_empty() { "true" } else { script };
            format!("[\"/bin/sh\", \"-c\", {script:?}]")
        };
        let mut text = format!(
            "name = \"app\"\nversion = \"{}\"\n{}\n",
            self.version, self.head
        );
        let _ = writeln!(text, "[installer]\ntype = \"archive\"\npath = \"/app\"");
        let _ = writeln!(text, "start = {}", command(&self.start));
        let _ = writeln!(text, "units = {:?}", self.units);
        let _ = writeln!(text, "[timeouts]\n{}", self.timeouts);
        let _ = writeln!(text, "[[check]]\nname = \"page\"\ninterval = \"100ms\"");
        let _ = writeln!(text, "exec = {{ command = {} }}", command(&self.check));
        text.push_str(&self.tail);
        fs::write(directory.join("release.toml"), text).context("cannot write release.toml")
    }
}
