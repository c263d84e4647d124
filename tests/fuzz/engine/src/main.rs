//! libFuzzer runs one target, named by `COMBER_FUZZ_TARGET`. One program for all of them: it is linked once.
#![no_main]

use std::sync::OnceLock;

static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

fn chosen() -> fn(&[u8]) {
    let name = std::env::var("COMBER_FUZZ_TARGET").unwrap_or_default();
    let known: Vec<_> = comber_fuzz::TARGETS.iter().map(|target| target.name).collect();
    let target = comber_fuzz::find(&name);
    let target = target.unwrap_or_else(|| panic!("{name:?} is no target; there are {known:?}"));
    target.run
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    RUN.get_or_init(chosen)(bytes);
});
