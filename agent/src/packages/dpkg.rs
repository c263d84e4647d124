//! What dpkg says is installed.

use std::ffi::OsString;
use std::path::Path;

use comber_model::packages::{Package, PackageKind};

use super::{BOUNDS, PackagesError, parse};
use crate::query::ask;

const FORMAT: &str = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n";
/// States in which files of a package are on the disk. Some of them, where it is half-installed; every package is that for
/// a moment of its upgrade, and a list must not say then that it is not there.
const PRESENT: [&str; 6] = [
    "installed",
    "half-installed",
    "unpacked",
    "half-configured",
    "triggers-awaited",
    "triggers-pending",
];

pub(super) async fn read(root: &Path, vendor: &str) -> Result<Vec<Package>, PackagesError> {
    let mut database = OsString::from("--admindir=");
    database.push(root.join("var/lib/dpkg"));
    let command = [
        OsString::from("dpkg-query"),
        database,
        "--show".into(),
        format!("--showformat={FORMAT}").into(),
    ];
    let answer = ask(&command, BOUNDS).await?;
    match answer.code {
        Some(0) => listed(&answer.text, vendor),
        // It ends so where it finds no package at all; a real failure writes nothing either, but with status 2.
        Some(1) if answer.text.is_empty() => Ok(Vec::new()),
        code => Err(PackagesError::Failed {
            program: "dpkg-query",
            code,
        }),
    }
}

pub(super) fn listed(text: &str, vendor: &str) -> Result<Vec<Package>, PackagesError> {
    parse("dpkg-query", text, |[state, name, version, arch]| {
        PRESENT.contains(&state).then(|| Package {
            kind: PackageKind::Deb,
            vendor: vendor.to_owned(),
            name: name.to_owned(),
            version: version.to_owned(),
            arch: arch.to_owned(),
        })
    })
}
