//! Builds small releases, takes bundles apart and puts forged ones together.
//!
//! The tar written here is made independently of the crate's own, so that each can be held against the other.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use comber_bundle::{Built, build};
use comber_model::{Artifact, Digest};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// The least that a release says of itself.
pub(crate) const RELEASE: &str = r#"
name = "webapp"
version = "2.4.1"
[installer]
type = "archive"
path = "/opt/webapp"
"#;

/// A directory of a release that is filled step by step.
pub(crate) struct Source {
    /// Holds `release.toml` and `files/`.
    pub(crate) dir: TempDir,
}

impl Source {
    /// A release without members.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("files")).unwrap();
        fs::write(dir.path().join("release.toml"), RELEASE).unwrap();
        Self { dir }
    }

    /// The place of a member.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("files").join(path)
    }

    /// Adds a file, and its directories.
    pub(crate) fn file(self, path: &str, content: &[u8], mode: u32) -> Self {
        let place = self.at(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, content).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Adds a directory.
    pub(crate) fn dir(self, path: &str) -> Self {
        fs::create_dir_all(self.at(path)).unwrap();
        self
    }

    /// Adds a symbolic link.
    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        symlink(target, self.at(path)).unwrap();
        self
    }

    /// Builds it beside.
    #[track_caller]
    pub(crate) fn build(&self) -> Built {
        self.build_as("out.bundle")
    }

    /// Builds it beside under that name.
    #[track_caller]
    pub(crate) fn build_as(&self, name: &str) -> Built {
        let out = self.dir.path().join(name);
        build(self.dir.path(), &out, &mut |_| {}).unwrap()
    }
}

/// One file, one directory, one link: few enough bytes to try every one of them.
pub(crate) fn small() -> Source {
    Source::new()
        .file("bin/app", b"#!/bin/sh\necho hello\n", 0o755)
        .link("app", "bin/app")
        .file("readme", &[b'x'; 700], 0o644)
}

/// The tar inside a bundle.
pub(crate) fn decoded(path: &Path) -> Vec<u8> {
    zstd::decode_all(fs::File::open(path).unwrap()).unwrap()
}

/// Carries a tar, and says truthfully what it is.
pub(crate) fn carried(tar: &[u8]) -> (Vec<u8>, Artifact) {
    let bytes = zstd::encode_all(tar, 1).unwrap();
    let artifact = Artifact {
        digest: Digest(Sha256::digest(tar).into()),
        length: tar.len() as u64,
        carried_length: bytes.len() as u64,
    };
    (bytes, artifact)
}

/// A tar put together by hand.
#[derive(Default)]
pub(crate) struct Forged {
    members: Vec<Value>,
    body: Vec<u8>,
}

impl Forged {
    /// Lists a file without adding it.
    pub(crate) fn listed(mut self, path: &str, content: &[u8]) -> Self {
        let sha256 = Digest(Sha256::digest(content).into()).to_string();
        self.members.push(json!({
            "kind": "file", "path": path, "executable": false, "size": content.len(), "sha256": sha256,
        }));
        self
    }

    /// Lists anything.
    pub(crate) fn listed_as(mut self, member: Value) -> Self {
        self.members.push(member);
        self
    }

    /// Adds a file without listing it; `name` is the whole name in the tar.
    pub(crate) fn packed(self, name: &str, content: &[u8]) -> Self {
        self.packed_as(name, 0o644, b'0', "", content)
    }

    /// Adds anything without listing it.
    pub(crate) fn packed_as(
        mut self,
        name: &str,
        mode: u32,
        kind: u8,
        link: &str,
        content: &[u8],
    ) -> Self {
        self.body
            .extend(header(name, mode, kind, link, content.len()));
        self.body.extend(content);
        pad(&mut self.body);
        self
    }

    /// A file that is both listed and there.
    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.listed(path, content)
            .packed(&format!("files/{path}"), content)
    }

    /// A directory that is both listed and there.
    pub(crate) fn dir(self, path: &str) -> Self {
        self.listed_as(json!({"kind": "dir", "path": path}))
            .packed_as(&format!("files/{path}/"), 0o755, b'5', "", b"")
    }

    /// A link that is both listed and there.
    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.listed_as(json!({"kind": "symlink", "path": path, "target": target}))
            .packed_as(&format!("files/{path}"), 0o777, b'2', target, b"")
    }

    /// The whole tar.
    pub(crate) fn tar(self) -> Vec<u8> {
        let manifest = json!({
            "name": "webapp", "version": "2.4.1",
            "installer": {"type": "archive", "path": "/opt/webapp"},
        });
        let list = json!({"format": 1, "manifest": manifest, "members": self.members});
        tar_with_list(&serde_json::to_vec(&list).unwrap(), &self.body)
    }
}

/// A tar with any text as its list.
pub(crate) fn tar_with_list(list: &[u8], body: &[u8]) -> Vec<u8> {
    let mut tar = header("manifest.json", 0o644, b'0', "", list.len());
    tar.extend(list);
    pad(&mut tar);
    tar.extend(body);
    tar.extend([0; 1024]);
    tar
}

/// The header of one member.
pub(crate) fn header(name: &str, mode: u32, kind: u8, link: &str, size: usize) -> Vec<u8> {
    let (time, blank, kind) = (315_532_800, "", char::from(kind));
    let numbers = format!(
        "{mode:07o}\0{0:07o}\0{0:07o}\0{size:011o}\0{time:011o}\0",
        0
    );
    let text = format!("{name:\0<100}{numbers}{blank:8}{kind}{link:\0<100}ustar  \0");
    let mut block = text.into_bytes();
    block.resize(512, 0);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn pad(tar: &mut Vec<u8>) {
    tar.resize(tar.len().next_multiple_of(512), 0);
}
