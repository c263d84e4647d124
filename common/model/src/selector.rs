//! Selectors: a CEL expression over `facts`, `labels` and `host` that is true for the hosts meant.
//!
//! A selector is checked whole when it is made: syntax, unknown facts (with a suggestion), size, and that it yields a
//! boolean. A host that lacks a label which the expression reads is not selected: silence never selects. Packages are
//! asked for by literal name, so that [`Selector::packages`] says beforehand which versions a subject must bring.

mod names;

use std::fmt;
use std::sync::{Arc, OnceLock};

use cel::common::ast::{Expr, IdedExpr};
use cel::{Context, Env, ExecutionError, Program, Value};
use serde_json::json;

use crate::packages::Versions;
use crate::{Digest, Facts, Host, Invalid};

/// Longest selector in bytes. Bounds the cost of parsing and, as no loop can be written, of evaluating one.
pub const SOURCE_MAX: usize = 4096;

/// Deepest expression that is accepted, in levels of operators and calls. Evaluation recurses once per level, on the
/// stack of whoever evaluates.
pub const DEPTH_MAX: usize = 24;

/// Stack for the parser, whose recursion over [`SOURCE_MAX`] hostile bytes no ordinary thread's stack would hold.
const PARSER_STACK: usize = 256 << 20;

/// A checked selector. Cheap to clone.
#[derive(Clone)]
pub struct Selector {
    source: Arc<str>,
    program: Arc<Program>,
    packages: Arc<[Arc<str>]>,
}

/// What a selector is evaluated on: one host, converted once for any number of selectors.
#[derive(Debug)]
pub struct Subject {
    facts: Value,
    labels: Value,
    host: Value,
}

impl Subject {
    /// The host as selectors see it; `versions` are of the packages that the selectors at hand ask for, or more.
    pub fn new(host: &Host, versions: &Versions) -> Self {
        let value = |json: serde_json::Value| cel::to_value(json).unwrap_or(Value::Null);
        let labels: serde_json::Map<_, _> = host
            .labels
            .iter()
            .map(|(k, v)| (k.to_owned(), json!(v)))
            .collect();
        let summary = host.packages.as_ref();
        let mut facts = json!(host.facts);
        if let Some(facts) = facts.as_object_mut() {
            let count = summary.map_or(0, |summary| summary.count);
            let digest = summary.map_or_else(String::new, |summary| summary.digest.to_string());
            let versions = versions.iter().map(|(name, v)| (name.to_owned(), json!(v)));
            facts.insert("package_count".to_owned(), json!(count));
            facts.insert("package_digest".to_owned(), json!(digest));
            facts.insert("packages".to_owned(), versions.collect());
        }
        Self {
            facts: value(facts),
            labels: value(json!(labels)),
            host: value(json!(host.id.as_str())),
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
        let (program, packages) = compile(source)?;
        let selector = Self {
            source: source.into(),
            program: Arc::new(program),
            packages: packages.into(),
        };
        selector.check_type()?;
        Ok(selector)
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The packages that the expression asks for, by name, each once.
    pub fn packages(&self) -> &[Arc<str>] {
        &self.packages
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
        let mut versions = Versions::default();
        for name in &*self.packages {
            versions.set(Arc::clone(name), Some("1".into()));
        }
        match self.evaluate(&Subject::new(&sample()?, &versions)) {
            Ok(Value::Bool(_)) | Err(ExecutionError::NoSuchKey(_)) => Ok(()),
            Ok(other) => Err(Invalid::new(
                "",
                format!("yields {:?}, must yield true or false", other.type_of()),
            )),
            Err(error) => Err(Invalid::new("", format!("cannot be evaluated: {error}"))),
        }
    }
}

/// A host that has something of every kind of fact.
fn sample() -> Result<Host, Invalid> {
    let disks = [("/".to_owned(), crate::facts::DiskFacts::default())];
    let facts = Facts {
        disks: disks.into(),
        booted_at: Some(jiff::Timestamp::UNIX_EPOCH),
        ..Facts::default()
    };
    Ok(Host {
        id: "sample".parse()?,
        labels: crate::Labels::default(),
        facts,
        packages: None,
        enrolled_at: jiff::Timestamp::UNIX_EPOCH,
        retired_at: None,
        certificate: Digest([0; 32]),
        certificates_since: jiff::Timestamp::UNIX_EPOCH,
        barred: None,
        issued: Vec::new(),
    })
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({:?})", self.source)
    }
}

/// Compiles and checks on a thread with a stack of its own; what is refused for its depth is also dropped there.
fn compile(source: &str) -> Result<(Program, Vec<Arc<str>>), Invalid> {
    let text = source.to_owned();
    let parser = std::thread::Builder::new()
        .stack_size(PARSER_STACK)
        .spawn(move || {
            let program = Program::compile(&text)
                .map_err(|error| Invalid::new("", format!("is not a CEL expression: {error}")))?;
            let packages = names::check(program.expression(), &json!(sample()?.facts))?;
            if depth(program.expression()) > DEPTH_MAX {
                let problem = format!(
                    "nests deeper than {DEPTH_MAX} levels; list values with `in`, or set a label"
                );
                return Err(Invalid::new("", problem));
            }
            Ok((program, packages))
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
        // `names::check` has refused the last three.
        Expr::Unspecified
        | Expr::Literal(_)
        | Expr::Ident(_)
        | Expr::Comprehension(_)
        | Expr::Map(_)
        | Expr::Struct(_) => 0,
    };
    below + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;
    use crate::facts::{DiskFacts, OsFacts};
    use crate::packages::PackageSummary;

    fn subject(labels: &[(&str, &str)]) -> Subject {
        let facts = Facts {
            os: OsFacts {
                id: "debian".into(),
                version: "12".into(),
                like: vec!["linux".into()],
            },
            memory_bytes: 8 << 30,
            disks: [(
                "/var".to_owned(),
                DiskFacts {
                    total_bytes: 100 << 30,
                    free_bytes: 40 << 30,
                },
            )]
            .into(),
            failed_units: vec!["cron.service".into()],
            reboot_required: true,
            reboot_required_by: vec!["linux-image-amd64".into()],
            booted_at: "2026-11-20T08:00:00Z".parse().ok(),
            ..Facts::default()
        };
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let labels = Labels::default().edited(labels, []).unwrap();
        let mut versions = Versions::default();
        versions.set("openssl".into(), Some("3.0.11-1".into()));
        let digest = Digest([0xab; 32]);
        let host = Host {
            id: "web-01".parse().unwrap(),
            labels,
            facts,
            packages: Some(PackageSummary { digest, count: 480 }),
            ..sample().unwrap()
        };
        Subject::new(&host, &versions)
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
    fn reads_what_a_host_says_of_its_disks_units_and_reboots() {
        for source in [
            "facts.reboot_required",
            r#""linux-image-amd64" in facts.reboot_required_by"#,
            "size(facts.failed_units) > 0",
            r#""cron.service" in facts.failed_units"#,
            r#"facts.disks["/var"].free_bytes > 10 * 1024 * 1024 * 1024"#,
            r#"!("/srv" in facts.disks)"#,
            r#"facts.booted_at < "2026-11-24""#,
            "facts.package_count > 400",
            r#"facts.package_digest.startsWith("abab")"#,
        ] {
            assert!(selects(source, &[]), "{source}");
        }
        assert!(!selects(r#"facts.disks["/srv"].free_bytes > 0"#, &[]));
    }

    #[test]
    fn asks_for_packages_by_name() {
        let source = r#""openssl" in facts.packages && facts.packages["openssl"] != "3.0.15-1"
            && !has(facts.packages.nginx) && !("libstdc++6" in facts.packages)"#;
        assert!(selects(source, &[]));
        let selector = Selector::parse(source).unwrap();
        let names: Vec<&str> = selector.packages().iter().map(AsRef::as_ref).collect();
        assert_eq!(names, ["libstdc++6", "nginx", "openssl"]);
        assert!(!selects(r#"facts.packages["nginx"] != "1""#, &[]));
        assert!(Selector::parse("true").unwrap().packages().is_empty());
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
        refused(
            r"facts.reboot_requierd",
            "did you mean facts.reboot_required?",
        );
        refused(r"facts.failed_unit", "did you mean facts.failed_units?");
        refused(
            r#"facts.disks["/"].free > 1"#,
            "known are free_bytes, total_bytes",
        );
        refused(r#"facts["kernal"] == "6""#, "did you mean facts.kernel?");
        refused("size(facts.packages) > 3", "facts.package_count");
        refused("labels.x in facts.packages", "by a literal name");
        refused("facts.packages[labels.x] == \"1\"", "by a literal name");
        refused("facts[labels.x] == \"1\"", "names no fact");
        refused(r#"facts.packages["a"] > 3"#, "cannot be evaluated");
        refused(r#"facts.packages["a"].b == "c""#, "is a text");
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
