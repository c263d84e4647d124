//! Signed releases: who says what a host may install.
//!
//! ```text
//!   people with keys ─ publisher ─> repository ─ relayed by anybody ─> verifier ─> listing ─ judge ─> may it be installed?
//!                                                                        │
//!                                                                      record (durable, only forward)
//! ```
//!
//! The controller holds no key and only relays. The format is The Update Framework's, version 1.0
//! (<https://theupdateframework.github.io/specification/latest/>), so that other clients read it too; one target is one
//! release's decoded bundle. Invariant: a [`Listing`] was signed by the keys that the root in the record names.

pub mod dev;
mod entry;
mod files;
mod judge;
mod key;
pub mod publisher;
mod record;
mod verifier;
mod walk;

pub use entry::{Entry, Signed};
pub use files::FilesError;
pub use judge::{Question, Unlisted, judge};
pub use key::{KeyError, Signer, SigningKey, key_id, parse_public, peek};
pub use record::{Record, RecordError};
pub use tough::schema::RoleType;
pub use tough::schema::key::Key;
pub use verifier::{
    Broken, Directory, Fetching, Listing, RootFacts, Source, Target, VerifyError, advance, kept,
    limit_of, look, look_at_root, refresh, target,
};
