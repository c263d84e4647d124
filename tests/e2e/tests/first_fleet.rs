//! The document for a first real fleet works when it is pasted.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use comber_test_support::Binaries;

/// The blocks of the document that are to be pasted, in order.
fn blocks(document: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut rest = document;
    while let Some((_, after)) = rest.split_once("```sh\n") {
        let (block, after) = after.split_once("```\n").expect("every block ends");
        blocks.push(block.to_owned());
        rest = after;
    }
    blocks
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener
        .local_addr()
        .expect("it is bound")
        .port()
        .to_string()
}

#[test]
fn the_document_works_when_pasted() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/first-fleet.md");
    let mut blocks = blocks(&fs::read_to_string(document).unwrap());
    assert!(blocks.len() >= 8, "the document has lost its blocks");
    // The programs are built already, with the profile of this test.
    let build = blocks.remove(0);
    assert!(build.contains("cargo build"), "{build}");
    let binaries = Binaries::get().unwrap();
    let programs = binaries.comber.parent().unwrap().display().to_string();
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("pasted");
    // What the document leaves running is ended also when a block fails.
    let ending = "trap 'kill $(cat \"$fleet\"/*.pid \"$fleet\"/*/*.pid 2>/dev/null) 2>/dev/null || true' EXIT";
    let text = format!(
        "set -euo pipefail\nexport PATH=\"{programs}:$PATH\"\n{}\n{ending}\n{}",
        blocks[0],
        blocks[1..].join("\n")
    );
    fs::write(&script, text).unwrap();
    let output = Command::new("bash")
        .arg(&script)
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("USER", "ada")
        .env("PORT", free_port())
        .env("METRICS_PORT", free_port())
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("COMBER_CONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "the document fails:\n{out}\n{err}");
    assert_eq!(out.matches("hello from version 1").count(), 2, "{out}");
    assert!(out.contains("r1 (hello@1) is completed"), "{out}");
}
