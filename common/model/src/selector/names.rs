//! Which names a selector reads: every one must be known, and packages are asked for by literal name only.
//!
//! Pure. Invariant: an expression that passes reads no fact that a host cannot have, and no package that it does not
//! name in plain sight, so that what it needs is known before a host is looked at.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};
use serde_json::Value;

use crate::Invalid;
use crate::invalid::nearest;

const ROOTS: [&str; 3] = ["facts", "labels", "host"];
/// Facts by a key that the host chooses; what stands behind any key looks like the sample's.
const MAPS: [&str; 1] = ["disks"];
/// Facts that the controller adds to those that the host says.
const ADDED: [&str; 3] = ["package_count", "package_digest", "packages"];

/// Checks an expression against the facts of `sample`; gives the packages that it asks for, by name.
pub(super) fn check(expression: &IdedExpr, sample: &Value) -> Result<Vec<Arc<str>>, Invalid> {
    let mut walk = Walk {
        sample,
        packages: BTreeSet::new(),
    };
    walk.visit(expression)?;
    Ok(walk.packages.into_iter().collect())
}

struct Walk<'a> {
    sample: &'a Value,
    packages: BTreeSet<Arc<str>>,
}

impl Walk<'_> {
    /// Every name must be known, and loops (comprehensions) are refused.
    fn visit(&mut self, expression: &IdedExpr) -> Result<(), Invalid> {
        if let Some(path) = path_of(expression) {
            return self.visit_path(&path);
        }
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => Ok(()),
            Expr::Select(select) => self.visit(&select.operand),
            Expr::Call(call) => {
                if let (operators::IN, [name, list]) = (call.func_name.as_str(), &*call.args)
                    && path_of(list).is_some_and(|path| path == ["facts", "packages"])
                    && let Some(name) = literal(name)
                {
                    self.packages.insert(name.into());
                    return Ok(());
                }
                let target = call.target.iter().map(AsRef::as_ref);
                target
                    .chain(&call.args)
                    .try_for_each(|part| self.visit(part))
            }
            Expr::List(list) => list.elements.iter().try_for_each(|part| self.visit(part)),
            Expr::Comprehension(_) => Err(Invalid::new(
                "",
                "uses a loop (all, exists, map, filter); list the values with `in` instead",
            )),
            Expr::Map(_) | Expr::Struct(_) => Err(Invalid::new(
                "",
                "builds a map or message; a selector only compares",
            )),
        }
    }

    fn visit_path(&mut self, path: &[&str]) -> Result<(), Invalid> {
        match path {
            ["facts"] => Err(Invalid::new(
                "",
                "reads facts as a whole, which names no fact; write facts.os.id",
            )),
            ["facts", "packages"] => Err(Invalid::new(
                "",
                "reads facts.packages as a whole; ask by a literal name, \"openssl\" in facts.packages or \
                 facts.packages[\"openssl\"], or for facts.package_count",
            )),
            ["facts", "packages", name] => {
                self.packages.insert((*name).into());
                Ok(())
            }
            ["facts", "packages", name, ..] => Err(Invalid::new(
                "",
                format!("reads parts of facts.packages[{name:?}], which is a text"),
            )),
            ["facts", fields @ ..] => self.check_fact(fields),
            [root, ..] => check_root(root),
            [] => Ok(()),
        }
    }

    /// Checks `facts.a.b` against the facts that exist.
    fn check_fact(&self, fields: &[&str]) -> Result<(), Invalid> {
        if ADDED.contains(&fields[0]) {
            return Ok(());
        }
        let mut level = self.sample;
        let mut place = "facts".to_owned();
        let mut any_key = false;
        for field in fields {
            let known = level.as_object();
            let next = known.and_then(|map| {
                let sample = map.values().next().filter(|_| any_key);
                sample.or_else(|| map.get(*field))
            });
            let Some(next) = next else {
                // Behind the first level nothing is added.
                let added = ADDED.into_iter().filter(|_| place == "facts");
                let known = known.into_iter().flat_map(|map| map.keys());
                let known: Vec<&str> = known.map(String::as_str).chain(added).collect();
                return Err(unknown(&place, field, &known));
            };
            any_key = place == "facts" && MAPS.contains(field);
            place = format!("{place}.{field}");
            level = next;
        }
        Ok(())
    }
}

fn unknown(place: &str, field: &str, known: &[&str]) -> Invalid {
    let hint = nearest(field, known.iter().copied()).map_or_else(
        || format!("known are {}", known.join(", ")),
        |near| format!("did you mean {place}.{near}?"),
    );
    Invalid::new("", format!("there is no fact {place}.{field}; {hint}"))
}

fn check_root(name: &str) -> Result<(), Invalid> {
    if ROOTS.contains(&name) {
        return Ok(());
    }
    let hint =
        nearest(name, ROOTS).map_or_else(String::new, |near| format!("; did you mean {near}?"));
    Err(Invalid::new(
        "",
        format!("{name:?} is unknown; known are facts, labels and host{hint}"),
    ))
}

/// The names of `a.b["c"]`.
fn path_of(expression: &IdedExpr) -> Option<Vec<&str>> {
    let (operand, field) = match &expression.expr {
        Expr::Ident(name) => return Some(vec![name]),
        Expr::Select(select) => (&*select.operand, select.field.as_str()),
        Expr::Call(call) => match (call.func_name.as_str(), &*call.args) {
            (operators::INDEX, [operand, key]) => (operand, literal(key)?),
            _ => return None,
        },
        _ => return None,
    };
    let mut path = path_of(operand)?;
    path.push(field);
    Some(path)
}

fn literal(expression: &IdedExpr) -> Option<&str> {
    match &expression.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}
