//! The host as installers see it: where things go, how commands run, what was staged.
//!
//! Holds values only; the files and processes are the installers'.

use std::path::{Path, PathBuf};

use comber_model::release::Installer as Recipe;

use super::layout::Layout;
use super::{Catalog, Jobs, Kind, Record, Shelf};
use crate::exec::Exec;
use crate::surroundings::Variables;

/// Cheap enough to clone for each step.
#[derive(Debug, Clone)]
pub struct Site {
    /// Put before every absolute path of a release.
    pub root: PathBuf,
    /// Where the files of releases are whose installer puts what runs elsewhere.
    pub shelves: PathBuf,
    /// Where the host's modules are; the first directory that has one of a name counts.
    pub modules: Vec<PathBuf>,
    /// Runs commands.
    pub exec: Exec,
    /// The host's variables.
    pub variables: Variables,
    /// What was staged.
    pub catalog: Catalog,
    /// Blocking work on the disk.
    pub jobs: Jobs,
}

impl Site {
    /// The installer that serves this release.
    pub fn installer(&self, record: &Record) -> Kind {
        Kind::new(Shelf::new(self.clone(), record.clone()))
    }

    /// The product's directory on this host.
    pub fn product_dir(&self, record: &Record) -> PathBuf {
        match &record.manifest.installer {
            Recipe::Archive(archive) => self.root.join(archive.path.trim_start_matches('/')),
            // What runs is elsewhere; the release's files are the agent's own matter.
            Recipe::Package(_) | Recipe::Module(_) | Recipe::Agent(_) => {
                self.shelves.join(record.manifest.name.as_str())
            }
        }
    }

    /// Where the active release of a product is seen, whatever installed it.
    pub fn current_dir(&self, record: &Record) -> PathBuf {
        Layout::new(self.product_dir(record)).current()
    }

    /// Where a release is, whether it is active or not.
    pub fn release_dir(&self, record: &Record) -> PathBuf {
        Layout::new(self.product_dir(record)).place(&record.slot())
    }

    /// What the commands and checks of a release know beside the host's own variables.
    pub fn variables_for(&self, record: &Record, before: Option<&Record>) -> Variables {
        let mut variables = self.variables.clone();
        // While it is being stopped, the release before is the one at hand.
        let previous = before
            .filter(|before| before.id() != record.id())
            .map(|before| before.manifest.version.to_string());
        let root = path_text(&self.product_dir(record));
        for (name, value) in [
            ("COMBER_RELEASE", record.id().to_string()),
            ("COMBER_VERSION", record.manifest.version.to_string()),
            ("COMBER_ROOT", root),
            ("COMBER_PREVIOUS", previous.unwrap_or_default()),
        ] {
            variables.insert(name.to_owned(), value);
        }
        variables
    }
}

/// Paths of releases are UTF-8; only a strange root can make one that is not, which the commands would not survive.
fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
