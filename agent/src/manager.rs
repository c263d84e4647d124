//! Tells the service manager what the agent does: one line for `systemctl status`, and signs of life.
//!
//! Invariant: a sign of life comes from the thread that also runs the driver and the link, so it stops when they hang.

use std::time::Duration;

use comber_model::HostStatus;
use comber_runtime::systemd::{Notifier, sign_of_life_due};
use tokio::sync::watch;

use crate::link::LinkView;

/// Runs for as long as driver and link.
pub async fn run(
    notifier: Notifier,
    mut status: watch::Receiver<HostStatus>,
    mut view: watch::Receiver<LinkView>,
    watchdog: Option<Duration>,
) {
    let mut told = String::new();
    loop {
        let line = line(
            &status.borrow_and_update(),
            view.borrow_and_update().connected,
        );
        if line != told {
            notifier.status(&line);
            told = line;
        }
        let changed = tokio::select! {
            // All arms are cancel-safe: changes that stay unseen, and a timer that starts anew.
            changed = status.changed() => changed,
            changed = view.changed() => changed,
            () = sign_of_life_due(watchdog) => {
                notifier.alive();
                Ok(())
            }
        };
        if changed.is_err() {
            return;
        }
    }
}

fn line(status: &HostStatus, connected: bool) -> String {
    let link = if connected {
        "linked"
    } else {
        "no link to the controller"
    };
    match &status.attempt {
        Some(attempt) => format!(
            "{}, {} for {}; {link}",
            status.state, attempt.release, attempt.rollout
        ),
        None => format!("{}; {link}", status.state),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use comber_model::{AgentState, Generation};
    use jiff::Timestamp;

    use super::*;

    fn idle() -> HostStatus {
        HostStatus {
            generation: Generation(0),
            state: AgentState::Idle,
            since: Timestamp::UNIX_EPOCH,
            attempt: None,
            installed: std::collections::BTreeMap::default(),
            locally_bad: Vec::new(),
            reports: Vec::new(),
            boot_id: String::new(),
            agent_version: String::new(),
        }
    }

    #[tokio::test]
    async fn the_manager_hears_of_changes_and_of_life() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let status = watch::Sender::new(idle());
        let view = watch::Sender::new(LinkView::default());
        let watchdog = Some(Duration::from_millis(30));
        let running = run(
            Notifier::at(path),
            status.subscribe(),
            view.subscribe(),
            watchdog,
        );
        manager.set_nonblocking(true).unwrap();
        let manager = tokio::net::UnixDatagram::from_std(manager).unwrap();
        let test = async {
            let hear = async || {
                let mut bytes = [0; 128];
                let n = manager.recv(&mut bytes).await.unwrap();
                String::from_utf8_lossy(&bytes[..n]).into_owned()
            };
            assert_eq!(hear().await, "STATUS=idle; no link to the controller");
            assert_eq!(hear().await, "WATCHDOG=1");
            view.send_modify(|view| view.connected = true);
            while hear().await != "STATUS=idle; linked" {}
        };
        tokio::select! {
            () = running => panic!("it ended while driver and link live"),
            () = test => {}
        }
        drop(status);
    }
}
