//! Keeps the files of what a change replaces, so that there is a way back.
//!
//! Writes into the directory of the change. A file comes from the product's own files on this host, from what the manager
//! kept, from the host's sources where the release may use them, or is built anew. Invariant: a file under its name is whole
//! and on the disk.

use std::fs;
use std::path::{Path, PathBuf};

use comber_model::release::Dependencies;

use super::change::{self, Change, Was};
use super::error::PackageError;
use super::file::{self, PackageFile};
use super::prepare::{Look, Network};
use super::state::{Database, Key, Present, Status};

impl Look<'_> {
    /// Every package file of the product that is on this host.
    pub(super) async fn stock(&self) -> Result<Vec<PackageFile>, PackageError> {
        let mut stock = Vec::new();
        let ending = self.manager.family().ending();
        for place in self.changes.places()? {
            for path in file::find(&place)? {
                if file::ending(&path) != ending {
                    continue;
                }
                // One that a crash cut off while it was written is of no use, and no reason to fail.
                stock.extend(self.manager.read(&path).await.ok());
            }
        }
        Ok(stock)
    }

    /// Puts down what was before, and keeps the files of it.
    pub(super) async fn keep_all(
        &self,
        change: &mut Change,
        database: &Database,
        stock: &[PackageFile],
    ) -> Result<(), PackageError> {
        let kept = self.changes.kept(change.to.as_deref())?;
        for touched in &mut change.touched {
            let Some(present) = database.packages.get(&touched.key) else {
                continue;
            };
            touched.before = match present.status {
                Status::Installed => {
                    let edited = self.manager.edited(&touched.key).await?;
                    change.edited.extend(edited);
                    let file = self
                        .keep(&touched.key, present, &kept, database, stock)
                        .await;
                    let file = match file {
                        Err(error) if self.irreversible => {
                            let error = comber_runtime::telemetry::error_chain(&error);
                            tracing::warn!(
                                error,
                                "the release is irreversible, goes on without a way back"
                            );
                            None
                        }
                        file => Some(self.changes.relative(&file?)),
                    };
                    Was::Installed {
                        version: present.version.clone(),
                        arch: present.arch.clone(),
                        automatic: present.automatic,
                        file,
                    }
                }
                Status::ConfigFiles | Status::Broken => Was::ConfigFiles,
            };
        }
        Ok(())
    }

    /// Brings the file of what is installed into the change's own directory: from the product's files on this host, from
    /// what the manager kept, from the host's sources where the release may use them, or built anew.
    async fn keep(
        &self,
        key: &Key,
        present: &Present,
        kept: &Path,
        database: &Database,
        stock: &[PackageFile],
    ) -> Result<PathBuf, PackageError> {
        let is_it = |file: &&PackageFile| {
            file.key(database) == *key
                && file.version == present.version
                && file.arch == present.arch
        };
        if let Some(file) = stock.iter().find(is_it) {
            return link(&file.path, &kept.join(file.file_name()));
        }
        for path in self.manager.cached(key, present) {
            if path.is_file()
                && let Ok(file) = self.manager.read(&path).await
                && is_it(&&file)
            {
                return link(&file.path, &kept.join(file.file_name()));
            }
        }
        let may_download =
            self.recipe.dependencies == Dependencies::Host && self.network == Network::Allowed;
        if may_download && self.manager.download(key, present, kept).await.is_ok() {
            let files = self.read_all(&file::find(kept)?).await?;
            if let Some(file) = files.iter().find(is_it) {
                change::sync(&file.path)?;
                return Ok(file.path.clone());
            }
        }
        let ending = self.manager.family().ending();
        let to = kept.join(file::file_name(
            &key.name,
            &present.version,
            &present.arch,
            ending,
        ));
        // Under another name until it is whole: a crash must not leave half of it under the name that counts.
        let building = kept.join("building.partial");
        self.manager
            .repack(key, present, &database.native, &building)
            .await?;
        change::sync(&building)?;
        fs::rename(&building, &to).map_err(|source| PackageError::Read {
            path: to.clone(),
            source,
        })?;
        change::sync(&to)?;
        Ok(to)
    }
}

/// Gives a file another name, without copying it where the disk allows that. Durable once it returns.
pub(super) fn link(file: &Path, to: &Path) -> Result<PathBuf, PackageError> {
    let to = to.to_owned();
    if to == *file {
        return Ok(to);
    }
    let failed = |source| PackageError::Read {
        path: file.to_owned(),
        source,
    };
    let partial = to.with_extension("partial");
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    if fs::hard_link(file, &partial).is_err() {
        fs::copy(file, &partial).map_err(failed)?;
    }
    change::sync(&partial)?;
    fs::rename(&partial, &to).map_err(failed)?;
    // Of two names of one file the rename leaves both.
    let _ = fs::remove_file(&partial);
    change::sync(&to)?;
    Ok(to)
}
