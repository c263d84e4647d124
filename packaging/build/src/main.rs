//! `cargo packages`: builds every package of Comber with one command.
//!
//! ```text
//!   cargo build ──> stage: <target>/package/  programs, share/<program>/{man,bash,zsh,fish,sbom.cdx.json}
//!                     │
//!                     └──> cargo-deb, cargo-generate-rpm (pinned, in <target>/tools) ──> <target>/packages/
//! ```
//!
//! What a package holds stands in the `Cargo.toml` of its program and in `packaging/`; this crate decides nothing about it.
//! It writes below the target directory only. Invariant: what is in `<target>/packages/` after a success was all made by
//! this run.

mod programs;
mod sbom;
mod share;
mod stage;
mod tools;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use programs::PROGRAMS;
use tools::Tools;

/// Builds the .deb and .rpm packages of comber-controller, comber-agent and comber into target/packages.
#[derive(Debug, Parser)]
#[command(
    name = "cargo packages",
    after_help = "Example: cargo packages --quick"
)]
struct Arguments {
    /// Package quick builds, for tests; without it the optimised ones are made, which takes long.
    #[arg(long)]
    quick: bool,
    /// Revision of the packages of one version.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    revision: u32,
    /// Do not install missing tools; say which they are.
    #[arg(long)]
    no_install: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let target = target()?;
    // First, since it needs the network and the build takes long.
    let tools = Tools::get(&target, !arguments.no_install)?;
    programs::build(arguments.quick)?;
    stage::stage(&target, arguments.quick)?;
    let packages = target.join("packages");
    if packages.exists() {
        fs::remove_dir_all(&packages).context("cannot remove the packages of an earlier run")?;
    }
    fs::create_dir(&packages).context("cannot make the directory of the packages")?;
    for program in &PROGRAMS {
        tools.deb(program, arguments.revision, arguments.quick, &packages)?;
        tools.rpm(program, arguments.revision, arguments.quick, &packages)?;
    }
    list(&packages)
}

/// Where cargo builds: this program is in it.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let target = program.ancestors().nth(2);
    Ok(target
        .context("this program is in no target directory")?
        .to_owned())
}

/// The root of the workspace.
fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Runs a program in the workspace and waits for it.
fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .current_dir(workspace())
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

fn list(packages: &Path) -> Result<()> {
    let mut made = Vec::new();
    for entry in fs::read_dir(packages).context("cannot list the packages")? {
        let entry = entry.context("cannot list the packages")?;
        made.push((entry.path(), entry.metadata()?.len()));
    }
    made.sort();
    for (path, bytes) in made {
        println!("{} ({} kB)", path.display(), bytes.div_ceil(1024));
    }
    Ok(())
}
