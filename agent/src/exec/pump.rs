//! Reads what a call writes: the beginning of its answer, the end of its noise, and a bounded part of it into the log.
//!
//! Invariant: memory and log are bounded whatever comes; the pipes are always emptied, so a flood never blocks the writer
//! and never hides its end.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::OUTPUT_MAX;
use super::call::Said;

/// How much of one call goes to the log. A package manager's story of one upgrade has a few kilobytes.
const LOGGED_MAX: usize = 64 << 10;
/// A longer line is cut in pieces.
const LINE_MAX: usize = 1 << 10;

/// Both outputs of one call.
#[derive(Debug)]
pub(super) struct Pump {
    name: String,
    head: Vec<u8>,
    total: u64,
    ends: [VecDeque<u8>; 2],
    logged: usize,
    cut: u64,
}

#[derive(Clone, Copy)]
enum From {
    Out,
    Err,
}

impl Pump {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            head: Vec::new(),
            total: 0,
            ends: [VecDeque::new(), VecDeque::new()],
            logged: 0,
            cut: 0,
        }
    }

    /// Reads both to their ends. What was read is kept when it is dropped before.
    pub(super) async fn read(&mut self, out: impl AsyncRead, err: impl AsyncRead) {
        let (mut out, mut err) = (std::pin::pin!(out), std::pin::pin!(err));
        let mut buffers = (vec![0; 4096], vec![0; 4096]);
        let mut lines = (Vec::new(), Vec::new());
        let (mut out_open, mut err_open) = (true, true);
        while out_open || err_open {
            tokio::select! {
                // Both arms are cancel-safe: a read that is dropped has taken nothing.
                read = out.read(&mut buffers.0), if out_open => match read {
                    Ok(count) if count > 0 => self.take(From::Out, &buffers.0[..count], &mut lines.0),
                    Ok(_) | Err(_) => out_open = false,
                },
                read = err.read(&mut buffers.1), if err_open => match read {
                    Ok(count) if count > 0 => self.take(From::Err, &buffers.1[..count], &mut lines.1),
                    Ok(_) | Err(_) => err_open = false,
                },
            }
        }
        self.log(&lines.0);
        self.log(&lines.1);
        if self.cut > 0 {
            let (call, bytes) = (&self.name, self.cut);
            tracing::warn!(
                call,
                bytes,
                "a call wrote more than is kept, the rest is cut"
            );
        }
    }

    /// The beginning of the standard output.
    pub(super) fn said(self) -> Said {
        Said {
            bytes: self.head,
            total: self.total,
        }
    }

    /// The end of what it said of errors, or else of all that it said.
    pub(super) fn tail(&self) -> String {
        let [out, err] = self.ends.each_ref().map(|end| {
            let bytes: Vec<u8> = end.iter().copied().collect();
            String::from_utf8_lossy(&bytes).trim().to_owned()
        });
        if err.is_empty() { out } else { err }
    }

    fn take(&mut self, from: From, bytes: &[u8], line: &mut Vec<u8>) {
        if let From::Out = from {
            let room = OUTPUT_MAX - self.head.len();
            self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
            self.total = self.total.saturating_add(bytes.len() as u64);
        }
        let end = &mut self.ends[from as usize];
        end.extend(bytes);
        let surplus = end.len().saturating_sub(OUTPUT_MAX);
        end.drain(..surplus);
        let room = LOGGED_MAX - self.logged;
        let (kept, cut) = bytes.split_at(bytes.len().min(room));
        self.logged += kept.len();
        self.cut = self.cut.saturating_add(cut.len() as u64);
        for &byte in kept {
            if byte == b'\n' || line.len() == LINE_MAX {
                self.log(line);
                line.clear();
            }
            if byte != b'\n' {
                line.push(byte);
            }
        }
    }

    fn log(&self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let said: String = String::from_utf8_lossy(line)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let call = &self.name;
        tracing::info!(call, said, "a call says");
    }
}
