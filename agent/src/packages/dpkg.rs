//! What dpkg says is installed.

use std::path::Path;

use comber_model::packages::{Package, PackageKind};

use super::{PackagesError, ask, parse};
use crate::exec::Exec;

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

pub(super) async fn read(
    exec: &Exec,
    root: &Path,
    vendor: &str,
) -> Result<Vec<Package>, PackagesError> {
    let command = [
        "dpkg-query".to_owned(),
        format!("--admindir={}", root.join("var/lib/dpkg").display()),
        "--show".to_owned(),
        format!("--showformat={FORMAT}"),
    ];
    let answer = ask(exec, &command).await?;
    match answer.status.code() {
        Some(0) => listed(&answer.out, vendor),
        // It ends so where it finds no package at all; a real failure writes nothing either, but with status 2.
        Some(1) if answer.out.is_empty() => Ok(Vec::new()),
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
