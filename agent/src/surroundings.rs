//! What the commands and checks of a release run in: the values of `${NAME}`, which are also their environment.
//!
//! Pure. Invariant: a name that has no value is an error that says the name, never an empty text in a command.

use std::collections::BTreeMap;

use thiserror::Error;

/// Names and their values: the host's variables from the agent's configuration, and what the agent adds.
pub type Variables = BTreeMap<String, String>;

/// A text that cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExpandError {
    /// No value.
    #[error(
        "the variable ${{{name}}} has no value on this host; set it under [variables] in agent.toml"
    )]
    Unknown {
        /// Without the braces.
        name: String,
    },
    /// `${` without its end.
    #[error("{text:?} has a ${{ without a }}")]
    Unclosed {
        /// The whole text.
        text: String,
    },
}

/// `text` with each `${NAME}` replaced; what is put in is not looked at again.
pub fn expand(text: &str, variables: &Variables) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').ok_or_else(|| ExpandError::Unclosed {
            text: text.to_owned(),
        })?;
        let value = variables.get(name).ok_or_else(|| ExpandError::Unknown {
            name: name.to_owned(),
        })?;
        expanded.push_str(before);
        expanded.push_str(value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_once() {
        let variables = Variables::from([
            ("PORT".to_owned(), "80".to_owned()),
            ("ODD".to_owned(), "${PORT}".to_owned()),
        ]);
        let expanded = |text| expand(text, &variables);
        assert_eq!(expanded("a:${PORT}/${PORT}").unwrap(), "a:80/80");
        assert_eq!(expanded("${ODD} $PORT {}").unwrap(), "${PORT} $PORT {}");
        let unknown = expanded("x${HOST}").unwrap_err().to_string();
        assert!(
            unknown.starts_with("the variable ${HOST} has no value"),
            "{unknown}"
        );
        assert!(matches!(
            expanded("${PORT"),
            Err(ExpandError::Unclosed { .. })
        ));
    }
}
