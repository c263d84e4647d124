//! Tells the service manager how the controller does: one line for `systemctl status`, and signs of life.
//!
//! Reads the core and changes nothing. Invariant: a sign of life is given only after the core was read, so it stops when
//! the one task that changes state hangs while it holds it, or the disk does not come back.

use std::time::Duration;

use comber_runtime::systemd::{Notifier, sign_of_life_due};

use crate::core::Core;

/// How often the line is looked at. It is told only where it changed, and nobody needs it sooner.
const STATUS: Duration = Duration::from_secs(30);

/// Runs for as long as the controller; ends at once where no service manager listens.
pub(super) async fn run(notifier: Notifier, core: Core, watchdog: Option<Duration>) {
    if !notifier.listens() {
        return;
    }
    let mut told = String::new();
    loop {
        let connected = core.read().await.streams();
        let line = format!("{connected} hosts connected");
        if line != told {
            notifier.status(&line);
            told = line;
        }
        notifier.alive();
        // Both arms may be dropped: they only wait.
        tokio::select! {
            () = tokio::time::sleep(STATUS) => {}
            () = sign_of_life_due(watchdog) => {}
        }
    }
}
