//! Errors as people read them: what, why, what to do.
//!
//! Pure. Invariant: the first line alone says what failed.

use super::{Paint, View, text::indented, text::wrap};
use crate::error::CliError;

/// `error: ...`, its causes indented, then hints.
pub(crate) fn error(view: &View, error: &CliError) -> String {
    let mut out = wrap(view, "error: ", &error.what);
    for cause in &error.causes {
        if cause.trim().contains('\n') {
            // Lines that point at a place in a file stand as they are: their columns matter.
            for line in cause.lines() {
                if line.contains(" | ") || line.trim_end().ends_with('|') {
                    out.push_str(&indented(line));
                } else {
                    out.push_str(&wrap(view, "  ", line));
                }
            }
        } else {
            out.push_str(&wrap(view, "  ", cause));
        }
    }
    for hint in &error.hints {
        out.push_str(&wrap(view, "hint: ", hint));
    }
    let painted = |out: String, word: &str, paint| match out.strip_prefix(word) {
        Some(rest) => format!("{}{rest}", view.paint(paint, word)),
        None => out.replace(
            &format!("\n{word}"),
            &format!("\n{}", view.paint(paint, word)),
        ),
    };
    painted(painted(out, "error:", Paint::Bad), "hint:", Paint::Strong)
}
