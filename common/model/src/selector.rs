//! Selectors: a CEL expression over `facts`, `labels` and `host` that is true for the hosts meant.
//!
//! A selector is checked whole when it is made: syntax, unknown facts (with a suggestion), size, and that it yields a
//! boolean. A host that lacks a label which the expression reads is not selected: silence never selects.

use std::fmt;
use std::sync::{Arc, OnceLock};

use cel::common::ast::{Expr, IdedExpr};
use cel::{Context, Env, ExecutionError, Program, Value};
use serde_json::json;

use crate::invalid::nearest;
use crate::{Facts, HostId, Invalid, Labels};

/// Longest selector in bytes. Bounds the cost of parsing and, as no loop can be written, of evaluating one.
pub const SOURCE_MAX: usize = 4096;

/// Deepest expression that is accepted, in levels of operators and calls. Evaluation recurses once per level, on the
/// stack of whoever evaluates.
pub const DEPTH_MAX: usize = 24;

/// Stack for the parser, whose recursion over [`SOURCE_MAX`] hostile bytes no ordinary thread's stack would hold.
const PARSER_STACK: usize = 256 << 20;

const ROOTS: [&str; 3] = ["facts", "labels", "host"];

/// A checked selector. Cheap to clone.
#[derive(Clone)]
pub struct Selector {
    source: Arc<str>,
    program: Arc<Program>,
}

/// What a selector is evaluated on: one host, converted once for any number of selectors.
#[derive(Debug)]
pub struct Subject {
    facts: Value,
    labels: Value,
    host: Value,
}

impl Subject {
    /// The host as selectors see it.
    pub fn new(host: &HostId, facts: &Facts, labels: &Labels) -> Self {
        let value = |json: serde_json::Value| cel::to_value(json).unwrap_or(Value::Null);
        let labels: serde_json::Map<_, _> = labels
            .iter()
            .map(|(k, v)| (k.to_owned(), json!(v)))
            .collect();
        Self {
            facts: value(json!(facts)),
            labels: value(json!(labels)),
            host: value(json!(host.as_str())),
        }
    }
}

impl Selector {
    /// Parses and checks an expression; the error's field is empty, for the caller to say where it stood.
    pub fn parse(source: &str) -> Result<Self, Invalid> {
        if source.trim().is_empty() {
            return Err(Invalid::new(
                "",
                "is empty; write true to select every host",
            ));
        }
        if source.len() > SOURCE_MAX {
            let problem = format!(
                "has {} bytes, at most {SOURCE_MAX} are allowed",
                source.len()
            );
            return Err(Invalid::new("", problem));
        }
        let program = compile(source)?;
        let selector = Self {
            source: source.into(),
            program: Arc::new(program),
        };
        selector.check_type()?;
        Ok(selector)
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// True for a host that is meant. A host on which the expression fails (it lacks a label) is not.
    pub fn selects(&self, subject: &Subject) -> bool {
        matches!(self.evaluate(subject), Ok(Value::Bool(true)))
    }

    fn evaluate(&self, subject: &Subject) -> Result<Value, ExecutionError> {
        let mut context = Context::with_env(standard());
        context.add_variable_from_value("facts", subject.facts.clone());
        context.add_variable_from_value("labels", subject.labels.clone());
        context.add_variable_from_value("host", subject.host.clone());
        self.program.execute(&context)
    }

    /// Evaluates on a host without labels: finds what is no boolean, and operators on facts of the wrong type.
    fn check_type(&self) -> Result<(), Invalid> {
        let sample: HostId = "sample".parse()?;
        match self.evaluate(&Subject::new(
            &sample,
            &Facts::default(),
            &Labels::default(),
        )) {
            Ok(Value::Bool(_)) | Err(ExecutionError::NoSuchKey(_)) => Ok(()),
            Ok(other) => Err(Invalid::new(
                "",
                format!("yields {:?}, must yield true or false", other.type_of()),
            )),
            Err(error) => Err(Invalid::new("", format!("cannot be evaluated: {error}"))),
        }
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({:?})", self.source)
    }
}

/// Compiles and checks on a thread with a stack of its own; what is refused for its depth is also dropped there.
fn compile(source: &str) -> Result<Program, Invalid> {
    let text = source.to_owned();
    let parser = std::thread::Builder::new()
        .stack_size(PARSER_STACK)
        .spawn(move || {
            let program = Program::compile(&text)
                .map_err(|error| Invalid::new("", format!("is not a CEL expression: {error}")))?;
            check_names(program.expression(), &json!(Facts::default()))?;
            if depth(program.expression()) > DEPTH_MAX {
                let problem = format!(
                    "nests deeper than {DEPTH_MAX} levels; list values with `in`, or set a label"
                );
                return Err(Invalid::new("", problem));
            }
            Ok(program)
        });
    let failed = || Invalid::new("", "could not be parsed; simplify it");
    parser.map_err(|_| failed())?.join().map_err(|_| failed())?
}

/// The functions of CEL. Made once: making them costs more than evaluating a selector on a host.
fn standard() -> Arc<Env> {
    static STANDARD: OnceLock<Arc<Env>> = OnceLock::new();
    Arc::clone(STANDARD.get_or_init(|| Arc::new(Env::stdlib())))
}

fn depth(expression: &IdedExpr) -> usize {
    let below = match &expression.expr {
        Expr::Select(select) => depth(&select.operand),
        Expr::Call(call) => {
            let target = call.target.iter().map(AsRef::as_ref);
            target.chain(&call.args).map(depth).max().unwrap_or(0)
        }
        Expr::List(list) => list.elements.iter().map(depth).max().unwrap_or(0),
        // `check_names` has refused the last three.
        Expr::Unspecified
        | Expr::Literal(_)
        | Expr::Ident(_)
        | Expr::Comprehension(_)
        | Expr::Map(_)
        | Expr::Struct(_) => 0,
    };
    below + 1
}

/// Walks the expression: every name must be known, and loops (comprehensions) are refused.
fn check_names(expression: &IdedExpr, schema: &serde_json::Value) -> Result<(), Invalid> {
    match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) => Ok(()),
        Expr::Ident(name) => check_root(name),
        Expr::Select(select) => {
            check_names(&select.operand, schema)?;
            check_fact(expression, schema)
        }
        Expr::Call(call) => call
            .target
            .iter()
            .map(AsRef::as_ref)
            .chain(&call.args)
            .try_for_each(|part| check_names(part, schema)),
        Expr::List(list) => list
            .elements
            .iter()
            .try_for_each(|part| check_names(part, schema)),
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

/// Checks `facts.a.b` against the facts that exist.
fn check_fact(expression: &IdedExpr, schema: &serde_json::Value) -> Result<(), Invalid> {
    let Some(path) = path_of(expression) else {
        return Ok(());
    };
    let ["facts", fields @ ..] = path.as_slice() else {
        return Ok(());
    };
    let mut level = schema;
    for (depth, field) in fields.iter().enumerate() {
        let known = level.as_object();
        if let Some(next) = known.and_then(|map| map.get(*field)) {
            level = next;
            continue;
        }
        let place = path[..=depth].join(".");
        let known: Vec<&str> = known
            .into_iter()
            .flat_map(|m| m.keys())
            .map(String::as_str)
            .collect();
        let hint = nearest(field, known.iter().copied()).map_or_else(
            || format!("known are {}", known.join(", ")),
            |near| format!("did you mean {place}.{near}?"),
        );
        return Err(Invalid::new(
            "",
            format!("there is no fact {place}.{field}; {hint}"),
        ));
    }
    Ok(())
}

fn path_of(expression: &IdedExpr) -> Option<Vec<&str>> {
    match &expression.expr {
        Expr::Ident(name) => Some(vec![name]),
        Expr::Select(select) => {
            let mut path = path_of(&select.operand)?;
            path.push(&select.field);
            Some(path)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::OsFacts;

    fn subject(labels: &[(&str, &str)]) -> Subject {
        let facts = Facts {
            os: OsFacts {
                id: "debian".into(),
                version: "12".into(),
                like: vec!["linux".into()],
            },
            memory_bytes: 8 << 30,
            ..Facts::default()
        };
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let labels = Labels::default().edited(labels, []).unwrap();
        Subject::new(&"web-01".parse().unwrap(), &facts, &labels)
    }

    #[track_caller]
    fn selects(source: &str, labels: &[(&str, &str)]) -> bool {
        Selector::parse(source).unwrap().selects(&subject(labels))
    }

    #[test]
    fn reads_facts_labels_and_the_name() {
        let web = [("role", "web")];
        assert!(selects("true", &[]));
        assert!(selects(
            r#"labels.role == "web" && facts.os.id in ["debian", "ubuntu"]"#,
            &web
        ));
        assert!(selects(r#"host.startsWith("web-")"#, &web));
        assert!(selects(
            r"facts.memory_bytes >= 4 * 1024 * 1024 * 1024",
            &web
        ));
        assert!(selects(r#""linux" in facts.os.like"#, &web));
        assert!(selects(r"has(labels.role) && !has(labels.team)", &web));
        assert!(!selects(r#"labels.role == "db""#, &web));
    }

    #[test]
    fn a_missing_label_never_selects() {
        assert!(!selects(r#"labels.role != "db""#, &[]));
        assert!(selects(r#"!has(labels.role) || labels.role != "db""#, &[]));
    }

    #[track_caller]
    fn refused(source: &str, part: &str) {
        let error = Selector::parse(source).unwrap_err().to_string();
        assert!(error.contains(part), "{source}: {error}");
    }

    #[test]
    fn every_mistake_is_found_before_a_host_is_asked() {
        refused("", "is empty");
        refused("labels.role ==", "is not a CEL expression");
        refused(r#"facts.kernal == "6.1""#, "did you mean facts.kernel?");
        refused(
            r#"facts.os.name == "debian""#,
            "no fact facts.os.name; known are",
        );
        refused(r#"lables.role == "web""#, "did you mean labels?");
        refused(r"facts.os.id", "must yield true or false");
        refused(r#"facts.cpu.count + "x" == "1x""#, "cannot be evaluated");
        refused(r#"facts.os.like.exists(l, l == "linux")"#, "uses a loop");
        refused(&format!("true {}", "|| true ".repeat(1000)), "at most 4096");
        refused(&"(".repeat(2000), "is not a CEL expression");
        refused(
            &format!("1{} == 1", "+1".repeat(100)),
            "nests deeper than 24 levels",
        );
    }

    /// Runs on the stack of an ordinary thread; an overflow would end the whole process.
    #[test]
    fn no_expression_exhausts_a_stack() {
        for n in [8, 20, 24, 50, 95, 96, 400, 1000, 2000] {
            let nested =
                |open: &str, close: &str| format!("{}true{}", open.repeat(n), close.repeat(n));
            let shapes = [
                nested("(", ")"),
                nested("[", "]"),
                nested("!", ""),
                nested("(!", ")"),
                nested("(true?true:", ")"),
                nested("true?true:", ""),
                nested("size(", ")"),
                nested("{1:", "}"),
                nested("[1].all(x, ", ")"),
                nested("true || ", ""),
                format!("1{} == 1", "+1".repeat(n)),
                format!("labels{} == 1", ".a".repeat(n)),
                format!("{}1 == 1", "-".repeat(n)),
            ];
            for source in shapes {
                if let Ok(selector) = Selector::parse(&source) {
                    selector.selects(&subject(&[]));
                }
            }
        }
    }
}
