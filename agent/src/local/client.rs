//! Asks the agent that runs. Blocking: for subcommands, which do nothing else meanwhile.
//!
//! Invariant: reads no more than one answer's longest, and waits no longer than the caller says.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use super::{ANSWER_MAX, Answer, Ask, address, line, read};

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no agent runs with this state directory")]
    NotRunning,
    /// This user may not ask.
    #[error("only root may ask the agent")]
    NotPermitted,
    /// It went away, or takes too long.
    #[error("the agent does not answer")]
    Io(#[source] io::Error),
    /// It says something else.
    #[error("the agent answers what is not understood: {0}")]
    Answer(String),
}

/// Asks, and waits for the answer for at most `within`.
pub fn ask(state_dir: &Path, question: Ask, within: Duration) -> Result<Answer, AskError> {
    let (address, _dir) = address(state_dir).map_err(AskError::Io)?;
    let mut stream = UnixStream::connect(address).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => AskError::NotRunning,
        ErrorKind::PermissionDenied => AskError::NotPermitted,
        _ => AskError::Io(error),
    })?;
    let bytes = line(question).map_err(|error| AskError::Answer(error.to_string()))?;
    let mut exchange = || {
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(within))?;
        stream.write_all(&bytes)?;
        let mut answer = Vec::new();
        let most = u64::try_from(ANSWER_MAX)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        Read::by_ref(&mut stream)
            .take(most)
            .read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(AskError::Io)?;
    if answer.is_empty() {
        // It was told who asks and hung up.
        return Err(AskError::NotPermitted);
    }
    if answer.len() > ANSWER_MAX {
        return Err(AskError::Answer(format!("more than {ANSWER_MAX} bytes")));
    }
    read(&answer).map_err(AskError::Answer)
}
