//! The configuration files that packages install say what is true: they name each setting that there is, and its default
//! is the one they give.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use comber_test_support::Binaries;

/// Settings that have no default, or one that is the machine's own: the file gives an example.
const EXAMPLES: [&str; 4] = ["controller", "name", "variables.PORT", "artifacts.dir"];

/// A setting as `show-config` prints it.
#[derive(Debug, PartialEq)]
struct Shown {
    value: String,
    /// Where it comes from: a file, or its being the default.
    origin: String,
}

#[expect(clippy::unwrap_used, reason = "a test that cannot ask has failed")]
fn ask(program: &Path, file: &Path, question: &str) -> String {
    let output = Command::new(program)
        .arg("--config")
        .arg(file)
        .arg(question)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{} {question}: {error}",
        program.display()
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What `show-config` prints, by key; settings that are not set are absent.
fn shown(program: &Path, file: &Path) -> BTreeMap<String, Shown> {
    let text = ask(program, file, "show-config");
    let set = text.lines().filter_map(|line| line.split_once(" = "));
    set.map(|(key, rest)| {
        let (value, origin) = rest.rsplit_once("  # ").unwrap_or((rest, ""));
        let shown = Shown {
            value: value.to_owned(),
            origin: origin.to_owned(),
        };
        (key.to_owned(), shown)
    })
    .collect()
}

/// The file with every setting in force. A setting's comment has no space after the mark, an explanation's has.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| {
        line.strip_prefix('#')
            .filter(|rest| !rest.starts_with(' '))
            .unwrap_or(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
#[expect(clippy::unwrap_used, reason = "a test that cannot read has failed")]
fn holds(program: &Path, name: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../packaging/etc/comber")
        .join(name);
    let text = fs::read_to_string(source).unwrap();
    let home = tempfile::tempdir().unwrap();
    let place = |name: &str, content: &str| {
        let file: PathBuf = home.path().join(name);
        fs::write(&file, content).unwrap();
        file
    };
    let defaults = shown(program, &place("empty.toml", ""));
    let file = place("whole.toml", &uncommented(&text));
    ask(program, &file, "check-config");
    let written = shown(program, &file);
    let text_of_whole = ask(program, &file, "show-config");
    let unset: Vec<&str> = text_of_whole
        .lines()
        .filter(|line| line.ends_with(" is not set"))
        .collect();
    assert!(unset.is_empty(), "{name} does not name these: {unset:?}");
    for (key, setting) in &written {
        assert!(
            setting.origin.ends_with("whole.toml"),
            "{name} does not name {key}: {setting:?}"
        );
        if !EXAMPLES.contains(&key.as_str()) {
            let default = defaults.get(key).map(|default| &default.value);
            assert_eq!(
                Some(&setting.value),
                default,
                "{name}: {key} has another default"
            );
        }
    }
    assert_eq!(
        shown(program, &place("installed.toml", &text)),
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
