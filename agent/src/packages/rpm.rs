//! What rpm says is installed.

use std::path::Path;

use comber_model::packages::{Package, PackageKind};

use super::{PackagesError, ask, parse};
use crate::exec::Exec;

const FORMAT: &str = "%{EPOCHNUM}\t%{NAME}\t%{VERSION}-%{RELEASE}\t%{ARCH}\n";
/// Keys that rpm keeps among its packages.
const NO_PACKAGE: &str = "gpg-pubkey";

pub(super) async fn read(
    exec: &Exec,
    root: &Path,
    vendor: &str,
) -> Result<Vec<Package>, PackagesError> {
    let mut command = vec!["rpm".to_owned()];
    if root != Path::new("/") {
        // Not --root: that needs to be root, and runs what it finds there.
        let places = ["usr/lib/sysimage/rpm", "var/lib/rpm"].map(|place| root.join(place));
        let place = places.into_iter().find(|place| place.is_dir());
        command.extend(place.map(|place| format!("--dbpath={}", place.display())));
    }
    command.extend(["--query", "--all", "--queryformat", FORMAT].map(str::to_owned));
    let answer = ask(exec, &command).await?;
    match answer.status.code() {
        Some(0) => listed(&answer.out, vendor),
        code => Err(PackagesError::Failed {
            program: "rpm",
            code,
        }),
    }
}

pub(super) fn listed(text: &str, vendor: &str) -> Result<Vec<Package>, PackagesError> {
    parse("rpm", text, |[epoch, name, version, arch]| {
        let version = match epoch {
            "0" | "(none)" => version.to_owned(),
            epoch => format!("{epoch}:{version}"),
        };
        let arch = if arch == "(none)" { "" } else { arch };
        (name != NO_PACKAGE).then(|| Package {
            kind: PackageKind::Rpm,
            vendor: vendor.to_owned(),
            name: name.to_owned(),
            version,
            arch: arch.to_owned(),
        })
    })
}
