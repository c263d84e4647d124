//! Which packages an administrator of an RPM host said must not change: dnf's `versionlock` and its exclusions.
//!
//! Reads dnf's own files. Bias: what is named by a pattern that cannot be told for sure is held. Invariant: only packages that
//! are installed are held; what is excluded and not there may be brought by a release.

use std::path::Path;

use super::super::state::{Database, Key, Present};

/// Of dnf's plugin.
const VERSIONLOCK: &str = "etc/dnf/plugins/versionlock.list";
/// Of dnf itself.
const CONFIGURATION: &str = "etc/dnf/dnf.conf";

/// Marks what is held.
pub(super) fn mark(root: &Path, database: &mut Database) {
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap_or_default();
    let (locks, configuration) = (read(VERSIONLOCK), read(CONFIGURATION));
    let locked: Vec<&str> = locked(&locks).collect();
    let excluded = excluded(&configuration);
    for (key, present) in &mut database.packages {
        let is_locked = locked.iter().any(|line| is_lock_of(line, &key.name));
        let names = names(key, present);
        let is_excluded = excluded
            .iter()
            .any(|pattern| names.iter().any(|name| fits(pattern, name)));
        present.held = is_locked || is_excluded;
    }
}

/// Lines that name what must stay; one with a `!` keeps a version away and holds nothing.
fn locked(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '!']))
}

/// `name-epoch:version-release.arch`, of which the version may be a pattern; or the name alone.
fn is_lock_of(line: &str, name: &str) -> bool {
    let version = line
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('-'));
    line == name
        || version.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '*'))
}

/// The patterns of `excludepkgs` and its older name in the section `main`; a value goes on in lines that are indented.
fn excluded(text: &str) -> Vec<&str> {
    let (mut patterns, mut in_main, mut in_value) = (Vec::new(), false, false);
    for line in text.lines() {
        let begins = line.chars().next();
        if begins.is_none_or(|first| first == '#' || first == ';') {
            continue;
        }
        if let Some(section) = line.trim().strip_prefix('[') {
            (in_main, in_value) = (section.starts_with("main]"), false);
            continue;
        }
        let value = match line.split_once('=') {
            _ if begins.is_some_and(char::is_whitespace) && in_value => line,
            Some((key, value)) => {
                in_value = matches!(key.trim(), "exclude" | "excludepkgs");
                value
            }
            None => continue,
        };
        if in_main && in_value {
            let words = value.split([',', ' ', '\t']);
            patterns.extend(words.filter(|word| !word.is_empty()));
        }
    }
    patterns
}

/// How dnf's patterns may call a package.
fn names(key: &Key, present: &Present) -> [String; 4] {
    let (name, version, arch) = (&key.name, &present.version, &present.arch);
    let version = version
        .split_once(':')
        .map_or(version.as_str(), |(_, version)| version);
    [
        name.clone(),
        format!("{name}.{arch}"),
        format!("{name}-{version}"),
        format!("{name}-{version}.{arch}"),
    ]
}

/// Whether a pattern of the shell fits. A set in brackets stands for any character here: rather held than not.
fn fits(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = one_for_sets(pattern);
    let name: Vec<char> = name.chars().collect();
    // Where the last star stands, and how much of the name it takes so far.
    let (mut at, mut seen, mut star) = (0, 0, None);
    while seen < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(&c) if c == '?' || c == name[seen] => {
                at += 1;
                seen += 1;
            }
            Some(_) | None => {
                let Some((place, taken)) = star else {
                    return false;
                };
                star = Some((place, taken + 1));
                (at, seen) = (place + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

fn one_for_sets(pattern: &str) -> Vec<char> {
    let (mut whole, mut rest) = (Vec::new(), pattern);
    while let Some((before, after)) = rest.split_once('[') {
        let Some((_, after)) = after.split_once(']') else {
            break;
        };
        whole.extend(before.chars());
        whole.push('?');
        rest = after;
    }
    whole.extend(rest.chars());
    whole
}

#[cfg(test)]
mod tests {
    use super::super::super::state::Status;
    use super::*;

    fn held(lock: &str, configuration: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [(VERSIONLOCK, lock), (CONFIGURATION, configuration)] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut database = Database::default();
        for name in ["kernel", "kernel-core", "nginx", "nginx-mod"] {
            let present = Present {
                version: "1:5.14-1.el9".to_owned(),
                arch: "x86_64".to_owned(),
                status: Status::Installed,
                held: false,
                automatic: false,
            };
            let key = database.key(name, "x86_64");
            database.packages.insert(key, present);
        }
        mark(dir.path(), &mut database);
        let held = database.packages.iter().filter(|(_, one)| one.held);
        held.map(|(key, _)| key.name.clone()).collect()
    }

    #[test]
    fn locks_are_of_one_package_each() {
        let locks = "# Added lock on Tue\nnginx-1:5.14-1.*\n!kernel-core-0:6-1.*\n";
        assert_eq!(held(locks, ""), ["nginx"]);
        assert_eq!(held("kernel\n", ""), ["kernel"]);
        assert_eq!(held("kernel-*\n", ""), ["kernel"]);
    }

    #[test]
    fn exclusions_are_patterns_of_the_main_section() {
        let main = |value: &str| format!("[main]\nbest=True\n{value}\n[other]\nexclude=nginx\n");
        assert_eq!(
            held("", &main("exclude=kernel*")),
            ["kernel", "kernel-core"]
        );
        assert_eq!(
            held("", &main("excludepkgs = none, kernel\n  nginx-mod.x86_64")),
            ["kernel", "nginx-mod"]
        );
        assert_eq!(
            held("", &main("excludepkgs=ngin[xy]-5.14-1.el?")),
            ["nginx"]
        );
        assert!(held("", &main("#exclude=kernel*\nskip=kernel")).is_empty());
    }
}
