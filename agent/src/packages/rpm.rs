//! What rpm says is installed.

use std::ffi::OsString;
use std::path::Path;

use comber_model::packages::{Package, PackageKind};

use super::{BOUNDS, PackagesError, parse};
use crate::query::ask;

const FORMAT: &str = "%{EPOCHNUM}\t%{NAME}\t%{VERSION}-%{RELEASE}\t%{ARCH}\n";
/// Keys that rpm keeps among its packages.
const NO_PACKAGE: &str = "gpg-pubkey";

pub(super) async fn read(root: &Path, vendor: &str) -> Result<Vec<Package>, PackagesError> {
    let mut command: Vec<OsString> = vec!["rpm".into()];
    if root != Path::new("/") {
        // Not --root: that needs to be root, and runs what it finds there.
        let places = ["usr/lib/sysimage/rpm", "var/lib/rpm"].map(|place| root.join(place));
        let place = places.into_iter().find(|place| place.is_dir());
        command.extend(place.map(|place| {
            let mut option = OsString::from("--dbpath=");
            option.push(place);
            option
        }));
    }
    command.extend(["--query", "--all", "--queryformat", FORMAT].map(OsString::from));
    let answer = ask(&command, BOUNDS).await?;
    match answer.code {
        Some(0) => listed(&answer.text, vendor),
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
