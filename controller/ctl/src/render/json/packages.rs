//! Packages.

use comber_proto::host::v1 as wire;
use serde::Serialize;

use crate::render::text::hex;

/// Names a list of packages.
#[derive(Debug, Serialize)]
pub(crate) struct PackageSummary {
    /// sha256 in hexadecimal digits: equal on hosts that have the same packages.
    digest: String,
    count: u32,
}

/// The packages of a host.
#[derive(Debug, Serialize)]
pub(crate) struct HostPackages {
    host: String,
    /// `null` where it never reported any.
    summary: Option<PackageSummary>,
    packages: Vec<Package>,
}

#[derive(Debug, Serialize)]
struct Package {
    purl: String,
    name: String,
    version: String,
    arch: String,
}

impl From<&wire::PackageSummary> for PackageSummary {
    fn from(summary: &wire::PackageSummary) -> Self {
        Self {
            digest: hex(&summary.digest),
            count: summary.count,
        }
    }
}

impl HostPackages {
    /// Of a host, all pages joined.
    pub(crate) fn new(host: &str, list: &wire::ListPackagesResponse) -> Self {
        let package = |package: &wire::Package| Package {
            purl: package.purl.clone(),
            name: package.name.clone(),
            version: package.version.clone(),
            arch: package.arch.clone(),
        };
        Self {
            host: host.to_owned(),
            summary: list.summary.as_ref().map(PackageSummary::from),
            packages: list.packages.iter().map(package).collect(),
        }
    }
}
