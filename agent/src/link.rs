//! The link to the controller: one mTLS stream, kept for as long as the agent runs, made again whenever it breaks.
//!
//! ```text
//!   driver ──watch<HostStatus>──> session ──ActualState──> controller
//!   driver <──watch<LinkView>──── session <──DesiredState── controller
//!   facts  ──watch<Facts>───────> ReportFacts, when they differ from those last acknowledged
//!          ──watch<Packages>────> ReportPackages, when they differ from those that the controller holds
//! ```
//!
//! Level-triggered on both sides: each message says everything, and of states that follow each other quickly only the
//! last is sent. Only this module knows tonic. Invariants: nothing here waits for the driver, and the driver waits for
//! nothing here; a status is sent only after the driver published it, which it does once its ledger is durable.

mod calls;
mod facts;
mod packages;
mod session;
mod state;

use std::{sync::Arc, time::Duration};

use comber_model::{Facts, HostStatus, assignment::Desired};
use comber_proto::agent::v1::Presence;
use comber_runtime::{
    backoff::{Backoff, fraction, random_or},
    clock::Clock,
    identity::Identity,
    shutdown::Shutdown,
};
use http::Uri;
use tokio::sync::watch;

pub use calls::{CallError, Callee, IssuedPem, enrol, renew};
pub use packages::Packages;
pub(crate) use state::poked;
pub use state::{LinkState, Poke, Pokes, Reach};

use crate::{config::LinkSettings, identity::IdentityStore};
use facts::Acknowledged;
use session::Ended;

/// What the controller last said and whether it is there: the newest only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkView {
    /// Whether the stream is open.
    pub connected: bool,
    /// How often it was opened: tells that it is back, also to whoever did not see it gone.
    pub opened: u64,
    /// The last valid desired state, with the epoch of the controller that sent it.
    pub desired: Option<([u8; 16], Desired)>,
    /// How many valid desired states have come: tells that the same one came again.
    pub received: u64,
}

/// Everything that the link needs; [`Link::run`] is its task.
#[derive(Debug)]
pub struct Link {
    /// `https://host:port`.
    pub controller: Uri,
    /// Delays and timeouts.
    pub settings: LinkSettings,
    /// Read again before each connection.
    pub identity: Arc<IdentityStore>,
    /// For judging certificates.
    pub clock: Clock,
    /// What the driver has made durable.
    pub status: watch::Receiver<HostStatus>,
    /// What the host says of itself; `None` until it was looked at.
    pub facts: watch::Receiver<Option<Facts>>,
    /// What is installed on it.
    pub packages: Packages,
    /// For the driver.
    pub view: watch::Sender<LinkView>,
    /// For people.
    pub state: watch::Sender<LinkState>,
    /// Hurries it.
    pub pokes: watch::Receiver<Poke>,
}

impl Link {
    /// Connects, converses, and does so again until `shutdown`.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut backoff = Backoff::new(self.settings.backoff_min, self.settings.backoff_max);
        let mut acknowledged = Acknowledged::default();
        let mut told = String::new();
        let mut process = Process::new();
        loop {
            let started = self.clock.boot();
            let ended = self
                .once(&mut acknowledged, process.connects(), &shutdown)
                .await;
            if shutdown.is_set() {
                return;
            }
            let lasted = self.clock.boot().saturating_sub(started);
            let max = self.settings.backoff_max;
            let delay = delay(&mut backoff, &ended, lasted, max, random_or(u64::MAX));
            if matches!(ended, Ended::Asked) {
                continue;
            }
            self.show_ended(&ended, delay);
            log(&ended, delay, &mut told);
            tokio::select! {
                // All arms are cancel-safe: a timer, a poke and a token.
                () = tokio::time::sleep(delay) => {}
                _ = poked(&mut self.pokes) => {}
                _ = shutdown.wait() => return,
            }
        }
    }

    fn show_ended(&self, ended: &Ended, delay: Duration) {
        let was_open = matches!(ended, Ended::Closed { .. });
        self.state.send_modify(|state| {
            if was_open || state.since.is_none() {
                state.since = Some(self.clock.wall());
            }
            state.last_error = Some(ended.to_string());
            state.next_try = Some(self.clock.boot().saturating_add(delay));
            state.ended = state.ended.wrapping_add(1);
        });
    }

    async fn once(
        &mut self,
        acknowledged: &mut Acknowledged,
        presence: Option<Presence>,
        shutdown: &Shutdown,
    ) -> Ended {
        let identity = self.identity.reload();
        if let Some(explained) = expired(&identity, &self.clock) {
            return Ended::Expired { explained };
        }
        let ended = session::run(self, &identity, (acknowledged, presence), shutdown).await;
        self.view
            .send_if_modified(|view| std::mem::take(&mut view.connected));
        ended
    }
}

/// This process among all that ever hold this host's key: tells two machines from one that connects again.
struct Process {
    /// Absent where the kernel has no randomness; then the controller tells nothing apart.
    instance: Option<Vec<u8>>,
    connections: u64,
}

impl Process {
    fn new() -> Self {
        let halves = [random_or(0), random_or(0)];
        let instance = (!halves.contains(&0)).then(|| halves.map(u64::to_be_bytes).concat());
        Self {
            instance,
            connections: 0,
        }
    }

    /// What the next connection says of it.
    fn connects(&mut self) -> Option<Presence> {
        self.connections += 1;
        let connection = self.connections;
        let instance = self.instance.clone()?;
        Some(Presence {
            instance,
            connection,
        })
    }
}

/// How long to wait before connecting again.
///
/// A fleet loses its controller in one instant, so the first delay after a session that worked is drawn from the whole of
/// the first window; failures double the window. A session that ends sooner than the longest delay before it did not
/// work: two hosts with one identity would otherwise throw each other out for ever at full speed.
fn delay(
    backoff: &mut Backoff,
    ended: &Ended,
    lasted: Duration,
    max: Duration,
    random: u64,
) -> Duration {
    match ended {
        // Nothing helps but another identity, which is looked for at the slowest pace.
        Ended::Expired { .. } => max / 2 + fraction(max / 2, random),
        Ended::Closed { .. } | Ended::Shutdown | Ended::Asked => {
            if lasted >= backoff.ceiling() {
                backoff.reset();
            }
            backoff.next(random)
        }
        Ended::NotOpened { .. } => backoff.next(random),
    }
}

/// The explanation of a certificate that is over, with the remedy; `None` while it is valid.
pub fn expired(identity: &Identity, clock: &Clock) -> Option<String> {
    let (facts, now) = (identity.facts(), clock.wall());
    facts.is_expired(now).then(|| {
        format!(
            "the certificate of this host ended at {}, and it is {now} here: run comber-agent enroll with a new token, or \
             set the clock if it is wrong",
            facts.not_after
        )
    })
}

/// The one place where the link's ends are logged; the same trouble again is told at debug level only.
fn log(ended: &Ended, delay: Duration, told: &mut String) {
    let reason = ended.to_string();
    let again = *told == reason;
    let retry_in = humantime(delay);
    match ended {
        Ended::Shutdown | Ended::Asked => {}
        Ended::Closed { .. } => tracing::info!(reason, retry_in, "link closed"),
        Ended::NotOpened { .. } if again => tracing::debug!(reason, retry_in, "still no link"),
        Ended::NotOpened { .. } => tracing::warn!(reason, retry_in, "no link to the controller"),
        Ended::Expired { .. } if again => tracing::debug!(reason, retry_in, "still expired"),
        Ended::Expired { .. } => tracing::error!(reason, retry_in, "no link: certificate expired"),
    }
    *told = reason;
}

fn humantime(delay: Duration) -> String {
    comber_model::duration::format(delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_secs(7);
    const MAX: Duration = Duration::from_mins(2);

    fn closed() -> Ended {
        Ended::Closed {
            reason: "restart".into(),
        }
    }

    #[test]
    fn a_fleet_comes_back_spread_over_the_first_window_after_a_restart() {
        let hosts = 1000_u64;
        let mut tenths = [0_u32; 10];
        for host in 0..hosts {
            let mut backoff = Backoff::new(MIN, MAX);
            let random = host.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let day = Duration::from_hours(24);
            let delay = delay(&mut backoff, &closed(), day, MAX, random);
            assert!(delay <= MIN);
            let tenth = delay.as_nanos() * 10 / (MIN.as_nanos() + 1);
            tenths[usize::try_from(tenth).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|n| (80..120).contains(n)), "{tenths:?}");
    }

    #[test]
    fn sessions_that_end_at_once_are_tried_ever_more_slowly() {
        let mut backoff = Backoff::new(MIN, MAX);
        let second = Duration::from_secs(1);
        let mut next =
            |ended: &Ended, lasted| delay(&mut backoff, ended, lasted, MAX, u64::MAX).as_secs();
        assert_eq!(next(&closed(), second), 7);
        assert_eq!(next(&closed(), second), 14);
        let failed = Ended::NotOpened {
            reason: "refused".into(),
        };
        assert_eq!(next(&failed, second), 28);
        assert_eq!(next(&closed(), Duration::from_hours(1)), 7);
    }

    #[test]
    fn an_expired_certificate_is_looked_at_slowly_and_never_in_step() {
        let expired = Ended::Expired {
            explained: "over".into(),
        };
        let mut backoff = Backoff::new(MIN, MAX);
        let mut next =
            |random| delay(&mut backoff, &expired, Duration::ZERO, MAX, random).as_secs();
        assert_eq!((next(0), next(u64::MAX)), (60, 120));
    }
}
