//! Answers the subcommands.
//!
//! Reads what the link and the driver show, hurries the link, and hands a wish to leave to the driver, which decides.
//! Bounds: so many connections at once, one question of a kilobyte each, some seconds for it. Invariant: whatever is said
//! on the socket, the agent's work goes on.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comber_runtime::clock::Clock;
use comber_runtime::telemetry::error_chain;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::{Answer, Ask, LinkReport, QUESTION_MAX, address, line, place, read};
use crate::driver::Leave;
use crate::link::{LinkState, Reach};

/// More people do not sit in front of one host.
const CONNECTIONS_MAX: usize = 8;
/// For the question to come and the answer to be taken.
const TALK_MAX: Duration = Duration::from_secs(5);
/// Connecting takes ten seconds at most by default, and the controller then says its state.
const CHECK_MAX: Duration = Duration::from_secs(20);
/// How long a controller that is linked has to say something new.
const NEWS_MAX: Duration = Duration::from_secs(1);
/// After an error of the socket itself, which is a lack of descriptors or memory.
const ERROR_PAUSE: Duration = Duration::from_secs(1);

/// The socket, with what is behind it.
#[derive(Debug)]
pub struct Local {
    listener: UnixListener,
    path: PathBuf,
    /// The agent's user.
    owner: u32,
    /// The link.
    pub reach: Reach,
    /// What it says of itself.
    pub state: watch::Receiver<LinkState>,
    /// The driver's ear for a wish to leave.
    pub leave: mpsc::Sender<Leave>,
    /// Tells how long it is until the next try.
    pub clock: Clock,
}

/// There is no socket.
#[derive(Debug, Error)]
pub enum LocalError {
    /// The kernel or the disk refused.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was being done.
        step: &'static str,
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Local {
    /// Makes the socket. For the one agent that holds the lock of the state directory: what is there before was left by
    /// one that is gone.
    pub fn open(
        state_dir: &Path,
        reach: Reach,
        state: watch::Receiver<LinkState>,
        leave: mpsc::Sender<Leave>,
        clock: Clock,
    ) -> Result<Self, LocalError> {
        let path = place(state_dir);
        let failed = |step| {
            let path = path.clone();
            move |source| LocalError::Io { step, path, source }
        };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("replace")(error));
            }
            Ok(()) | Err(_) => {}
        }
        let (address, _dir) = address(state_dir).map_err(failed("find"))?;
        let listener = UnixListener::bind(address).map_err(failed("make"))?;
        // The directory lets nobody else in meanwhile, and who connects is looked at.
        let only_owner = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, only_owner).map_err(failed("protect"))?;
        let owner = rustix::process::geteuid().as_raw();
        Ok(Self {
            listener,
            path,
            owner,
            reach,
            state,
            leave,
            clock,
        })
    }

    /// Answers for as long as the agent runs.
    pub async fn run(self) -> Infallible {
        let mut talks = FuturesUnordered::new();
        loop {
            tokio::select! {
                // Both arms are cancel-safe: a connection that was not taken waits, and talks stay where they are.
                taken = self.listener.accept(), if talks.len() < CONNECTIONS_MAX => match taken {
                    Ok((stream, _)) => talks.push(self.talk(stream)),
                    Err(error) => {
                        tracing::warn!(%error, "the local socket takes no connection");
                        sleep(ERROR_PAUSE).await;
                    }
                },
                Some(()) = talks.next() => {}
            }
        }
    }

    async fn talk(&self, mut stream: UnixStream) {
        if !self.may_ask(&stream) {
            return;
        }
        let Ok(question) = timeout(TALK_MAX, question(&mut stream)).await else {
            return;
        };
        let answer = match question {
            Ok(question) => self.answer(question).await,
            Err(why) => Answer::Refused { why },
        };
        let Ok(bytes) = line(answer) else { return };
        // Whoever asked may be gone; that is their business.
        let _ = timeout(TALK_MAX, stream.write_all(&bytes)).await;
    }

    fn may_ask(&self, stream: &UnixStream) -> bool {
        let uid = stream.peer_cred().map(|peer| peer.uid());
        let may = uid
            .as_ref()
            .is_ok_and(|uid| *uid == 0 || *uid == self.owner);
        if !may {
            tracing::warn!(?uid, "somebody who is not root asked on the local socket");
        }
        may
    }

    async fn answer(&self, question: Ask) -> Answer {
        match question {
            Ask::Link => Answer::Link(self.link()),
            Ask::CheckNow => {
                // What is not there in time is told as it is then.
                let _ = timeout(CHECK_MAX, self.check()).await;
                Answer::Link(self.link())
            }
            Ask::Unenroll { force } => self.unenroll(force).await,
        }
    }

    fn link(&self) -> LinkReport {
        let (view, state) = (self.reach.view.borrow(), self.state.borrow());
        let left = state
            .next_try
            .map(|at| at.saturating_sub(self.clock.boot()));
        LinkReport {
            connected: view.connected,
            since: state.since,
            last_error: state.last_error.clone(),
            next_try_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            opened: view.opened,
        }
    }

    /// Hurries the link, and waits until the controller said something or a try failed.
    async fn check(&self) {
        let mut view = self.reach.view.clone();
        let mut state = self.state.clone();
        let before = view.borrow_and_update().clone();
        let ended = state.borrow_and_update().ended;
        self.reach.pokes.now();
        if before.connected {
            let news = view.wait_for(|view| view.received != before.received);
            let _ = timeout(NEWS_MAX, news).await;
            return;
        }
        let opened =
            view.wait_for(|view| view.opened != before.opened && view.received != before.received);
        let failed = state.wait_for(|state| state.ended != ended);
        tokio::select! {
            // Both arms only look at the newest value.
            _ = opened => {}
            _ = failed => {}
        }
    }

    async fn unenroll(&self, force: bool) -> Answer {
        let (answer, answered) = oneshot::channel();
        let asked = self.leave.send(Leave { force, answer }).await;
        match (asked, answered.await) {
            (Ok(()), Ok(Ok(()))) => Answer::Leaving,
            (Ok(()), Ok(Err(why))) => Answer::Refused { why },
            _ => Answer::Refused {
                why: "the agent is ending".to_owned(),
            },
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(
                error = error_chain(&error),
                "the local socket is left behind"
            );
        }
    }
}

/// One line of at most a kilobyte.
async fn question(stream: &mut UnixStream) -> Result<Ask, String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 256];
    while !bytes.contains(&b'\n') {
        let count = stream
            .read(&mut chunk)
            .await
            .map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("the question ends in the middle".to_owned());
        }
        bytes.extend_from_slice(&chunk[..count]);
        if bytes.len() > QUESTION_MAX {
            return Err(format!("the question has more than {QUESTION_MAX} bytes"));
        }
    }
    read(&bytes)
}
