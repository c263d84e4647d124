//! The packages of a host.
//!
//! Pure. Invariant: a host that never reported any is told from one that has none.

use comber_proto::host::v1::ListPackagesResponse;

use super::table::{Table, cell, prose, text};
use super::{Paint, View};

/// One row each, and how many there are.
pub(crate) fn packages(view: &View, host: &str, list: &ListPackagesResponse) -> String {
    let Some(summary) = &list.summary else {
        return format!("{host} has reported no packages\n");
    };
    let mut table = Table::new([
        prose("PACKAGE", 20, 9),
        prose("VERSION", 16, 8),
        text("ARCH", 5, 5),
    ]);
    for package in &list.packages {
        table.row([
            cell(Paint::Strong, package.name.clone()),
            package.version.clone().into(),
            package.arch.clone().into(),
        ]);
    }
    let count = match summary.count {
        1 => "1 package\n".to_owned(),
        count => format!("{count} packages\n"),
    };
    if list.packages.is_empty() {
        return count;
    }
    format!("{}{count}", table.render(view))
}
