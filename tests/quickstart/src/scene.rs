//! What is shown, in its order.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use comber_test_support::{Binaries, Lab, LabOptions};

use crate::fleet;
use crate::show::{Show, shown};

/// Exit codes of `comber rollout watch`.
const COMPLETED: i32 = 0;
const HALTED: i32 = 4;

/// Plays the whole scene.
pub(crate) fn play(keep: bool) -> Result<()> {
    println!(
        "Building the controller, the agent and the comber command (minutes the first time) …"
    );
    let binaries = Binaries::build(&["comber-quickstart"])?;
    let webapp = binaries.comber.with_file_name("webapp");
    let directory = directory()?;
    let options = LabOptions {
        directory: Some(directory.clone()),
        ..LabOptions::default()
    };
    let mut lab = Lab::with(&options)?;
    let played = acts(&mut lab, &webapp);
    let show = Show::new(lab.comber());
    match (&played, keep) {
        (Ok(()), true) => {
            fleet::remember(&lab)?;
            lab.keep();
            left_running(&show, &directory, &binaries.comber);
        }
        (Ok(()), false) => {
            fleet::stop_web_servers(&directory);
            drop(lab);
            fs::remove_dir_all(&directory).context("cannot remove the directory")?;
            ended(&show);
        }
        (Err(_), _) => {
            fleet::stop_web_servers(&directory);
            eprintln!("Logs and state of this run are in {}.", directory.display());
        }
    }
    played
}

fn acts(lab: &mut Lab, webapp: &Path) -> Result<()> {
    let show = Show::new(lab.comber());
    hosts_join(lab, &show)?;
    releases_are_published(lab, &show, webapp)?;
    show.chapter(
        "Version 1 goes to every host",
        "In three waves; each waits until the one before has proved good.",
    );
    roll_out(lab, &show, "1.0.0", COMPLETED)?;
    show.chapter("Version 2 follows", "The same way.");
    roll_out(lab, &show, "2.0.0", COMPLETED)?;
    show.chapter(
        "Version 3 is broken",
        "It asks for a template that is not in it. Its check fails on the first canary host, which goes back to version 2\nby itself; the rollout halts, and the other eleven hosts never see it.",
    );
    roll_out(lab, &show, "3.0.0", HALTED)?;
    show.chapter("Why?", "Everything explains itself.");
    show.comber(&["why", "rollout", "latest"], &[0])?;
    let failed = failed_host(lab)?;
    show.comber(&["why", "host", &failed], &[0])?;
    show.comber(&["rollout", "list"], &[0])?;
    hosts_serve(lab, &show)
}

fn hosts_join(lab: &mut Lab, show: &Show) -> Result<()> {
    show.chapter(
        "Twelve hosts join",
        "A controller runs on this machine. Each agent brings a token and gets a certificate for a key that it made.",
    );
    let file = lab.directory().join("token");
    let (uses, out) = (fleet::HOSTS.to_string(), shown(&file));
    let label = ["--label", "role=web", "--out", &out];
    show.comber(
        &[&["token", "create", "--uses", &uses][..], &label].concat(),
        &[0],
    )?;
    let token = fs::read_to_string(&file).context("cannot read the token")?;
    fleet::start(lab, token.trim())?;
    let all = comber_test_support::wait::until(std::time::Duration::from_mins(1), || {
        let hosts = lab.comber().json(&["host", "list"]).ok()?;
        let hosts = hosts["hosts"].as_array()?;
        let up = hosts
            .iter()
            .filter(|host| host["connected"] == true)
            .count();
        (up == fleet::HOSTS).then_some(())
    });
    ensure!(all.is_some(), "the hosts do not connect");
    show.comber(&["host", "list"], &[0]).map(|_code| ())
}

fn releases_are_published(lab: &Lab, show: &Show, webapp: &Path) -> Result<()> {
    show.chapter(
        "Three releases are built and published",
        "A release is a directory with a release.toml. Built twice, it has the same digest.",
    );
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        let directory = fleet::write_version(lab, webapp, version)?;
        let bundle = lab.directory().join(format!("webapp-{version}.comber"));
        show.comber(
            &[
                "release",
                "build",
                &shown(&directory),
                "--out",
                &shown(&bundle),
            ],
            &[0],
        )?;
        show.comber(&["release", "publish", &shown(&bundle)], &[0])?;
    }
    Ok(())
}

fn roll_out(lab: &Lab, show: &Show, version: &str, code: i32) -> Result<()> {
    let file = lab
        .directory()
        .join(format!("webapp-{version}-rollout.toml"));
    fs::write(
        &file,
        include_str!("rollout.toml").replace("@VERSION@", version),
    )?;
    show.comber(
        &["rollout", "create", &shown(&file), "--start", "--watch"],
        &[code],
    )?;
    Ok(())
}

fn failed_host(lab: &Lab) -> Result<String> {
    let hosts = lab
        .comber()
        .json(&["rollout", "hosts", "latest", "--outcome", "failed"])?;
    let host = hosts["hosts"][0]["host"]
        .as_str()
        .context("no host failed")?;
    Ok(host.to_owned())
}

/// What the hosts serve is read from them, not from the controller.
fn hosts_serve(lab: &Lab, show: &Show) -> Result<()> {
    show.chapter(
        "What the hosts serve now",
        "Read from the web servers' own files, host by host.",
    );
    for number in 1..=fleet::HOSTS {
        let name = fleet::name(number);
        let page = lab
            .host(&name)
            .join("root/opt/webapp/current/templates/page.html");
        let page = fs::read_to_string(&page).with_context(|| format!("{name} serves nothing"))?;
        println!("  {name}  {}", page.trim());
        ensure!(page.contains("2.0.0"), "{name} does not serve version 2");
    }
    Ok(())
}

fn ended(show: &Show) {
    show.chapter(
        "That was it",
        "Two releases reached twelve hosts in waves. A bad one reached one host, which went back by itself.\nEverything was stopped and removed. Next:\n\n  cargo quickstart --keep       leave it running, and try the commands yourself\n  docs/first-fleet.md           set up a first real fleet by hand",
    );
}

fn left_running(show: &Show, directory: &Path, comber: &Path) {
    let text = format!(
        "Try more; for example:\n\n  alias comber='{} --config {}'\n  comber rollout list\n  comber why rollout latest\n  comber events --last 20\n  comber rollout abort latest --wait && comber rollout rollback r2 --wait\n\nEnd it with:\n\n  cargo quickstart --stop {}",
        comber.display(),
        directory.join("operator").display(),
        directory.display()
    );
    show.chapter("Everything is left running", &text);
}

/// A new directory under the system's directory for temporary files.
fn directory() -> Result<PathBuf> {
    let base = std::env::temp_dir();
    let directory = base.join(format!("comber-quickstart-{}", std::process::id()));
    fs::create_dir(&directory)
        .with_context(|| format!("cannot make {}; remove it", directory.display()))?;
    Ok(directory)
}
