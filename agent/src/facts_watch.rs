//! Reads the facts every few minutes and tells of changes only.
//!
//! Invariant: the channel changes exactly when the facts do.

use std::{convert::Infallible, time::Duration};

use comber_model::Facts;
use tokio::sync::watch;

use crate::link::{Poke, poked};

/// Runs for as long as the agent. `read` may block for a moment: it goes to a thread of its own, so that a file system
/// that hangs does not hold up the work in hand.
pub async fn run(
    read: impl Fn() -> Facts + Clone + Send + 'static,
    interval: Duration,
    facts: watch::Sender<Facts>,
    mut pokes: watch::Receiver<Poke>,
) -> Infallible {
    loop {
        tokio::select! {
            // Both arms are cancel-safe: a timer, and a poke that stays unseen.
            () = tokio::time::sleep(interval) => {}
            _ = poked(&mut pokes) => {}
        }
        match tokio::task::spawn_blocking(read.clone()).await {
            Ok(present) => {
                facts.send_if_modified(|known| {
                    let changed = *known != present;
                    if changed {
                        tracing::info!("facts changed");
                        *known = present;
                    }
                    changed
                });
            }
            Err(error) => tracing::warn!(%error, "facts could not be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn named(hostname: &str) -> Facts {
        Facts {
            hostname: hostname.to_owned(),
            ..Facts::default()
        }
    }

    #[tokio::test]
    async fn only_changes_are_told() {
        let told = watch::Sender::new(named("one"));
        let mut heard = told.subscribe();
        let host = Arc::new(Mutex::new((named("one"), 0)));
        let reader = Arc::clone(&host);
        let read = move || {
            let mut host = reader.lock().unwrap();
            host.1 += 1;
            if host.1 == 3 {
                host.0 = named("two");
            }
            host.0.clone()
        };
        let pokes = crate::link::Pokes::default();
        let running = run(read, Duration::from_millis(1), told, pokes.subscribe());
        tokio::select! {
            never = running => match never {},
            changed = heard.changed() => changed.unwrap(),
        }
        assert_eq!(heard.borrow().hostname, "two");
        assert_eq!(host.lock().unwrap().1, 3, "equal facts were told");
    }
}
