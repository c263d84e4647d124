//! The payload through pipes, for a module that takes it itself in `Download`.
//!
//! ```text
//!   module opens stream-next ─── the agent writes one line `streams/NAME`, makes that pipe, closes
//!   module opens streams/NAME ── the agent writes the bytes, waits until they are read, closes
//!   ... and once more stream-next: nothing, closed at once: the end
//! ```
//!
//! A pipe is opened for writing without waiting and again until a reader is there: opening it for good would block a
//! thread for as long as the module likes. Invariant: a pipe exists before its name is told to its end, and the bytes
//! of a member count as taken once they have left the pipe.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{OpenOptions, Sender};

use super::error::ModuleError;
use super::payload::Member;
use super::tree::{Tree, io_at};

/// The first pause before a pipe is tried again; each next one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// No pause is longer, so a module that reads thousands of small files is not held up.
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// One piece of a member.
const PIECE: usize = 64 << 10;

/// The agent's side of one `Download`.
#[derive(Debug)]
pub(super) struct Streams<'a> {
    tree: &'a Tree,
    payload: &'a [Member],
    with_sizes: bool,
    /// How far the module came: outlives the serving, which ends with the module.
    reached: AtomicU8,
}

/// What the module did with the pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It never opened the first one: the agent puts the payload into files.
    Nothing,
    /// It began and did not come to the end.
    Part,
    /// It read to the end.
    All,
}

impl<'a> Streams<'a> {
    /// Makes the pipes that must be there before the module starts.
    pub(super) fn new(
        tree: &'a Tree,
        payload: &'a [Member],
        with_sizes: bool,
    ) -> Result<Self, ModuleError> {
        tree.make_streams()?;
        if let Some(first) = payload.first() {
            tree.make_stream(&first.name)?;
        }
        Ok(Self {
            tree,
            payload,
            with_sizes,
            reached: AtomicU8::new(0),
        })
    }

    pub(super) fn taken(&self) -> Taken {
        match self.reached.load(Ordering::Relaxed) {
            0 => Taken::Nothing,
            1 => Taken::Part,
            _ => Taken::All,
        }
    }

    /// Serves until it is dropped; ends only with what went wrong.
    pub(super) async fn serve(&self) -> ModuleError {
        match self.all().await {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    }

    async fn all(&self) -> Result<(), ModuleError> {
        for (index, member) in self.payload.iter().enumerate() {
            let mut next = opened(&self.tree.next()).await?;
            self.reached.store(1, Ordering::Relaxed);
            // The first one was there before the module.
            if index > 0 {
                self.tree.make_stream(&member.name)?;
            }
            let line = self.line(member);
            let told = next.write_all(line.as_bytes()).await;
            told.map_err(io_at("write", &self.tree.next()))?;
            drop(next);
            self.one(member).await?;
        }
        let end = opened(&self.tree.next()).await?;
        self.reached.store(2, Ordering::Relaxed);
        drop(end);
        Ok(())
    }

    fn line(&self, member: &Member) -> String {
        let Member { name, length, .. } = member;
        if self.with_sizes {
            format!("streams/{name} {length}\n")
        } else {
            format!("streams/{name}\n")
        }
    }

    async fn one(&self, member: &Member) -> Result<(), ModuleError> {
        let pipe = self.tree.streams().join(&member.name);
        let mut sender = opened(&pipe).await?;
        let source = tokio::fs::File::open(&member.path).await;
        let mut source = source.map_err(io_at("open", &member.path))?;
        let mut piece = vec![0; PIECE];
        loop {
            let count = source.read(&mut piece).await;
            let count = count.map_err(io_at("read", &member.path))?;
            if count == 0 {
                break;
            }
            let written = sender.write_all(&piece[..count]).await;
            written.map_err(|error| closed_early(error, &pipe, member))?;
        }
        drained(&sender, &pipe, member).await
    }
}

/// Opens a pipe for writing once somebody has it open for reading.
async fn opened(path: &Path) -> Result<Sender, ModuleError> {
    let mut pause = PAUSE_MIN;
    loop {
        match OpenOptions::new().open_sender(path) {
            Err(error) if has_no_reader(&error) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            opened => return opened.map_err(io_at("open", path)),
        }
    }
}

/// Waits until all that was written is read, or nobody is there who could.
async fn drained(sender: &Sender, path: &Path, member: &Member) -> Result<(), ModuleError> {
    let mut pause = PAUSE_MIN;
    loop {
        // Asked before the pipe is looked at: who read the last bytes and left is seen as having read them.
        let has_left =
            matches!(OpenOptions::new().open_sender(path), Err(error) if has_no_reader(&error));
        let left = rustix::io::ioctl_fionread(sender);
        if left.map_err(|errno| io_at("look at", path)(errno.into()))? == 0 {
            return Ok(());
        }
        if has_left {
            return Err(not_read(member));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn closed_early(error: io::Error, path: &Path, member: &Member) -> ModuleError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => not_read(member),
        _ => io_at("write", path)(error),
    }
}

fn not_read(member: &Member) -> ModuleError {
    ModuleError::NotRead {
        name: member.name.clone(),
    }
}

fn has_no_reader(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}
