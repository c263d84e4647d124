//! Commands that are asked something: their whole answer is wanted, and not only the end of it. Every question that the
//! agent has to a tool of its host goes through here.
//!
//! Starts processes like [`Exec::run`], with the same promise. What they say comes through a pipe, so that one which
//! never stops talking is cut off at a bound and not by a full disk. Invariant: an answer is whole or an error.

use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncReadExt;

use super::{Exec, ExecError, Group, Run, start, tail};

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Printed {
    /// How.
    pub status: ExitStatus,
    /// Its standard output, whole; what is not UTF-8 is replaced.
    pub out: String,
    /// The end of its standard error.
    pub err: String,
}

impl Exec {
    /// Runs the command to its end and returns all that it wrote to its standard output, at most `most` bytes, also where
    /// its exit status is not 0. Its words are the agent's own: nothing is replaced in them.
    pub async fn read(&self, run: &Run<'_>, most: u64) -> Result<Printed, ExecError> {
        let program = run.command.first().ok_or(ExecError::Empty)?.clone();
        let errors = self.output_file()?;
        let failed = |source| ExecError::Start {
            program: program.clone(),
            dir: run.dir.to_owned(),
            source,
        };
        let outputs = || Ok((Stdio::piped(), Stdio::from(errors.try_clone()?)));
        let mut group = Group {
            child: start(run.command, run, outputs).await?,
            ended: false,
        };
        let pipe = group.child.stdout.take();
        let listen = async {
            let mut bytes = Vec::new();
            if let Some(pipe) = pipe {
                let limit = most.saturating_add(1);
                pipe.take(limit).read_to_end(&mut bytes).await?;
            }
            if bytes.len() as u64 > most {
                return Ok((bytes, None));
            }
            let status = group.child.wait().await?;
            Ok((bytes, Some(status)))
        };
        let waited = tokio::time::timeout(run.timeout, listen).await;
        let Ok(heard) = waited else {
            group.kill().await;
            return Err(ExecError::TimedOut {
                program,
                after: run.timeout,
                output: tail(&errors),
            });
        };
        let (bytes, status) = heard.map_err(failed)?;
        let Some(status) = status else {
            group.kill().await;
            return Err(ExecError::TooMuch { program, most });
        };
        group.ended = true;
        Ok(Printed {
            status,
            out: String::from_utf8_lossy(&bytes).into_owned(),
            err: tail(&errors),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::surroundings::Variables;

    async fn read(script: &str, most: u64) -> Result<Printed, ExecError> {
        let dir = tempfile::tempdir().unwrap();
        let command = ["sh", "-c", script].map(str::to_owned);
        let run = Run {
            command: &command,
            dir: dir.path(),
            variables: &Variables::new(),
            timeout: Duration::from_secs(20),
        };
        Exec::new(dir.path()).read(&run, most).await
    }

    #[tokio::test]
    async fn an_answer_is_whole_whatever_the_status() {
        let said = read("seq 20000; echo odd >&2; exit 3", 1 << 20)
            .await
            .unwrap();
        assert_eq!(said.out.lines().count(), 20_000);
        assert_eq!((said.status.code(), said.err.as_str()), (Some(3), "odd"));
    }

    #[tokio::test]
    async fn one_that_never_stops_talking_is_cut_off() {
        let error = read("exec yes", 1 << 16).await.unwrap_err();
        assert_eq!(error.to_string(), "sh wrote more than 65536 bytes");
        assert!(!error.is_missing());
    }

    #[tokio::test]
    async fn its_words_and_its_surroundings_are_those_that_it_was_given() {
        let said = read("echo '${NAME}' $PATH:$HOME ${NOTIFY_SOCKET-none}", 1000);
        let said = said.await.unwrap().out;
        assert!(said.starts_with("${NAME} /usr/local/sbin:"), "{said}");
        assert!(said.ends_with(":/root none\n"), "{said}");
        let told = super::super::tool("env").output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let mut names: Vec<&str> = told
            .lines()
            .filter_map(|line| line.split('=').next())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["HOME", "LC_ALL", "PATH"]);
    }

    #[tokio::test]
    async fn one_that_hangs_is_ended_with_its_children_and_one_that_is_not_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let script = format!("(sleep 1; touch {}) & sleep 1000", mark.display());
        let ask = async |words: &[&str]| {
            let command: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let run = Run {
                command: &command,
                dir: dir.path(),
                variables: &Variables::new(),
                timeout: Duration::from_millis(100),
            };
            Exec::new(dir.path()).read(&run, 1000).await.unwrap_err()
        };
        let error = ask(&["sh", "-c", &script]).await;
        assert!(matches!(error, ExecError::TimedOut { .. }), "{error}");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!mark.exists(), "a child lived on");
        let error = ask(&["comber-no-such-tool"]).await;
        assert!(error.is_missing(), "{error}");
    }
}
