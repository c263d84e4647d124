//! Merging order, and that every mistake is told at once with its file, key and remedy.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Server {
    listen: SocketAddr,
    url: Option<http::Uri>,
    token: String,
    pace: Pace,
    checks: Vec<Check>,
    mirrors: std::collections::BTreeMap<String, Check>,
}

#[derive(Clone, Debug, PartialEq)]
struct Pace {
    every: Duration,
    cache: Size,
    workers: u16,
    names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Check {
    name: String,
    fatal: bool,
}

impl Settings for Server {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let listen = section.value("listen", SocketAddr::from(([127, 0, 0, 1], 7443)));
        let url = section.optional("url");
        let token = section.required("token");
        let pace = section.table("pace");
        let checks = section.list("check");
        let mirrors = section.named_tables("mirror");
        Some(Self {
            listen,
            url,
            token: token?,
            pace: pace?,
            checks: checks?,
            mirrors: mirrors?,
        })
    }
}

impl Settings for Pace {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        Some(Self {
            every: section.value("every", Duration::from_secs(30)),
            cache: section.value("cache", Size(64 << 20)),
            workers: section.within("workers", 2, 1..=64),
            names: section.value("names", Vec::new()),
        })
    }
}

impl Settings for Check {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let fatal = section.value("fatal", false);
        Some(Self {
            name: section.required("name")?,
            fatal,
        })
    }
}

/// Writes fragments below a root and names its sources.
fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let sources = Sources::under(dir.path(), "server");
    (dir, sources)
}

fn problems(sources: &Sources, root: &Path) -> String {
    let error = load::<Server>(sources).unwrap_err();
    error
        .to_string()
        .replace(&format!("{}/", root.display()), "/")
}

#[test]
fn later_fragments_win_key_by_key() {
    let (_dir, sources) = root(&[
        (
            "usr/lib/comber/server.d/10-base.toml",
            "token = 'vendor'\n[pace]\nevery = '1m'\nworkers = 4\nnames = ['a', 'b']\n",
        ),
        (
            "usr/lib/comber/server.d/20-more.toml",
            "[pace]\ncache = '1 GB'\n",
        ),
        ("run/comber/server.d/a.toml", "token = 'run'\n"),
        (
            "etc/comber/server.toml",
            "token = 'etc'\n[pace]\nnames = ['c']\n",
        ),
        ("etc/comber/server.d/z.toml", "token = 'dropin'\n"),
        ("etc/comber/server.d/.hidden.toml", "token = 'hidden'\n"),
        ("etc/comber/server.d/z.toml.bak", "token = 'backup'\n"),
    ]);
    let settings = load::<Server>(&sources).unwrap().settings;
    assert_eq!(settings.token, "dropin");
    let names = vec!["c".to_owned()];
    let pace = Pace {
        every: Duration::from_mins(1),
        cache: Size(1_000_000_000),
        workers: 4,
        names,
    };
    assert_eq!(settings.pace, pace);
    let flagged =
        sources
            .with_flag("--token", "token", "flag")
            .with_flag("--workers", "pace.workers", 9);
    let settings = load::<Server>(&flagged).unwrap().settings;
    assert_eq!(
        (settings.token.as_str(), settings.pace.workers),
        ("flag", 9)
    );
    assert_eq!(settings.pace.every, Duration::from_mins(1));
}

#[test]
fn every_mistake_is_told_at_once() {
    let (dir, sources) = root(&[
        (
            "usr/lib/comber/server.d/bad.toml",
            "listen = 7443\ntokn = 'x'\n[pace]\nevery = 30\nworkers = 65\nnames = [1]\n",
        ),
        (
            "etc/comber/server.toml",
            "url = '/relative'\n[[check]]\nfatal = 'no'\n[[check]]\nname = 'b'\nport = 1\n[mirror]\nx = 1\n",
        ),
        ("etc/comber/server.d/broken.toml", "[pace\n"),
    ]);
    let told = problems(
        &sources.with_flag("--cache", "pace.cache", "big"),
        dir.path(),
    );
    let expected = r#"/etc/comber/server.d/broken.toml: line 1 is not TOML: unclosed table, expected `]`
/usr/lib/comber/server.d/bad.toml: listen: 7443 is not an address and port like "0.0.0.0:7443" or "[::]:7443"
/etc/comber/server.toml: url: "/relative" is not an address like "https://comber.example:7443"
the configuration: token: is not set; expected text in quotes
/usr/lib/comber/server.d/bad.toml: pace.every: 30 is not a duration like "500ms", "30s", "1h30m" or "7d"
flag --cache: pace.cache: "big" is not a size like "512 KiB", "64 MiB" or "1 GB"
/usr/lib/comber/server.d/bad.toml: pace.workers: 65 is outside of 1 to 64
/usr/lib/comber/server.d/bad.toml: pace.names: [1] is not a list in brackets, of text in quotes
/etc/comber/server.toml: check[0].fatal: "no" is not true or false
/etc/comber/server.toml: check[0].name: is not set; expected text in quotes
/etc/comber/server.toml: check[1].port: is not a known key; known here: fatal, name
/etc/comber/server.toml: mirror.x: is not a table; write [mirror.x]
/usr/lib/comber/server.d/bad.toml: tokn: is not a known key; known here: check, listen, mirror, pace, token, url"#;
    assert_eq!(told, expected);
}

#[test]
fn a_value_in_place_of_a_table_is_told() {
    let (dir, sources) = root(&[(
        "etc/comber/server.toml",
        "token = { a = 1 }\npace = 3\ncheck = 'x'\nmirror = 1\n",
    )]);
    let told = problems(&sources, dir.path());
    for line in [
        "token: is a table; expected text in quotes",
        "pace: is not a table; write [pace]",
        "check: is not a table; write [[check]]",
        "mirror: is not a table; write [mirror.<name>]",
    ] {
        assert!(
            told.contains(&format!("/etc/comber/server.toml: {line}")),
            "{line} is not in {told}"
        );
    }
}

#[test]
fn a_named_file_must_exist_and_a_default_one_need_not() {
    let (dir, sources) = root(&[]);
    let sources = sources.with_flag("--token", "token", "t");
    assert_eq!(load::<Server>(&sources).unwrap().settings.token, "t");
    let told = problems(
        &sources.with_file(&dir.path().join("absent.toml")),
        dir.path(),
    );
    assert!(told.starts_with("/absent.toml: cannot be read: "), "{told}");
}

#[test]
fn what_is_shown_loads_again_to_the_same_settings() {
    let (dir, sources) = root(&[(
        "etc/comber/server.toml",
        "token = \"a'b\\\"c\"\nurl = 'https://x.example:1/'\n[pace]\nevery = '90s'\n[[check]]\nname = 'n'\n[mirror.\"a b\"]\nname = 'm'\n",
    )]);
    let loaded = load::<Server>(&sources).unwrap();
    let shown = loaded.to_string();
    assert!(shown.contains("pace.workers = 2  # default\n"), "{shown}");
    assert!(shown.contains("pace.every = \"1m30s\"  # "), "{shown}");
    assert!(
        shown.contains(&format!(
            "# {}/etc/comber/server.toml\n",
            dir.path().display()
        )),
        "{shown}"
    );
    let again = dir.path().join("again.toml");
    fs::write(&again, &shown).unwrap();
    let again = load::<Server>(&Sources::default().with_file(&again)).unwrap();
    assert_eq!(again.settings, loaded.settings);
}

#[test]
fn what_is_not_set_is_shown_as_a_comment() {
    let (_dir, sources) = root(&[("etc/comber/server.toml", "token = 't'")]);
    assert!(
        load::<Server>(&sources)
            .unwrap()
            .to_string()
            .contains("# url is not set\n")
    );
}

#[test]
fn log_settings_are_checked_while_reading() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.toml");
    fs::write(&path, "level = 'info,x=loud'\nformat = 'xml'\n").unwrap();
    let error =
        load::<crate::telemetry::LogSettings>(&Sources::default().with_file(&path)).unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("level: log level \"info,x=loud\" is not understood"),
        "{told}"
    );
    assert!(
        told.contains("format: \"xml\" is not one of \"human\", \"json\""),
        "{told}"
    );
    assert_eq!(error.problems().len(), 2);
}

#[derive(Debug)]
struct Variables(std::collections::BTreeMap<String, String>);

impl Settings for Variables {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        section.named_values("variables").map(Self)
    }
}

#[test]
fn named_values_are_read_whole_or_refused_by_name() {
    let (_dir, sources) = root(&[(
        "etc/comber/server.toml",
        "[variables]\nPORT = '80'\n\"a b\" = 'c'\n",
    )]);
    let loaded = load::<Variables>(&sources).unwrap();
    let named: Vec<_> = loaded.settings.0.into_iter().collect();
    let expected = [("PORT", "80"), ("a b", "c")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(named, expected);

    let sources = sources.with_flag("--x", "variables.PORT", 80);
    let told = load::<Variables>(&sources).unwrap_err().to_string();
    assert_eq!(told, "flag --x: variables.PORT: is not text in quotes");
}

#[test]
fn one_setting_is_found_whatever_is_wrong_with_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.toml");
    fs::write(&path, "of_the_future = 1\nplace = '/x'\n[pace]\n").unwrap();
    let sources = Sources::default().with_file(&path);
    assert_eq!(peek(&sources, "place").as_deref(), Some("/x"));
    assert_eq!(peek(&sources, "of_the_future"), None);
    assert_eq!(peek(&sources, "pace"), None);
    let sources = sources.with_flag("--place", "place", "/y");
    assert_eq!(peek(&sources, "place").as_deref(), Some("/y"));
}
