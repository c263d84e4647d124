//! Runs every file in `tests/scenarios` and compares what it says with what happens.
//!
//! To accept what happens now: `COMBER_ACCEPT=1 cargo nextest run -p comber-planner scenarios`, then read the diff.

use std::fmt::Write as _;
use std::path::Path;

use crate::script::Script;

#[test]
fn scenarios_say_what_happens() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 15, "scenarios are missing");
    let mut wrong = String::new();
    for file in files {
        let written = std::fs::read_to_string(&file).unwrap();
        let happened = replay(&written);
        if written == happened {
            continue;
        }
        if accepts() {
            std::fs::write(&file, happened).unwrap();
        } else {
            let _ = writeln!(
                wrong,
                "{}:\n{}",
                file.display(),
                difference(&written, &happened)
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nto accept: COMBER_ACCEPT=1");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one switch by which a person accepts new output"
)]
fn accepts() -> bool {
    std::env::var_os("COMBER_ACCEPT").is_some()
}

/// The file with what happens now in place of what was expected.
fn replay(text: &str) -> String {
    let mut script = Script::new();
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut commands = vec![line.to_owned()];
        for line in lines.by_ref() {
            out.push_str(line);
            out.push('\n');
            if line == "----" {
                break;
            }
            commands.push(line.to_owned());
        }
        while lines.next_if(|line| !line.is_empty()).is_some() {}
        out.push_str(&script.run(&commands));
    }
    out
}

fn difference(written: &str, happened: &str) -> String {
    let (a, b): (Vec<_>, Vec<_>) = (written.lines().collect(), happened.lines().collect());
    let first = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let show = |lines: &[&str]| {
        let from = first.saturating_sub(3);
        let part: Vec<&str> = lines.iter().skip(from).take(15).copied().collect();
        part.join("\n    ")
    };
    format!(
        "  line {}, written:\n    {}\n  happened:\n    {}",
        first + 1,
        show(&a),
        show(&b)
    )
}
