//! One line that tells what is waited for: counting down on a terminal, a line for each change elsewhere.
//!
//! Writes to standard error. Invariant: nothing said is said twice in a row.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::screen::Screen;

/// The line.
#[derive(Debug)]
pub(crate) struct Ticker {
    bar: Option<ProgressBar>,
    screen: Screen,
    ticks: Interval,
    said: String,
}

impl Ticker {
    /// Shows nothing yet.
    pub(crate) fn new(screen: &Screen) -> Self {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self {
            bar: screen.shows_progress().then(spinner),
            screen: screen.clone(),
            ticks,
            said: String::new(),
        }
    }

    /// When the line is due again; never where it is not redrawn.
    pub(crate) async fn tick(&mut self) {
        match self.bar {
            Some(_) => drop(self.ticks.tick().await),
            None => std::future::pending().await,
        }
    }

    /// Shows `text` in place of what was there.
    pub(crate) fn say(&mut self, text: &str) {
        if self.said == text {
            return;
        }
        text.clone_into(&mut self.said);
        match &self.bar {
            Some(bar) => {
                bar.set_message(text.to_owned());
                bar.tick();
            }
            None if self.screen.is_json() => {}
            None => self.screen.note(text),
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}
