//! The `comber` command: everything is in the library, so that tests reach it.
//!
//! Invariant: it ends with one of the documented exit codes, see `comber help exit-codes`.

use std::process::ExitCode;

fn main() -> ExitCode {
    comber_ctl::run(std::env::args_os()).into()
}
