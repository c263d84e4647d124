//! A progress bar for bytes: building and uploading.
//!
//! Draws on standard error, and only where a person watches it.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::screen::Screen;

const TEMPLATE: &str = "{prefix:>9} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";

/// Clones are one and the same bar.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    bar: ProgressBar,
}

impl Meter {
    /// A bar that begins with `what` is done; hidden unless a person watches.
    pub(crate) fn new(screen: &Screen, what: &'static str) -> Self {
        let target = if screen.shows_progress() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style =
            ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(None, target)
            .with_style(style.progress_chars("=> "))
            .with_prefix(what);
        Self { bar }
    }

    /// `done` of `total` bytes.
    pub(crate) fn set(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    /// A line above the bar.
    pub(crate) fn note(&self, screen: &Screen, text: &str) {
        self.bar.suspend(|| screen.note(text));
    }

    /// Takes the bar away: the result says what there is to say.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
