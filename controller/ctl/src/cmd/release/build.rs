//! `comber release build`: a directory becomes a bundle.
//!
//! Reads the directory, writes one file; needs no controller.

use std::path::{Path, PathBuf};

use clap::Args;
use comber_bundle::{BuildError, Built, RELEASE_FILE};
use comber_model::release::Manifest;

use crate::error::{CliError, Outcome};
use crate::render::{self, json};
use crate::screen::Screen;
use crate::session::Session;
use crate::watch::Meter;

/// Builds a bundle from a directory that holds release.toml and files/. The same content gives the same bytes everywhere.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  comber release build ./webapp
  comber release build ./webapp --out webapp.comber")]
pub(crate) struct BuildArgs {
    /// Directory with release.toml and files/
    dir: PathBuf,
    /// Where to write it [default: NAME-VERSION.comber]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Builds and shows what came out.
pub(crate) fn run(args: &BuildArgs, session: &Session) -> Outcome<()> {
    let out = match &args.out {
        Some(out) => out.clone(),
        None => default_name(&args.dir)?,
    };
    let built = bundle(&args.dir, &out, &session.screen)?;
    session.screen.show(
        || json::Built::new(&built, &out),
        |view| render::built(view, &built, &out),
    )
}

/// Builds `dir` into `out` under a progress bar.
pub(super) fn bundle(dir: &Path, out: &Path, screen: &Screen) -> Outcome<Built> {
    let meter = Meter::new(screen, "building");
    let built = comber_bundle::build(dir, out, &mut |progress| {
        meter.set(progress.done, progress.total);
    });
    meter.clear();
    built.map_err(|error| build_error(dir, &error))
}

/// The name has to be known before anything is built, so the manifest is read once more for it.
fn default_name(dir: &Path) -> Outcome<PathBuf> {
    let path = dir.join(RELEASE_FILE);
    let (text, name) = crate::toml_file::read(&path)
        .map_err(|error| error.hint("a release is a directory with release.toml and files/"))?;
    let manifest = Manifest::parse(&text)
        .map_err(|problems| CliError::invalid(format!("{name} is not valid"), &problems))?;
    Ok(PathBuf::from(format!(
        "{}-{}.comber",
        manifest.name, manifest.version
    )))
}

fn build_error(dir: &Path, error: &BuildError) -> CliError {
    match error {
        BuildError::Invalid(problems) => CliError::invalid(
            format!("{} is not a valid release", dir.display()),
            problems,
        ),
        BuildError::Inside { .. }
        | BuildError::Io { .. }
        | BuildError::Changed { .. }
        | BuildError::Refused(_) => {
            CliError::configuration(format!("cannot build {}", dir.display())).caused_by(error)
        }
    }
}
