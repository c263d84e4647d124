//! Where a lab's controller listens and its operator works: on loopback, or in a network namespace that it shares with
//! real hosts and that no other part of the machine can reach.
//!
//! Starts programs there and asks ports there. Invariant: nothing of a lab in a namespace is visible outside of it.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Sends its third argument to a port of the namespace's loopback and prints what comes back.
const ASK: &str = r#"exec 3<>"/dev/tcp/127.0.0.1/$1" && printf %s "$2" >&3 && exec cat <&3"#;

/// Ports in a namespace of one's own: all are free there.
const OWN_PORTS: (u16, u16) = (7443, 9464);

/// A network with a controller in it.
#[derive(Debug, Clone, Default)]
pub enum Network {
    /// This machine's loopback.
    #[default]
    Loopback,
    /// A namespace that `ip netns` knows.
    Namespace {
        /// Its name.
        name: String,
        /// The controller's address in it.
        address: String,
        /// What hosts call the controller.
        controller: String,
    },
}

impl Network {
    /// A program that is to run there.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Loopback => Command::new(program),
            Self::Namespace { name, .. } => {
                let mut command = Command::new("ip");
                // It becomes the program, so that a signal to it reaches the program.
                command.args(["netns", "exec", name]).arg(program);
                command
            }
        }
    }

    /// Where the controller listens.
    pub fn address(&self) -> &str {
        match self {
            Self::Loopback => "127.0.0.1",
            Self::Namespace { address, .. } => address,
        }
    }

    /// What the operator calls the controller.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Loopback => "localhost",
            // No name is known in a namespace that has no hosts file of its own.
            Self::Namespace { address, .. } => address,
        }
    }

    /// What the controller's certificate is for.
    pub(crate) fn names(&self) -> [&str; 2] {
        match self {
            Self::Loopback => ["localhost", "127.0.0.1"],
            Self::Namespace {
                address,
                controller,
                ..
            } => [controller, address],
        }
    }

    /// Two ports that are free now; the controller binds them a moment later, and again after each restart.
    pub(crate) fn free_ports(&self) -> Result<(u16, u16)> {
        match self {
            Self::Loopback => {
                let (one, two) = (
                    TcpListener::bind("127.0.0.1:0")?,
                    TcpListener::bind("127.0.0.1:0")?,
                );
                Ok((one.local_addr()?.port(), two.local_addr()?.port()))
            }
            Self::Namespace { .. } => Ok(OWN_PORTS),
        }
    }

    /// Whether the controller accepts connections.
    pub(crate) fn is_open(&self, port: u16) -> bool {
        match self {
            Self::Loopback => TcpStream::connect(("127.0.0.1", port)).is_ok(),
            Self::Namespace { address, .. } => {
                let mut bash = self.command("bash");
                let place = format!("exec 3<>/dev/tcp/{address}/{port}");
                bash.args(["-c", &place])
                    .stdin(Stdio::null())
                    .stderr(Stdio::null());
                bash.status().is_ok_and(|status| status.success())
            }
        }
    }

    /// Sends a request to a port of its loopback and gives all of the answer.
    pub(crate) fn ask(&self, port: u16, request: &str) -> Result<String> {
        match self {
            Self::Loopback => {
                let mut stream = TcpStream::connect(("127.0.0.1", port))?;
                stream.write_all(request.as_bytes())?;
                let mut text = String::new();
                stream.read_to_string(&mut text)?;
                Ok(text)
            }
            Self::Namespace { .. } => {
                let mut bash = self.command("bash");
                bash.args(["-c", ASK, "bash", &port.to_string(), request]);
                let output = bash.stdin(Stdio::null()).output().context("cannot ask")?;
                let error = String::from_utf8_lossy(&output.stderr);
                ensure!(
                    output.status.success(),
                    "port {port} does not answer: {error}"
                );
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            }
        }
    }
}
