//! The agent's local socket: what the subcommands of `comber-agent` ask the agent that runs, and what it says.
//!
//! ```text
//!   comber-agent status, check-now, unenroll ── one line of JSON ──> agent.sock ──> server
//!                                            <── one line of JSON ──
//! ```
//!
//! One question and one answer for each connection. The socket lies in the state directory, which only root may enter;
//! it has mode 0600, and the kernel says who connects. Invariant: nobody but root, or the user that the agent runs as, is
//! ever answered.

mod client;
mod server;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use client::{AskError, ask};
pub use server::{Local, LocalError};

/// In the state directory.
const SOCKET: &str = "agent.sock";
/// The version of what is said. Another one is refused: both sides are the same binary, but for the moment of an update.
const VERSION: u32 = 1;
/// Longest question.
const QUESTION_MAX: usize = 1024;
/// Longest answer; the texts in it are errors of the link.
const ANSWER_MAX: usize = 64 << 10;
/// A path that is longer does not fit into the address of a socket.
const ADDRESS_MAX: usize = 107;

/// What may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask", deny_unknown_fields)]
pub enum Ask {
    /// How the link to the controller is.
    Link,
    /// Connect now, or read the facts and say the actual state once more; answered when there is something to say.
    CheckNow,
    /// Stop working, remove the identity and end.
    Unenroll {
        /// Also in the middle of an activation.
        force: bool,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// How the link is.
    Link(LinkReport),
    /// The agent ends and takes its identity along.
    Leaving,
    /// It will not.
    Refused {
        /// Why, and what to do.
        why: String,
    },
}

/// The link to the controller, as the agent that runs sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// Whether the stream is open.
    pub connected: bool,
    /// Since when it is, or is not; absent before the first try has ended.
    pub since: Option<Timestamp>,
    /// How the last session or try ended.
    pub last_error: Option<String>,
    /// When it is tried again, in milliseconds from now; absent while it is open or being opened.
    pub next_try_ms: Option<u64>,
    /// How often it was opened since the agent started.
    pub opened: u64,
}

/// A question or an answer with its version.
#[derive(Debug, Serialize, Deserialize)]
struct Line<T> {
    v: u32,
    #[serde(flatten)]
    body: T,
}

fn line<T: Serialize>(body: T) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(&Line { v: VERSION, body })?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn read<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    let wrong = |error: serde_json::Error| error.to_string();
    let Versioned { v } = serde_json::from_slice(bytes).map_err(wrong)?;
    if v != VERSION {
        return Err(format!(
            "it speaks version {v} and not {VERSION}; restart the agent"
        ));
    }
    let line: Line<T> = serde_json::from_slice(bytes).map_err(wrong)?;
    Ok(line.body)
}

/// Where the socket is.
fn place(state_dir: &Path) -> PathBuf {
    state_dir.join(SOCKET)
}

/// An address that the kernel takes, for a path of any length: through the open directory. The file must live as long as
/// the address is used.
fn address(state_dir: &Path) -> std::io::Result<(PathBuf, Option<std::fs::File>)> {
    use std::os::fd::AsRawFd;
    let path = place(state_dir);
    if path.as_os_str().len() <= ADDRESS_MAX {
        return Ok((path, None));
    }
    let dir = std::fs::File::open(state_dir)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(SOCKET);
    Ok((short, Some(dir)))
}

#[cfg(test)]
mod tests;
