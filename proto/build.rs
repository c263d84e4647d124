//! Compiles the proto files without protoc, and keeps their descriptors for reflection.

use std::path::PathBuf;

use prost::Message as _;

const SERVICES: [&str; 8] = [
    "agent",
    "budget",
    "enrolment",
    "event",
    "freeze",
    "host",
    "release",
    "rollout",
];

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells build scripts where to write by environment"
)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files: Vec<String> = SERVICES
        .iter()
        .map(|area| format!("comber/{area}/v1/service.proto"))
        .collect();
    println!("cargo::rerun-if-changed=comber");
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::SmallCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
