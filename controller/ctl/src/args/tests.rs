//! The command line itself: it is consistent, and every example in the help parses.

use clap::{CommandFactory as _, Parser as _};

use super::*;

fn words(line: &str) -> Vec<String> {
    let line = line.split(" > ").next().unwrap_or(line);
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("there is always a word").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn collect(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
    let path = format!("{path} {}", command.get_name()).trim().to_owned();
    let help = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let examples: Vec<&str> = help
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .collect();
    assert!(!examples.is_empty(), "{path} has no example");
    found.extend(
        examples
            .iter()
            .map(|example| (path.clone(), (*example).to_owned())),
    );
    for sub in command.get_subcommands() {
        collect(sub, &path, found);
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_examples_and_each_parses_to_that_command() {
    let mut found = Vec::new();
    collect(&Cli::command(), "", &mut found);
    assert!(found.len() > 40, "{found:?}");
    for (path, example) in found {
        assert!(
            example.starts_with(&path),
            "{example:?} is no example of {path}"
        );
        if let Err(error) = Cli::try_parse_from(words(&example)) {
            panic!("{example}: {error}");
        }
    }
}

#[test]
fn mistakes_are_refused() {
    for line in [
        "comber",
        "comber init --controller x",
        "comber init --token a --token-file b",
        "comber rollout create f --watch",
        "comber token create --uses 0",
        "comber token create --ttl 5",
        "comber token create --hosts --operator",
        "comber token create --label novalue",
        "comber rollout hosts --outcome done",
        "comber host label",
        "comber events --last 5 --after 7",
        "comber completion tcsh",
    ] {
        assert!(
            Cli::try_parse_from(words(line)).is_err(),
            "{line} was accepted"
        );
    }
}

#[test]
fn a_time_is_written_as_everywhere() {
    assert_eq!(time("1h30m").unwrap().as_secs(), 5400);
    assert!(time("90").unwrap_err().contains("30s"));
}
