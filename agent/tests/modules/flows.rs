//! The same module and payload under both: the calls and the tree at each of them must be equal, but for what is named.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use comber_agent::install::Installer;

use crate::debian::Debian;
use crate::host::{Host, Payload};
use crate::oracle::{self, Oracle};
use crate::real::{deb, directory, package_database, payload, single_file};

/// Writes down the call and the tree, then becomes the module itself. Newlines at the ends of the tree's files differ
/// between versions of the client, so lines are joined.
const TRACER: &str = r#"#!/bin/sh
{
    echo "call $1, $# arguments"
    case $(pwd) in "$2") ;; *) echo "in $(pwd), not in the tree";; esac
    find . -mindepth 1 -printf '  %y %m %P\n' | LC_ALL=C sort
    for file in version current_* header/*; do
        echo "  $file: $(tr -d '\n' <"$file")"
    done
} >>"$TRACE"
exec "$REAL" "$@"
"#;

/// Knows a way back, and fails where it is told.
const FAILS: &str = r#"#!/bin/sh
case $1 in
    SupportsRollback) echo Yes;;
    ArtifactCommit) echo "cannot keep it" >&2; exit 1;;
esac
exit 0
"#;

/// What is done after the installation.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Then {
    /// Keep it.
    Commit,
    /// Keep it; the client did so by itself, because the module knows no way back.
    CommitsAlone,
    /// Keeping fails, or the installation did.
    Fails,
    /// Somebody decides to go back.
    RollBack,
}

struct Flow {
    payload_type: &'static str,
    then: Then,
    payload: fn(&Path) -> Payload,
}

/// Where the payloads go.
fn dest(work: &Path) -> std::path::PathBuf {
    work.join("www")
}

fn flows() -> Vec<Flow> {
    let flow = |payload_type, then, payload| Flow {
        payload_type,
        then,
        payload,
    };
    vec![
        flow("single-file", Then::Commit, |work| {
            single_file(&dest(work), "new")
        }),
        flow("single-file", Then::RollBack, |work| {
            single_file(&dest(work), "new")
        }),
        flow("single-file", Then::Fails, |_| {
            single_file(Path::new("/dev/null/nowhere"), "new")
        }),
        flow("directory", Then::Commit, |work| {
            directory(work, &dest(work), "new")
        }),
        flow("directory", Then::RollBack, |work| {
            directory(work, &dest(work), "new")
        }),
        flow("script", Then::CommitsAlone, |work| {
            let script = format!("#!/bin/sh\necho ran >{}/ran\n", dest(work).display());
            payload(&[("run", script.as_bytes())])
        }),
        flow("deb", Then::CommitsAlone, |work| deb(work, "1")),
        flow("fails", Then::Fails, |_| {
            payload(&[("a", b"x"), ("b", b"y")])
        }),
    ]
}

#[tokio::test]
async fn the_calls_are_those_of_debians_client() {
    let Some(debian) = Debian::get() else { return };
    if !oracle::is_possible(&debian) {
        return;
    }
    for flow in flows() {
        let theirs = under_the_client(&debian, &flow);
        let ours = under_the_agent(&debian, &flow).await;
        let name = flow.payload_type;
        record(&flow, &theirs.trace, &ours.trace);
        assert_eq!(theirs.result, ours.result, "what {name} left");
        let named = without_named_deviations(&ours.trace, flow.then);
        assert_eq!(settled(&theirs.trace), settled(&named), "{name}");
    }
}

/// Without the pipes of single files: a module looks while its client makes the first of them, so whether it sees that one
/// already is chance under both.
fn settled(trace: &str) -> String {
    let lines = trace.split_inclusive('\n');
    lines
        .filter(|line| !line.starts_with("  p 600 streams/"))
        .collect()
}

/// Prints both and keeps them below `target/`, for who wants to look.
fn record(flow: &Flow, theirs: &str, ours: &str) {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("module-traces");
    fs::create_dir_all(&dir).unwrap();
    for (side, trace) in [("client", theirs), ("agent", ours)] {
        let name = format!("{}, {:?}, under the {side}", flow.payload_type, flow.then);
        println!("== {name}\n{trace}");
        fs::write(dir.join(name), trace).unwrap();
    }
}

struct Traced {
    trace: String,
    /// What is where the payload goes, after all.
    result: String,
}

/// What both sides have alike.
struct Side {
    work: tempfile::TempDir,
}

impl Side {
    /// Always the same directory, since a payload names where it goes.
    fn new() -> Self {
        let work = tempfile::Builder::new()
            .prefix("comber-modules")
            .rand_bytes(0)
            .tempdir()
            .unwrap();
        fs::create_dir(dest(work.path())).unwrap();
        fs::write(dest(work.path()).join("page"), "old").unwrap();
        package_database(&work.path().join("packages"));
        fs::write(work.path().join("tracer"), TRACER).unwrap();
        fs::write(work.path().join("fails"), FAILS).unwrap();
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(work.path().join("fails"), executable).unwrap();
        Self { work }
    }

    fn dir(&self) -> &Path {
        self.work.path()
    }

    fn variables(&self, debian: &Debian, payload_type: &str) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let real = match payload_type {
            "fails" => self.dir().join("fails"),
            real => debian.module(real),
        };
        vec![
            ("TRACE", text(&self.dir().join("trace"))),
            ("REAL", text(&real)),
            ("DPKG_ROOT", text(&self.dir().join("packages"))),
        ]
    }

    fn traced(&self) -> Traced {
        let mut result = String::new();
        for place in [dest(self.dir()), self.dir().join("packages/opt")] {
            let mut names: Vec<_> = fs::read_dir(&place)
                .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
                .unwrap_or_default();
            names.sort();
            for path in names {
                let text = fs::read_to_string(&path).unwrap();
                writeln!(result, "{}: {text}", path.display()).unwrap();
            }
        }
        Traced {
            trace: fs::read_to_string(self.dir().join("trace")).unwrap(),
            result,
        }
    }
}

fn under_the_client(debian: &Debian, flow: &Flow) -> Traced {
    let side = Side::new();
    let payload = (flow.payload)(side.dir());
    let dir = side.dir().join("client");
    fs::create_dir(&dir).unwrap();
    let oracle = Oracle {
        debian,
        dir: &dir,
        payload_type: flow.payload_type,
        module: &side.dir().join("tracer"),
        payload: &payload,
        variables: &side.variables(debian, flow.payload_type),
    };
    let then = match flow.then {
        Then::Commit => Some("commit"),
        Then::RollBack => Some("rollback"),
        Then::Fails if flow.payload_type == "fails" => Some("commit"),
        Then::Fails | Then::CommitsAlone => None,
    };
    println!("{}", oracle.run(then));
    side.traced()
}

async fn under_the_agent(debian: &Debian, flow: &Flow) -> Traced {
    let side = Side::new();
    let payload = (flow.payload)(side.dir());
    let mut host = Host::new();
    for (name, value) in side.variables(debian, flow.payload_type) {
        host.variables.insert(name.to_owned(), value);
    }
    host.module(flow.payload_type, &side.dir().join("tracer"));
    // What the client is told to have: the same product one version before. It is only named.
    let before = host.staged("1", flow.payload_type, &payload).await.record;
    let release = host.staged("2", flow.payload_type, &payload).await;
    let mut done = release.kind.activate(Some(&before)).await.map(drop);
    if done.is_ok() && flow.then != Then::RollBack {
        done = release.commit().await;
    }
    match flow.then {
        Then::Commit | Then::CommitsAlone => done.unwrap(),
        Then::Fails => {
            done.unwrap_err();
            release.kind.roll_back(Some(&before)).await.unwrap();
        }
        Then::RollBack => {
            done.unwrap();
            release.kind.roll_back(Some(&before)).await.unwrap();
        }
    }
    side.traced()
}

/// Two, and no more: clients from 4.0 on ask before `Download` whether sizes are wanted; and the agent goes back only from
/// a change that has failed, which it says with `ArtifactFailure`.
fn without_named_deviations(trace: &str, then: Then) -> String {
    let calls = trace.split_inclusive("call ").collect::<String>();
    let mut kept = String::new();
    for call in calls.split("call ").skip(1) {
        let is_named = call.starts_with("ProvidePayloadFileSizes,")
            || then == Then::RollBack && call.starts_with("ArtifactFailure,");
        if !is_named {
            kept += "call ";
            kept += call;
        }
    }
    kept
}
