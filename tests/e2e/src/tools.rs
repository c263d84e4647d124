//! Tools of the machine that a test asks where they are installed; and the tree that packages install.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The tree that packages install.
pub fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging")
}

/// Runs a tool to its end; nothing, and a line that says so, where this machine does not have it.
///
/// # Panics
/// Where it is there and cannot be run.
pub fn tool(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let name = command.get_program().display();
            println!("skipped: {name} is not installed");
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

/// What a process printed.
///
/// # Panics
/// Where it failed, with everything that it said.
#[track_caller]
pub fn succeeded(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{told}{wrong}", output.status);
    told
}
