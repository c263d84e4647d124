//! Units of systemd that failed.
//!
//! Asks `systemctl` once. Bias: where there is no systemd, or it does not answer in time, no unit has failed; a selector
//! that asks for failed units then does not match. Invariant: at most [`NAMES_MAX`] valid names, sorted.

use std::time::Duration;

use comber_model::facts::{NAMES_MAX, TEXT_MAX};

use crate::query::{Bounds, ask};

const COMMAND: [&str; 7] = [
    "systemctl",
    "list-units",
    "--state=failed",
    "--full",
    "--plain",
    "--no-legend",
    "--no-pager",
];
const BOUNDS: Bounds = Bounds {
    // systemd reloading itself answers nobody for some seconds.
    time: Duration::from_secs(20),
    bytes: 256 << 10,
};

/// The names of units that failed.
pub(super) async fn failed() -> Vec<String> {
    match ask(&COMMAND, BOUNDS).await {
        Ok(answer) if answer.code == Some(0) => parse(&answer.text),
        Ok(_) => Vec::new(),
        Err(error) => {
            tracing::debug!(%error, "failed units are not known");
            Vec::new()
        }
    }
}

fn parse(text: &str) -> Vec<String> {
    let first_words = text
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let mut names: Vec<String> = first_words
        .filter(|name| is_unit(name))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names.truncate(NAMES_MAX);
    names
}

/// As systemd.unit(5) allows them, with a suffix.
fn is_unit(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    name.len() <= TEXT_MAX && name.contains('.') && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_what_systemctl_prints() {
        let text = "nginx.service         loaded failed failed A high performance web server\n\
                    dev-disk-by\\x2dlabel-x.swap loaded failed failed /dev/disk/by-label/x\n\
                    fsck@dev-sdb.service  loaded failed failed File System Check\n";
        assert_eq!(
            parse(text),
            [
                "dev-disk-by\\x2dlabel-x.swap",
                "fsck@dev-sdb.service",
                "nginx.service"
            ]
        );
        assert!(parse("").is_empty());
    }

    #[test]
    fn hostile_output_is_cut() {
        let many: Vec<String> = (0..500).map(|n| format!("u{n:03}.service x\n")).collect();
        assert_eq!(parse(&many.concat()).len(), NAMES_MAX);
        let long = format!("{}.service loaded", "a".repeat(TEXT_MAX));
        assert!(
            parse(&format!(
                "{long}\n\u{25cf} loaded\nno-suffix x\na\u{1b}.service\n"
            ))
            .is_empty()
        );
    }
}
