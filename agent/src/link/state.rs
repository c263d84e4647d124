//! What the link says of itself to people and to checks, and how it is hurried.
//!
//! Values and channels only. Invariant: a poke asks for something that the link does anyway, only now; poked as often as
//! one likes, it never does more than one thing at a time.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::LinkView;

/// Where the link stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkState {
    /// Since when it is open, or not, by the host's clock; absent before the first try has ended.
    pub since: Option<Timestamp>,
    /// How the last session or try ended; absent where there was none.
    pub last_error: Option<String>,
    /// When it is tried again, on the boot clock; absent while it is open or being opened.
    pub next_try: Option<Duration>,
    /// How many tries and sessions have ended.
    pub ended: u64,
}

/// How often each thing was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Poke {
    /// To connect now, or to say the actual state once more.
    pub now: u64,
    /// To leave the session and connect anew.
    pub anew: u64,
}

/// Hurries the link. Clones are one and the same.
#[derive(Clone, Debug, Default)]
pub struct Pokes(watch::Sender<Poke>);

impl Pokes {
    /// The link's end.
    pub fn subscribe(&self) -> watch::Receiver<Poke> {
        self.0.subscribe()
    }

    /// Connects now where there is no session; else says the actual state once more.
    pub fn now(&self) {
        self.0
            .send_modify(|poke| poke.now = poke.now.wrapping_add(1));
    }

    /// Connects anew, whatever there is.
    pub fn anew(&self) {
        self.0
            .send_modify(|poke| poke.anew = poke.anew.wrapping_add(1));
    }
}

/// Proves that the controller can be reached now.
#[derive(Clone, Debug)]
pub struct Reach {
    /// Hurries the link.
    pub pokes: Pokes,
    /// What it shows.
    pub view: watch::Receiver<LinkView>,
}

impl Reach {
    /// Waits for a session that was opened after this call: an old one may only look open. For ever, where there comes
    /// none.
    pub async fn anew(&self) {
        let mut view = self.view.clone();
        let before = view.borrow_and_update().opened;
        self.pokes.anew();
        self.wait(view, before).await;
    }

    /// Waits for any session of this process.
    pub async fn any(&self) {
        self.wait(self.view.clone(), 0).await;
    }

    async fn wait(&self, mut view: watch::Receiver<LinkView>, before: u64) {
        let opened = view.wait_for(|view| view.connected && view.opened > before);
        if opened.await.is_err() {
            // The link has ended and with it soon the agent.
            std::future::pending::<()>().await;
        }
    }
}

/// The next poke. Never, once nobody can poke any more. Cancel-safe: one that was not seen stays unseen.
pub(crate) async fn poked(pokes: &mut watch::Receiver<Poke>) -> Poke {
    if pokes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    *pokes.borrow_and_update()
}
