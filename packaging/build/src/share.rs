//! Completions and manual pages, from the same command lines that the programs parse.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

use crate::programs::Program;

/// Each shell with the name of its directory.
const SHELLS: [(&str, Shell); 3] = [
    ("bash", Shell::Bash),
    ("zsh", Shell::Zsh),
    ("fish", Shell::Fish),
];

/// Writes everything of one program to a new directory.
pub(crate) fn write(program: &Program, dir: &Path) -> Result<()> {
    for (name, shell) in SHELLS {
        let dir = make(dir.join(name))?;
        let written = generate_to(shell, &mut (program.command)(), program.name, &dir);
        let written = written.with_context(|| format!("cannot write completions for {name}"))?;
        if name == "bash" {
            // bash-completion loads a file by the name of the command alone.
            let loaded = dir.join(program.name);
            fs::rename(&written, loaded).context("cannot rename the completions")?;
        }
    }
    let mut command = (program.command)().disable_help_subcommand(true);
    command.build();
    pages(command, program.section, &make(dir.join("man"))?)
}

/// A page for the command and for each one below it, `comber-rollout-create` for example.
fn pages(command: clap::Command, section: &str, dir: &Path) -> Result<()> {
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        pages(below.clone(), section, dir)?;
    }
    let version = concat!("Comber ", env!("CARGO_PKG_VERSION"));
    let page = Man::new(command)
        .section(section)
        .source(version)
        .manual("Comber");
    let path = dir.join(page.get_filename());
    let failed = || format!("cannot write {}", path.display());
    let mut text = Vec::new();
    page.render(&mut text).with_context(failed)?;
    let mut file = File::create_new(&path).with_context(failed)?;
    file.write_all(&text).with_context(failed)
}

fn make(dir: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::PROGRAMS;

    #[test]
    fn every_command_has_a_page_and_every_program_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        for program in &PROGRAMS {
            write(program, &dir.path().join(program.name)).unwrap();
        }
        for file in [
            "comber/bash/comber",
            "comber/zsh/_comber",
            "comber/fish/comber.fish",
            "comber/man/comber.1",
            "comber/man/comber-rollout-create.1",
            "comber-agent/man/comber-agent-enroll.8",
            "comber-controller/man/comber-controller-backup.8",
            "comber-controller/zsh/_comber-controller",
        ] {
            let text = fs::read_to_string(dir.path().join(file)).unwrap();
            assert!(text.lines().count() > 3, "{file} says nothing: {text}");
        }
        let page = fs::read_to_string(dir.path().join("comber-agent/man/comber-agent-enroll.8"));
        assert!(page.unwrap().contains("comber token create"));
    }
}
