//! How the process ends: the codes of sysexits(3), each with one meaning, for scripts and for the service manager.

use std::process::ExitCode;

/// One way to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// The command line is wrong.
    Usage = 64,
    /// The token is not one, or the controller does not accept it.
    Token = 65,
    /// The controller cannot be reached; the same command may succeed later.
    Unavailable = 69,
    /// A task panicked: a bug. Restarting is safe.
    Software = 70,
    /// The kernel or a file system refused something that the agent cannot do without.
    System = 71,
    /// The host is in the middle of something that must end first.
    NotNow = 73,
    /// Another agent runs with the same state directory.
    Running = 75,
    /// The configuration is wrong or the host is not enrolled: restarting changes nothing.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
