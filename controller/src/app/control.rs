//! The control socket: what an administrator on the controller's own machine can ask of the running process.
//!
//! A Unix socket in the data directory, for its owner alone; one line asked, one line answered. It is removed and made
//! again at each start, so what is left of a crash does no harm.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use comber_runtime::clock::Clock;
use comber_runtime::shutdown::Shutdown;
use comber_runtime::{task, telemetry};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::admin;
use crate::core::Core;
use crate::pki::Ca;
use crate::store::Store;

/// Longest line.
const LINE_MAX: u64 = 16 << 10;
/// For the question; the answer takes as long as it takes.
const QUESTION: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// Back the store up to a file.
    Backup(PathBuf),
    /// Make a token for an operator.
    AdminToken,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done(String),
    Failed(String),
}

/// What questions are answered from.
#[derive(Debug, Clone)]
pub(super) struct Control {
    pub(super) core: Core,
    pub(super) store: Store,
    pub(super) ca: Arc<Ca>,
    pub(super) clock: Clock,
}

fn place(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Answers until the process stops.
pub(super) fn listen(data_dir: &Path, control: Control, shutdown: &Shutdown) -> Result<()> {
    let path = place(data_dir);
    if path.exists() {
        std::fs::remove_file(&path).context("cannot remove an old control socket")?;
    }
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("cannot make the control socket {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .context("cannot protect the control socket")?;
    let ending = shutdown.clone();
    task::spawn("control", shutdown, async move {
        loop {
            // Both arms may be dropped: a connection that is not accepted stays in the kernel's queue.
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = ending.wait() => return,
            };
            let answered = match accepted {
                Ok((stream, _)) => answer(&control, stream).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = answered {
                tracing::warn!(
                    error = telemetry::error_chain(error.as_ref()),
                    "control socket"
                );
            }
        }
    });
    Ok(())
}

async fn answer(control: &Control, stream: UnixStream) -> Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reader.take(LINE_MAX));
    tokio::time::timeout(QUESTION, reader.read_line(&mut line)).await??;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => match carry_out(control, request).await {
            Ok(text) => Answer::Done(text),
            Err(error) => Answer::Failed(telemetry::error_chain(error.as_ref())),
        },
        Err(error) => Answer::Failed(format!("the question is not understood: {error}")),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    writer.write_all(text.as_bytes()).await?;
    Ok(())
}

async fn carry_out(control: &Control, request: Request) -> Result<String> {
    match request {
        Request::Backup(path) => {
            let revision = control.store.backup(&path).await?;
            tracing::info!(path = %path.display(), %revision, "backed up");
            Ok(revision.to_string())
        }
        Request::AdminToken => admin::make(&control.core, &control.ca, &control.clock).await,
    }
}

/// Asks the running controller; nothing where none runs.
pub(super) fn ask(data_dir: &Path, request: &Request) -> Result<Option<String>> {
    let path = place(data_dir);
    let Ok(mut stream) = StdUnixStream::connect(&path) else {
        return Ok(None);
    };
    let mut text = serde_json::to_string(request)?;
    text.push('\n');
    stream
        .write_all(text.as_bytes())
        .context("the controller hung up")?;
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .context("the controller hung up")?;
    match serde_json::from_str(&line).context("the controller's answer is not understood")? {
        Answer::Done(text) => Ok(Some(text)),
        Answer::Failed(why) => bail!("the controller refused: {why}"),
    }
}
