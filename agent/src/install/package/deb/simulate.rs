//! What apt says that it would do.
//!
//! Pure: reads the answer of `apt-get --simulate`. Invariant: each line that changes a package is understood, or the whole
//! answer is refused.

use super::super::state::{Database, Key};

/// What would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Plan {
    /// What would be installed, in which version.
    pub installs: Vec<(Key, String)>,
    pub removes: Vec<Key>,
}

/// Reads the answer; an error is a line that is not understood.
pub(super) fn read(answer: &str, database: &Database) -> Result<Plan, String> {
    let mut plan = Plan::default();
    for line in answer.lines() {
        let refused = || format!("apt said {line:?}");
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Inst") => {
                let name = words.next().ok_or_else(refused)?;
                let (_, new) = line.split_once('(').ok_or_else(refused)?;
                let version = new.split_whitespace().next().ok_or_else(refused)?;
                let key = named(name, database);
                plan.installs.push((key, version.to_owned()));
            }
            Some("Remv" | "Purg") => {
                let name = words.next().ok_or_else(refused)?;
                plan.removes.push(named(name, database));
            }
            Some(_) | None => {}
        }
    }
    Ok(plan)
}

/// Why apt finds no way, in its own words.
pub(super) fn reason(answer: &str, errors: &str) -> String {
    let unmet: Vec<&str> = answer
        .lines()
        .skip_while(|line| !line.starts_with("The following packages have unmet dependencies"))
        .skip(1)
        .take_while(|line| line.starts_with(' '))
        .map(str::trim)
        .collect();
    if unmet.is_empty() {
        let errors: Vec<&str> = errors
            .lines()
            .filter(|line| line.starts_with("E:"))
            .collect();
        return errors.join("; ");
    }
    unmet.join("; ")
}

/// apt names the architecture of foreign packages only.
fn named(name: &str, database: &Database) -> Key {
    match name.split_once(':') {
        Some((name, arch)) => database.key(name, arch),
        None => database.key(name, "all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let database = Database {
            native: "amd64".to_owned(),
            ..Database::default()
        };
        let answer = "Reading package lists...\n\
            Inst b (2:1.0 Debian:12.15/oldstable [amd64])\n\
            Inst a:i386 [1] (2 local-deb [i386]) []\n\
            Remv c [1.0]\nConf b (2:1.0 local-deb [amd64])\n";
        let plan = read(answer, &database).unwrap();
        assert_eq!(
            plan.installs[0],
            (database.key("b", "all"), "2:1.0".to_owned())
        );
        assert_eq!(
            plan.installs[1],
            (database.key("a", "i386"), "2".to_owned())
        );
        assert_eq!(plan.removes, [database.key("c", "amd64")]);
        assert!(read("Inst b\n", &database).is_err());
    }

    #[test]
    fn the_reason_is_what_is_missing() {
        let answer = "Some packages could not be installed.\n\
            The following packages have unmet dependencies:\n \
            a : Depends: b (= 2) but it is not installable\n     Depends: c but it is not going to be installed\n";
        let errors = "W: x\nE: Unable to correct problems, you have held broken packages.\n";
        assert_eq!(
            reason(answer, errors),
            "a : Depends: b (= 2) but it is not installable; Depends: c but it is not going to be installed"
        );
        assert_eq!(
            reason("", errors),
            "E: Unable to correct problems, you have held broken packages."
        );
    }
}
