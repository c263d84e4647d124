//! Why a step of the `module` installer failed.

use std::path::PathBuf;

use comber_runtime::fsx::FileError;
use thiserror::Error;

use crate::exec::ExecError;

/// Why a step of the `module` installer failed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields' names say it")]
pub enum ModuleError {
    /// A call of the module ended badly.
    #[error("the module {module} failed in {call}")]
    Call {
        module: String,
        call: &'static str,
        #[source]
        source: ExecError,
    },
    /// It did not answer as the protocol wants it.
    #[error(
        "the module {module} answers {query} with {answer:?}, which is not {allowed} on one line"
    )]
    Answer {
        module: String,
        query: &'static str,
        answer: String,
        allowed: &'static str,
    },
    /// It wrote without end where one word was wanted.
    #[error("the module {module} answers {query} with {bytes} bytes, one word was wanted")]
    Flood {
        module: String,
        query: &'static str,
        bytes: u64,
    },
    /// It took the bytes itself and did not take all.
    #[error("the module began to read the payload and left {name}")]
    NotRead { name: String },
    /// The agent or the host ended in the middle of a call, so nobody knows what came of it.
    #[error("{state} was cut off by an end of the agent or the host; it is not run again")]
    CutOff { state: &'static str },
    /// The same for another release, whose way back comes first.
    #[error("{release} was cut off in {state}; it must be undone before")]
    Other {
        release: String,
        state: &'static str,
    },
    /// It is installed and only a reboot makes it so.
    #[error(
        "the module {module} wants a reboot and the release says reboot = \"never\"; say \"auto\" or \"required\""
    )]
    RebootNotAllowed { module: String },
    /// What it did cannot be undone.
    #[error(
        "the module {module} knows no way back (SupportsRollback is not Yes); look at what it did and install a release that mends it"
    )]
    NoWayBack { module: String },
    /// It was said before, and it stays so.
    #[error("{why}")]
    Lost { why: String },
    /// The protocol has no word for it.
    #[error(
        "the protocol of modules knows no removal; install a release of {product} that takes away what is to go"
    )]
    NoRemoval { product: String },
    /// It goes in circles.
    #[error("the module was called {calls} times for one change, which is given up")]
    Circle { calls: u32 },
    /// There is none of that name.
    #[error(
        "no module {module} is in {}; install the package that brings it, or carry it in the release",
        places(dirs)
    )]
    NoModule { module: String, dirs: Vec<PathBuf> },
    /// Somebody else could have put it there.
    #[error("{} is not run as a module: {problem}", path.display())]
    Untrusted {
        path: PathBuf,
        problem: &'static str,
    },
    /// It has no place in the protocol's tree.
    #[error("the payload of a module is plain files in one directory; {name:?} {problem}")]
    Payload { name: String, problem: &'static str },
    /// Two installers for one product would not know of each other.
    #[error(
        "{product} was installed by the installer {found} on this host; remove the product before it gets another one"
    )]
    OtherInstaller {
        product: String,
        found: &'static str,
    },
    /// What is remembered between two calls.
    #[error("cannot keep what was done of the change")]
    Session(#[from] FileError),
    /// It is damaged, so nothing is known of what was done.
    #[error("{} is not readable as what was done of a change; look at the host, then remove the file", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// The disk.
    #[error("cannot {step} {}", path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

fn places(dirs: &[PathBuf]) -> String {
    let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    dirs.join(" or ")
}
