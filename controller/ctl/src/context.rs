//! Contexts: which controllers an operator works with, and the identity for each.
//!
//! ```text
//!   contexts.toml            current = "default", [context.default] controller = "https://..."
//!   identities/default.toml  key, certificate and CA, mode 0600
//!   tokens/default           an operator's token in their place, mode 0600
//! ```
//!
//! Touches only this directory. Invariant: a context that is listed has a well-formed name and an https address.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use comber_runtime::bearer::BearerToken;
use comber_runtime::fsx;
use comber_runtime::identity::{Identity, IdentityError};
use http::Uri;
use serde::{Deserialize, Serialize};

use crate::error::{CliError, Outcome};

/// The name of the first context.
pub(crate) const DEFAULT: &str = "default";
const FILE: &str = "contexts.toml";
const FILE_MAX: u64 = 1 << 20;

/// The directory of contexts and what its file says.
#[derive(Debug, Clone)]
pub(crate) struct Contexts {
    dir: PathBuf,
    file: File,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The context used unless another is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default, rename = "context")]
    contexts: BTreeMap<String, Entry>,
}

/// One controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// `https://host:port`.
    pub(crate) controller: String,
    /// The name that the operator enrolled under.
    pub(crate) operator: String,
}

/// A context to work in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    /// Its name.
    pub(crate) name: String,
    /// Its controller.
    pub(crate) entry: Entry,
    /// Where its identity is.
    pub(crate) identity: PathBuf,
    /// Where its token is, where it has one in place of an identity.
    pub(crate) token: PathBuf,
}

impl Contexts {
    /// Reads the directory; one that does not exist has no contexts.
    pub(crate) fn load(dir: &Path) -> Outcome<Self> {
        let path = dir.join(FILE);
        let file = match fsx::read_limited(&path, FILE_MAX) {
            Ok(bytes) => parse(&path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => File::default(),
            Err(error) => {
                return Err(CliError::configuration("cannot read the contexts").caused_by(&error));
            }
        };
        Ok(Self {
            dir: dir.to_owned(),
            file,
        })
    }

    /// The context to work in: the one named, or the current one.
    pub(crate) fn pick(&self, named: Option<&str>) -> Outcome<Context> {
        let Some(name) = named.or(self.file.current.as_deref()) else {
            return Err(CliError::configuration("no controller is known yet")
                .because(format!("{} holds no context", self.dir.display()))
                .hint("comber init --controller https://HOST:7443 --token-file FILE"));
        };
        self.get(name).ok_or_else(|| self.unknown(name))
    }

    /// The context of this name, where there is one.
    pub(crate) fn get(&self, name: &str) -> Option<Context> {
        let entry = self.file.contexts.get(name)?;
        Some(Context {
            name: name.to_owned(),
            entry: entry.clone(),
            identity: self.identity_path(name),
            token: self.token_path(name),
        })
    }

    /// All of them by name, and which one is current.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Context, bool)> {
        self.file.contexts.keys().filter_map(|name| {
            let current = self.file.current.as_deref() == Some(name);
            self.get(name).map(|context| (context, current))
        })
    }

    /// Makes `name` the current one, durably.
    pub(crate) fn switch(&mut self, name: &str) -> Outcome<()> {
        if self.get(name).is_none() {
            return Err(self.unknown(name));
        }
        self.file.current = Some(name.to_owned());
        self.save()
    }

    /// Adds or replaces a context with its identity and makes it the current one. The identity is written first, so
    /// that a context never names an identity that is not there.
    pub(crate) fn add(&mut self, name: &str, entry: Entry, identity: &Identity) -> Outcome<()> {
        let path = self.identity_path(name);
        let directory = path.parent().unwrap_or(&self.dir);
        fsx::create_dir_durable(directory, 0o700).map_err(|error| cannot_save(&error))?;
        identity.save(&path).map_err(|error| cannot_save(&error))?;
        // A token that stood here before must not speak for the new identity.
        remove(&self.token_path(name))?;
        self.file.contexts.insert(name.to_owned(), entry);
        self.file.current = Some(name.to_owned());
        self.save()
    }

    /// The same with an operator's token in place of an identity.
    pub(crate) fn add_token(
        &mut self,
        name: &str,
        entry: Entry,
        token: &BearerToken,
    ) -> Outcome<()> {
        let path = self.token_path(name);
        let directory = path.parent().unwrap_or(&self.dir);
        fsx::create_dir_durable(directory, 0o700).map_err(|error| cannot_save(&error))?;
        fsx::write_atomic(&path, token.reveal().as_bytes(), 0o600)
            .map_err(|error| cannot_save(&error))?;
        remove(&self.identity_path(name))?;
        self.file.contexts.insert(name.to_owned(), entry);
        self.file.current = Some(name.to_owned());
        self.save()
    }

    fn token_path(&self, name: &str) -> PathBuf {
        self.dir.join("tokens").join(name)
    }

    fn identity_path(&self, name: &str) -> PathBuf {
        self.dir.join("identities").join(format!("{name}.toml"))
    }

    fn save(&self) -> Outcome<()> {
        let text = toml::to_string_pretty(&self.file).map_err(|error| cannot_save(&error))?;
        fsx::write_atomic(&self.dir.join(FILE), text.as_bytes(), 0o600)
            .map_err(|error| cannot_save(&error))
    }

    fn unknown(&self, name: &str) -> CliError {
        let known: Vec<&str> = self.file.contexts.keys().map(String::as_str).collect();
        let error = CliError::configuration(format!("there is no context {name:?}"));
        match comber_model::invalid::nearest(name, known.iter().copied()) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None if known.is_empty() => {
                error.hint("make one: comber init --controller https://HOST:7443 --token-file FILE")
            }
            None => error.hint(format!("there are: {}", known.join(", "))),
        }
    }
}

impl Context {
    /// The controller's address.
    pub(crate) fn uri(&self) -> Outcome<Uri> {
        let (uri, _) = address(&self.entry.controller)?;
        Ok(uri)
    }

    /// The operator's token, where the context holds one.
    pub(crate) fn load_token(&self) -> Outcome<Option<BearerToken>> {
        let unusable = || {
            CliError::configuration(format!(
                "the token of the context {:?} cannot be used",
                self.name
            ))
            .hint("an admin makes another: comber operator token create")
        };
        match fsx::read_limited(&self.token, FILE_MAX) {
            Ok(bytes) => {
                let token = String::from_utf8_lossy(&bytes).parse::<BearerToken>();
                token
                    .map(Some)
                    .map_err(|error| unusable().caused_by(&error))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable().caused_by(&error)),
        }
    }

    /// Who the operator is there.
    pub(crate) fn load_identity(&self) -> Outcome<Identity> {
        Identity::load(&self.identity).map_err(|error| self.identity_error(&error))
    }

    fn identity_error(&self, error: &IdentityError) -> CliError {
        let what = if error.is_missing() {
            format!("the context {:?} has no identity", self.name)
        } else {
            format!("the identity of the context {:?} cannot be used", self.name)
        };
        CliError::configuration(what)
            .caused_by(error)
            .hint(crate::status::ENROL_AGAIN)
    }
}

/// A controller's address as a person writes it, with `https://` understood, and in its one stored form.
pub(crate) fn address(text: &str) -> Outcome<(Uri, String)> {
    let wrong = || {
        CliError::usage(format!("{text:?} is not a controller's address"))
            .hint("write https://HOST:7443")
    };
    let full = if text.contains("://") {
        text.trim_end_matches('/').to_owned()
    } else {
        format!("https://{}", text.trim_end_matches('/'))
    };
    let uri: Uri = full.parse().map_err(|_| wrong())?;
    let plain = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
    if uri.scheme_str() != Some("https") || uri.host().is_none_or(str::is_empty) || !plain {
        return Err(wrong());
    }
    Ok((uri, full))
}

/// A context's name, which becomes a file's name.
pub(crate) fn check_name(name: &str) -> Outcome<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(allowed) {
        return Err(CliError::usage(format!("{name:?} cannot name a context"))
            .hint("use 1 to 64 letters, digits, '-', '_' and '.', not beginning with '.'"));
    }
    Ok(())
}

fn parse(path: &Path, bytes: &[u8]) -> Outcome<File> {
    let damaged = || CliError::configuration(format!("{} cannot be understood", path.display()));
    let text = std::str::from_utf8(bytes).map_err(|error| damaged().caused_by(&error))?;
    let file: File = toml::from_str(text)
        .map_err(|error| damaged().because(error.to_string().trim_end().to_owned()))?;
    for (name, entry) in &file.contexts {
        check_name(name)
            .and_then(|()| address(&entry.controller).map(drop))
            .map_err(|error| damaged().because(error.what))?;
    }
    Ok(file)
}

/// Removes a secret that something else takes the place of.
fn remove(path: &Path) -> Outcome<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot_save(&error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn cannot_save(error: &(dyn std::error::Error + 'static)) -> CliError {
    CliError::configuration("cannot save the context").caused_by(error)
}
