//! Which paths a member may have and where a symbolic link may point.
//!
//! Pure. Invariant: a path that passed names a place below the directory it is joined to, and a link that passed
//! leads to no place outside of it, whatever other links that passed stand on the way.

use thiserror::Error;

/// Longest path of a member and longest target of a link, in bytes.
pub const PATH_MAX: usize = 1024;
/// Longest single name in bytes: what Linux file systems take.
pub const COMPONENT_MAX: usize = 255;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum PathRule {
    #[error("is empty")]
    Empty,
    #[error("is longer than {PATH_MAX} bytes")]
    TooLong,
    #[error("is absolute; paths are relative to the release")]
    Absolute,
    #[error("contains `..`")]
    Traversal,
    #[error("contains an empty part or `.`; each place has one spelling")]
    Unnormalised,
    #[error("has a name longer than {COMPONENT_MAX} bytes")]
    NameTooLong,
    #[error("contains a NUL byte")]
    Nul,
    #[error("contains a control character")]
    Control,
}

/// Why the target of a symbolic link is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "each variant's message says it")]
pub enum LinkRule {
    #[error("is empty")]
    Empty,
    #[error("is longer than {PATH_MAX} bytes")]
    TooLong,
    #[error("is absolute; a release may only link to its own files")]
    Absolute,
    #[error("leaves the release")]
    Escapes,
    #[error("has `..` after a name; it may stand at the beginning only")]
    LateParent,
    #[error("contains a control character or NUL")]
    Control,
}

/// Judges the path of a member.
pub(crate) fn check_path(path: &str) -> Result<(), PathRule> {
    if path.is_empty() {
        return Err(PathRule::Empty);
    }
    if path.len() > PATH_MAX {
        return Err(PathRule::TooLong);
    }
    if path.contains('\0') {
        return Err(PathRule::Nul);
    }
    // A line break in a name would forge lines of logs and of listings.
    if path.chars().any(char::is_control) {
        return Err(PathRule::Control);
    }
    if path.starts_with('/') {
        return Err(PathRule::Absolute);
    }
    for part in path.split('/') {
        match part {
            ".." => return Err(PathRule::Traversal),
            "" | "." => return Err(PathRule::Unnormalised),
            part if part.len() > COMPONENT_MAX => return Err(PathRule::NameTooLong),
            _ => {}
        }
    }
    Ok(())
}

/// Judges the target of the link at `path`, which must have passed [`check_path`].
///
/// `..` may stand only at the beginning: there it is taken from the link's own directory, which is a real one. After a
/// name it would be taken from wherever that name leads, and two harmless links could lead out together.
pub(crate) fn check_link(path: &str, target: &str) -> Result<(), LinkRule> {
    if target.is_empty() {
        return Err(LinkRule::Empty);
    }
    if target.len() > PATH_MAX {
        return Err(LinkRule::TooLong);
    }
    if target.chars().any(char::is_control) {
        return Err(LinkRule::Control);
    }
    if target.starts_with('/') {
        return Err(LinkRule::Absolute);
    }
    let depth = path.split('/').count() - 1;
    let (mut ups, mut named) = (0, false);
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if named => return Err(LinkRule::LateParent),
            ".." => ups += 1,
            _ => named = true,
        }
    }
    if ups > depth {
        return Err(LinkRule::Escapes);
    }
    Ok(())
}

/// The directory that `path` is in; `None` at the top.
pub(crate) fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

/// A foreign text in a form that is safe to print: quoted, and cut where it would fill the screen.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 120;
    let mut cut: String = text.chars().take(SHOWN_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_rule_has_a_path_that_breaks_it() {
        let long = "x".repeat(COMPONENT_MAX + 1);
        let longer = "x/".repeat(PATH_MAX);
        for (path, rule) in [
            ("", PathRule::Empty),
            ("/etc/passwd", PathRule::Absolute),
            ("../x", PathRule::Traversal),
            ("a/../../x", PathRule::Traversal),
            ("a//b", PathRule::Unnormalised),
            ("./a", PathRule::Unnormalised),
            ("a/", PathRule::Unnormalised),
            ("a\0b", PathRule::Nul),
            ("a\nb", PathRule::Control),
            (long.as_str(), PathRule::NameTooLong),
            (longer.as_str(), PathRule::TooLong),
        ] {
            assert_eq!(check_path(path), Err(rule), "{path:?}");
        }
        for good in ["a", "a/b", "a..b", "...", "-x", "a b", "ä", "a\\b"] {
            assert_eq!(check_path(good), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn a_link_may_climb_no_higher_than_the_release() {
        for (path, target) in [
            ("a", "b"),
            ("a/b", "../c"),
            ("a/b", "./c"),
            ("a/b/c", "../.."),
            ("a", "."),
        ] {
            assert_eq!(check_link(path, target), Ok(()), "{path} -> {target}");
        }
        for (path, target, rule) in [
            ("a", "..", LinkRule::Escapes),
            ("a/b", "../../c", LinkRule::Escapes),
            ("a", "/etc", LinkRule::Absolute),
            ("a", "", LinkRule::Empty),
            // With `s -> ..` beside it, this one would lead out of the release.
            ("d/a", "s/../../etc", LinkRule::LateParent),
            ("a", "b\0", LinkRule::Control),
        ] {
            assert_eq!(check_link(path, target), Err(rule), "{path} -> {target}");
        }
    }

    #[test]
    fn a_foreign_text_is_quoted_and_cut() {
        assert_eq!(shown("a\n"), "\"a\\n\"");
        assert!(shown(&"x".repeat(5000)).len() < 200);
    }
}
