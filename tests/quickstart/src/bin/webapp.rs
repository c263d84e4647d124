//! A small web server to roll out: real enough to be broken by a bad release.
//!
//! It runs in its release's directory. `webapp.conf` there names the template that it serves at `/`; `/health` answers
//! 200 where that template can be read, and 500 with the reason where it cannot. `webapp start` leaves a server behind
//! and returns once it accepts connections; `webapp stop` ends it. Port and process file come from the environment:
//! `PORT` and `PIDFILE`.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

fn main() -> ExitCode {
    let verb = std::env::args().nth(1).unwrap_or_default();
    let result = match verb.as_str() {
        "start" => start(),
        "stop" => stop(),
        "serve" => serve(),
        _ => Err(anyhow::anyhow!("usage: webapp start|stop|serve")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("webapp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the agent hands its host's variables over by environment"
)]
fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("${name} is not set"))
}

fn address() -> Result<String> {
    Ok(format!("127.0.0.1:{}", variable("PORT")?))
}

fn pidfile() -> Result<PathBuf> {
    Ok(variable("PIDFILE")?.into())
}

fn start() -> Result<()> {
    stop()?;
    let mut server = Command::new(std::env::current_exe()?);
    server.arg("serve").process_group(0);
    server
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = server.spawn().context("cannot start the server")?;
    fs::write(pidfile()?, child.id().to_string()).context("cannot write the process file")?;
    let address = address()?;
    for _ in 0..100 {
        if TcpStream::connect(&address).is_ok() {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            bail!("the server ended with {status}; is {address} in use?");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("the server does not accept connections on {address}")
}

fn stop() -> Result<()> {
    let Ok(text) = fs::read_to_string(pidfile()?) else {
        return Ok(());
    };
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    // The number may have gone to another process since: only a webapp is ended.
    let ours = |pid: Pid| {
        let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
        name.is_ok_and(|name| name.trim() == "webapp")
    };
    if let Some(pid) = pid.filter(|pid| ours(*pid)) {
        kill_process(pid, Signal::TERM).context("cannot end the server")?;
        for _ in 0..100 {
            if test_kill_process(pid).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    fs::remove_file(pidfile()?).context("cannot remove the process file")
}

fn serve() -> Result<()> {
    let listener = TcpListener::bind(address()?).context("cannot listen")?;
    for stream in listener.incoming() {
        // A client that went away is no reason to stop serving others.
        if let Err(error) = stream.map_err(Into::into).and_then(answer) {
            eprintln!("webapp: {error:#}");
        }
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or("/");
    let (status, body) = match (path, page()) {
        ("/health", Ok(_)) => ("200 OK", "ok\n".to_owned()),
        (_, Ok(page)) => ("200 OK", page),
        (_, Err(error)) => ("500 Internal Server Error", format!("{error:#}\n")),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}

/// The page, from the template that the release's configuration names.
fn page() -> Result<String> {
    let conf = fs::read_to_string("webapp.conf").context("cannot read webapp.conf")?;
    let template = conf
        .lines()
        .find_map(|line| line.strip_prefix("template = "));
    let template = template.context("webapp.conf names no template")?;
    fs::read_to_string(template).with_context(|| format!("cannot read template {template}"))
}
