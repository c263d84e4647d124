//! A frame of lines, redrawn in place.
//!
//! Writes to the terminal on standard output. Invariant: what was above the frame stays.

use std::io::Write as _;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// As often as the eye gains from.
const REDRAWS_PER_SECOND: u8 = 10;

/// The frame on the screen.
#[derive(Debug)]
pub(super) struct Live {
    all: MultiProgress,
    lines: Vec<ProgressBar>,
}

impl Live {
    /// An empty frame.
    pub(super) fn new() -> Self {
        let target = ProgressDrawTarget::stdout_with_hz(REDRAWS_PER_SECOND);
        Self {
            all: MultiProgress::with_draw_target(target),
            lines: Vec::new(),
        }
    }

    /// Shows `lines` in place of those before.
    pub(super) fn draw(&mut self, lines: &[String]) {
        while self.lines.len() > lines.len() {
            if let Some(line) = self.lines.pop() {
                line.finish_and_clear();
                self.all.remove(&line);
            }
        }
        while self.lines.len() < lines.len() {
            self.lines.push(self.all.add(plain_line()));
        }
        for (line, text) in self.lines.iter().zip(lines) {
            // An empty message would make the line vanish and the frame jump.
            let text = if text.is_empty() { " " } else { text };
            line.set_message(text.to_owned());
        }
    }

    /// Leaves the last frame on the screen.
    pub(super) fn finish(self) {
        for line in &self.lines {
            line.abandon();
        }
        // The cursor is left behind the last line; whatever comes next begins on a line of its own.
        let _ = writeln!(std::io::stdout());
    }
}

fn plain_line() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new_spinner().with_style(style)
}
