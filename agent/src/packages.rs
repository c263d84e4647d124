//! The packages installed on the host, read again only when its package databases changed.
//!
//! Asks `dpkg-query` and `rpm`, whichever database is there, within bounds. Invariant: a list is whole or there is none;
//! one that cannot be read keeps what was known.

mod dpkg;
mod rpm;
mod stamp;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use comber_model::packages::{Package, PackageList};
use comber_model::{Digest, Invalid};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

pub(crate) use stamp::Stamp;

use crate::exec::{Exec, ExecError, Printed, Run, of_tools};

/// A full database on a slow disk takes some seconds.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Longest answer: some ten thousand packages.
const ANSWER_MAX: u64 = 4 << 20;

/// A list and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPackages {
    /// The list.
    pub list: PackageList,
    /// sha256 of its text.
    pub digest: Digest,
}

impl HostPackages {
    /// Names a list.
    pub fn new(list: PackageList) -> Self {
        let digest = Digest(Sha256::digest(list.as_text()).into());
        Self { list, digest }
    }
}

/// Why the packages cannot be told.
#[derive(Debug, Error)]
pub enum PackagesError {
    /// The tool did not answer.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// It failed.
    #[error("{program} ended with status {code:?}")]
    Failed {
        /// The tool.
        program: &'static str,
        /// Its exit status.
        code: Option<i32>,
    },
    /// It says what cannot be.
    #[error("{program} prints a line that is no package: {line:?}")]
    Line {
        /// The tool.
        program: &'static str,
        /// The line, cut.
        line: String,
    },
    /// There are too many.
    #[error("the packages cannot be told")]
    List(#[from] Invalid),
}

/// Reads the packages below one root.
#[derive(Debug)]
pub struct PackageReader {
    root: PathBuf,
    exec: Exec,
    seen: Option<Stamp>,
    known: Option<Arc<HostPackages>>,
}

impl PackageReader {
    /// For a host whose releases go below `root`; its tools are asked with `exec`.
    pub fn new(root: impl Into<PathBuf>, exec: Exec) -> Self {
        Self {
            root: root.into(),
            exec,
            seen: None,
            known: None,
        }
    }

    /// The packages now; `None` where the host has no package database, or it could not be read yet. `vendor` is the
    /// distribution, as os-release(5) names it.
    pub async fn read(&mut self, vendor: &str) -> Option<Arc<HostPackages>> {
        let stamp = Stamp::of_all(&self.root);
        if stamp.is_empty() || self.seen.as_ref() == Some(&stamp) {
            return self.known.clone();
        }
        match self.ask(vendor).await {
            Ok(list) => {
                self.known = Some(Arc::new(HostPackages::new(list)));
                self.seen = Some(stamp);
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the installed packages cannot be read"
                );
            }
        }
        self.known.clone()
    }

    async fn ask(&self, vendor: &str) -> Result<PackageList, PackagesError> {
        // Characters as os-release(5) allows them; with any other the purls would be refused.
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let vendor = if vendor.bytes().all(allowed) {
            vendor
        } else {
            ""
        };
        let mut packages = Vec::new();
        if !Stamp::of_dpkg(&self.root).is_empty() {
            packages.extend(dpkg::read(&self.exec, &self.root, vendor).await?);
        }
        if !Stamp::of_rpm(&self.root).is_empty() {
            packages.extend(rpm::read(&self.exec, &self.root, vendor).await?);
        }
        Ok(PackageList::new(packages)?)
    }
}

async fn ask(exec: &Exec, command: &[String]) -> Result<Printed, ExecError> {
    let run = Run {
        command,
        dir: Path::new("/"),
        variables: &of_tools(),
        timeout: TIMEOUT,
    };
    exec.read(&run, ANSWER_MAX).await
}

/// Lines of four fields, as both tools are asked for them.
fn parse(
    program: &'static str,
    text: &str,
    package: impl Fn([&str; 4]) -> Option<Package>,
) -> Result<Vec<Package>, PackagesError> {
    let mut packages = Vec::new();
    for line in text.lines() {
        let wrong = || PackagesError::Line {
            program,
            line: line.chars().take(80).collect(),
        };
        let fields: Vec<&str> = line.split('\t').collect();
        let fields: [&str; 4] = fields.try_into().map_err(|_| wrong())?;
        if let Some(package) = package(fields) {
            package.check().map_err(|_| wrong())?;
            packages.push(package);
        }
    }
    Ok(packages)
}

#[cfg(test)]
mod tests;
