//! Tells the service manager how the process stands: ready, stopping, alive, and one line of status.
//!
//! Touches only the datagram socket that systemd named. A manager that does not listen must never stop a service, so
//! every failure is logged at debug level and dropped.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::{Path, PathBuf},
    time::Duration,
};

/// A sign of life comes this many times within the time that the manager waits for one.
const SIGNS: u32 = 3;

/// A line to the service manager; without one it swallows everything.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    socket: Option<PathBuf>,
}

impl Notifier {
    /// The manager that started this process, if it asked to be told (`Type=notify`).
    pub fn from_environment() -> Self {
        Self {
            socket: crate::environment::notify_socket(),
        }
    }

    /// A manager listening on `socket`; a leading `@` means the abstract namespace.
    pub fn at(socket: PathBuf) -> Self {
        Self {
            socket: Some(socket),
        }
    }

    /// Whether there is a manager to tell anything.
    pub fn listens(&self) -> bool {
        self.socket.is_some()
    }

    /// Start-up is complete: units ordered after this one may start.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The process drains and will end; the manager stops expecting anything of it.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// The process is still making progress; to be sent at least twice within the unit's `WatchdogSec=`.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// One line for `systemctl status`; line breaks would be read as further assignments and become spaces.
    pub fn status(&self, line: &str) {
        self.send(&format!("STATUS={}", line.replace(['\n', '\r'], " ")));
    }

    fn send(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = send_to(socket, state) {
            tracing::debug!(%error, "the service manager could not be told: {state}");
        }
    }
}

/// Ends when the next sign of life is due within `watchdog`; never where the manager waits for none, because an idle
/// process must not wake for it. Cancel-safe: it starts anew.
pub async fn sign_of_life_due(watchdog: Option<Duration>) {
    match watchdog {
        Some(within) => tokio::time::sleep(within / SIGNS).await,
        None => std::future::pending().await,
    }
}

/// Gives signs of life for as long as it is polled; never ends. What it stands for must run on the same task.
pub async fn keep_alive(notifier: &Notifier, watchdog: Option<Duration>) {
    loop {
        sign_of_life_due(watchdog).await;
        notifier.alive();
    }
}

fn send_to(socket: &Path, state: &str) -> io::Result<()> {
    let name = socket.as_os_str().as_encoded_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_arrive_as_single_assignments() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::at(path);
        notifier.ready();
        notifier.status("20 hosts\nMAINPID=1");
        let mut received = [0; 64];
        let n = manager.recv(&mut received).unwrap();
        assert_eq!(&received[..n], b"READY=1");
        let n = manager.recv(&mut received).unwrap();
        assert_eq!(&received[..n], b"STATUS=20 hosts MAINPID=1");
    }

    #[test]
    fn an_absent_manager_is_no_error() {
        Notifier::default().ready();
        Notifier::at("/nonexistent/notify".into()).stopping();
    }
}
