//! Release bundles: the bytes of a release, and the rules that they must keep.
//!
//! ```text
//!   DIR/release.toml ─┐                      ┌─> inspect (controller: what was uploaded?)
//!   DIR/files/**  ────┴─> build ─> zstd ─────┼─> verify  (agent: is it what was assigned?)
//!                                            └─> unpack  (agent: into a fresh directory)
//! ```
//!
//! Inside zstd is one tar: `manifest.json` (the format, the release's manifest, the list of members), then the members
//! `files/...` in the order of their paths. The list decides every byte of the tar but the contents of files, and
//! those it names by sha256. So checking a bundle never interprets a foreign header: it makes the header that must be
//! there and compares. What a list cannot say (devices, hard links, setuid bits, owners) cannot be in a bundle.
//!
//! The identity of a bundle is the sha256 of the tar; zstd is only how it travels. Everything here blocks: call it
//! from a blocking thread.

mod build;
mod carry;
mod decode;
mod header;
mod listing;
mod path;
mod refused;
mod tree;
mod unpack;
mod verify;

pub use build::{BuildError, Built, FILES_DIR, Progress, RELEASE_FILE, build};
pub use carry::{carry, decode};
pub use listing::{FORMAT, LISTING_MAX, Listing, MEMBERS_MAX, Member};
pub use path::{COMPONENT_MAX, LinkRule, PATH_MAX, PathRule};
pub use refused::Refused;
pub use unpack::{UnpackError, is_partial, remove_partial, unpack};
pub use verify::{Contents, Limits, inspect, verify};
