//! Telling what happens: headings, and commands shown as they are typed before they run.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use comber_test_support::Comber;

/// The command and how it is shown.
#[derive(Debug)]
pub(crate) struct Show {
    comber: Comber,
    colour: bool,
}

impl Show {
    /// Commands of this operator.
    pub(crate) fn new(comber: Comber) -> Self {
        Self {
            comber,
            colour: std::io::stdout().is_terminal(),
        }
    }

    /// A heading with one line of what follows.
    pub(crate) fn chapter(&self, title: &str, text: &str) {
        let title = if self.colour {
            format!("\x1b[1;36m{title}\x1b[0m")
        } else {
            title.to_owned()
        };
        println!("\n{title}\n{text}\n");
    }

    /// Shows `comber …` and runs it with this terminal; it must end with one of these codes.
    pub(crate) fn comber(&self, arguments: &[&str], codes: &[i32]) -> Result<i32> {
        let line = format!("$ comber {}", arguments.join(" "));
        let line = if self.colour {
            format!("\x1b[1m{line}\x1b[0m")
        } else {
            line
        };
        println!("{line}");
        let mut command = Command::new(&self.comber.binary);
        command
            .arg("--config")
            .arg(&self.comber.config)
            .args(arguments);
        // What was printed so far stands before what the command prints.
        std::io::stdout().flush()?;
        let status = command.status().context("cannot run comber")?;
        let code = status.code().unwrap_or(-1);
        ensure!(
            codes.contains(&code),
            "comber {} ended with {code}",
            arguments.join(" ")
        );
        println!();
        Ok(code)
    }
}

/// A path as it stands in a command line.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}
