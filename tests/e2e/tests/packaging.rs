//! The configuration files that packages install say what is true: each setting that they name exists, and its default is
//! the one they give.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use comber_test_support::Binaries;

/// Settings that have no default, or one that is the machine's own: the file gives an example.
const EXAMPLES: [&str; 4] = ["controller", "name", "variables.PORT", "artifacts.dir"];

/// What `show-config` prints, by key; settings that are not set are absent.
#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn shown(program: &Path, file: Option<&Path>) -> BTreeMap<String, String> {
    let mut command = Command::new(program);
    if let Some(file) = file {
        command.arg("--config").arg(file);
    }
    let output = command.arg("show-config").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {error}", program.display());
    let text = String::from_utf8(output.stdout).unwrap();
    let set = text.lines().filter_map(|line| line.split_once(" = "));
    set.map(|(key, rest)| {
        let value = rest.rsplit_once("  #").map_or(rest, |(value, _)| value);
        (key.to_owned(), value.to_owned())
    })
    .collect()
}

#[track_caller]
#[expect(clippy::unwrap_used, reason = "a test that cannot read has failed")]
fn holds(program: &Path, name: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../packaging/etc/comber")
        .join(name);
    let text = fs::read_to_string(source).unwrap();
    let home = tempfile::tempdir().unwrap();
    let file: PathBuf = home.path().join(name);
    // A setting's comment has no space after the mark, an explanation's has.
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| !rest.starts_with(' '))
                .unwrap_or(line)
        })
        .collect();
    fs::write(&file, uncommented.join("\n")).unwrap();
    let defaults = shown(program, None);
    let written = shown(program, Some(&file));
    for (key, value) in &written {
        if EXAMPLES.contains(&key.as_str()) {
            continue;
        }
        assert_eq!(
            Some(value),
            defaults.get(key),
            "{name}: {key} has another default"
        );
    }
    for key in defaults.keys() {
        let short = key.rsplit('.').next().unwrap();
        assert!(
            text.contains(&format!("#{short} = ")),
            "{name} does not name {key}"
        );
    }
    fs::write(&file, &text).unwrap();
    assert_eq!(
        shown(program, Some(&file)),
        defaults,
        "{name} changes something as it is installed"
    );
}

#[test]
fn the_installed_files_name_every_setting_with_its_default() {
    let binaries = Binaries::get().unwrap();
    holds(&binaries.controller, "controller.toml");
    holds(&binaries.agent, "agent.toml");
}
