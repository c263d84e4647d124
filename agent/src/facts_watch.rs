//! Reads the facts and the packages every few minutes, and after an attempt changed what is installed; tells of changes
//! only.
//!
//! The pause between two readings bounds how often a host that keeps changing is told of. Invariant: each channel changes
//! exactly when what it holds does.

use std::{convert::Infallible, future::Future, path::PathBuf, sync::Arc, time::Duration};

use comber_model::{Facts, HostStatus};
use comber_runtime::clock::Clock;
use tokio::sync::watch;

use crate::facts::FactReader;
use crate::link::{Poke, poked};
use crate::packages::{HostPackages, PackageReader};
use crate::trust::TrustReport;

/// What one reading found.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// `None` where it failed.
    pub facts: Option<Facts>,
    /// `None` where there are none, or they are not known.
    pub packages: Option<Arc<HostPackages>>,
}

/// Where readings come from.
pub trait Reader: Send {
    /// Reads; may take as long as a slow host needs.
    fn read(&mut self) -> impl Future<Output = Reading> + Send;
}

/// The host itself.
#[derive(Debug)]
pub struct HostReader {
    /// Its facts.
    pub facts: FactReader,
    /// Its packages.
    pub packages: PackageReader,
    /// Where its record of what is trusted is, and the clock by which that ends.
    pub trust: (PathBuf, Clock),
}

impl Reader for HostReader {
    async fn read(&mut self) -> Reading {
        let facts = self.facts.read().await;
        let trust = self.trust().await;
        let facts = facts.map(|facts| Facts {
            trust: trust.to_owned(),
            ..facts
        });
        // Without facts the vendor is not known, and every purl would be another one.
        let packages = match &facts {
            Some(facts) => self.packages.read(&facts.os.id).await,
            None => None,
        };
        Reading { facts, packages }
    }
}

impl HostReader {
    async fn trust(&self) -> &'static str {
        let (state_dir, clock) = self.trust.clone();
        let read = move || TrustReport::read(&state_dir, clock.wall()).state.as_str();
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }
}

/// Where readings go.
#[derive(Debug, Default)]
pub struct Told {
    /// `None` until the first reading.
    pub facts: watch::Sender<Option<Facts>>,
    /// `None` where the host has none.
    pub packages: watch::Sender<Option<Arc<HostPackages>>>,
}

/// What makes it read before its time.
#[derive(Debug)]
pub struct Again {
    /// What is installed.
    pub status: watch::Receiver<HostStatus>,
    /// Somebody asks for it.
    pub pokes: watch::Receiver<Poke>,
}

/// Runs for as long as the agent.
pub async fn run(
    mut reader: impl Reader,
    interval: Duration,
    mut again: Again,
    told: Told,
) -> Infallible {
    loop {
        let reading = reader.read().await;
        if let Some(present) = reading.facts {
            told.facts.send_if_modified(|known| note(known, present));
        }
        if let Some(present) = reading.packages {
            told.packages.send_if_modified(|known| {
                let changed = known.as_ref() != Some(&present);
                if changed {
                    tracing::info!(count = present.list.count(), "packages changed");
                    *known = Some(present);
                }
                changed
            });
        }
        pause(interval, &mut again).await;
    }
}

/// True where these are news.
fn note(known: &mut Option<Facts>, present: Facts) -> bool {
    let present = match known {
        Some(known) => present.settled(known),
        None => present.settled(&Facts::default()),
    };
    let changed = known.as_ref() != Some(&present);
    if changed {
        if known.is_some() {
            tracing::info!("facts changed");
        }
        *known = Some(present);
    }
    changed
}

/// Ends with the interval, or when an attempt changed what is installed: then a reboot may be required, and packages
/// may be others. And when somebody asks.
async fn pause(interval: Duration, again: &mut Again) {
    let Again { status, pokes } = again;
    let installed = status.borrow_and_update().installed.clone();
    let differs = async {
        // The driver ends before this task only when the agent does.
        if status
            .wait_for(|status| status.installed != installed)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // All arms are cancel-safe: a timer, and watches that keep their values.
        () = tokio::time::sleep(interval) => {}
        () = differs => {}
        _ = poked(pokes) => {}
    }
}

#[cfg(test)]
mod tests {
    use comber_model::{AgentState, Digest, Generation, Installed};
    use jiff::Timestamp;

    use super::*;

    fn status(version: &str) -> HostStatus {
        let installed = Installed {
            version: version.parse().unwrap(),
            digest: Digest([1; 32]),
            previous: None,
        };
        HostStatus {
            generation: Generation(1),
            state: AgentState::Idle,
            since: Timestamp::UNIX_EPOCH,
            attempt: None,
            installed: [("app".parse().unwrap(), installed)].into(),
            locally_bad: Vec::new(),
            reports: Vec::new(),
            boot_id: "b".into(),
            agent_version: "0".into(),
        }
    }

    fn again(status: &watch::Sender<HostStatus>) -> Again {
        Again {
            status: status.subscribe(),
            pokes: crate::link::Pokes::default().subscribe(),
        }
    }

    /// Names itself by how often it was read, from the third time on.
    struct Counting(watch::Sender<u32>);

    impl Reader for Counting {
        async fn read(&mut self) -> Reading {
            self.0.send_modify(|count| *count += 1);
            let hostname = match *self.0.borrow() {
                0..3 => "one".to_owned(),
                count => count.to_string(),
            };
            Reading {
                facts: Some(Facts {
                    hostname,
                    ..Facts::default()
                }),
                packages: None,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_changes_are_told() {
        let (reads, status) = (watch::Sender::new(0), watch::Sender::new(status("1")));
        let told = Told::default();
        let mut heard = told.facts.subscribe();
        let interval = Duration::from_mins(10);
        let running = run(Counting(reads.clone()), interval, again(&status), told);
        let hearing = async {
            heard.changed().await.unwrap();
            assert_eq!(heard.borrow_and_update().as_ref().unwrap().hostname, "one");
            heard.changed().await.unwrap();
            assert_eq!(heard.borrow().as_ref().unwrap().hostname, "3");
        };
        tokio::select! {
            never = running => match never {},
            () = hearing => {}
        }
        assert_eq!(*reads.borrow(), 3, "equal facts were told");
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_attempt_installed_is_looked_at_at_once() {
        let (reads, sender) = (watch::Sender::new(0), watch::Sender::new(status("1")));
        let mut seen = reads.subscribe();
        let day = Duration::from_hours(24);
        let running = run(Counting(reads), day, again(&sender), Told::default());
        let begun = tokio::time::Instant::now();
        let driving = async {
            seen.wait_for(|count| *count == 1).await.unwrap();
            let mut same = status("1");
            same.state = AgentState::Fetching;
            sender.send_replace(same);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(*seen.borrow(), 1, "nothing was installed yet");
            sender.send_replace(status("2"));
            seen.wait_for(|count| *count == 2).await.unwrap();
        };
        tokio::select! {
            never = running => match never {},
            () = driving => {}
        }
        assert!(begun.elapsed() < day, "it waited for its interval");
    }
}
