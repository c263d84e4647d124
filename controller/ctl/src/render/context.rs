//! Contexts as a table.
//!
//! Pure. Invariant: exactly the current one is marked.

use super::table::{Table, text};
use super::{Paint, View, table::cell};
use crate::context::Context;

/// One row each; `*` marks the current one.
pub(crate) fn contexts(view: &View, contexts: &[(Context, bool, String)]) -> String {
    let mut table = Table::new([
        text("CURRENT", 1, 9),
        text("NAME", 8, 8),
        text("CONTROLLER", 12, 7),
        text("OPERATOR", 8, 5),
        text("CERTIFICATE", 8, 1),
    ]);
    for (context, current, certificate) in contexts {
        let paint = if *current {
            Paint::Strong
        } else {
            Paint::Plain
        };
        table.row([
            cell(paint, if *current { "*" } else { " " }),
            cell(paint, context.name.clone()),
            context.entry.controller.clone().into(),
            context.entry.operator.clone().into(),
            certificate.clone().into(),
        ]);
    }
    table.render(view)
}
