//! `tanist completions` and `tanist man`: made from the command tree, so they cannot disagree with it.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_mangen::Man;

use super::Outcome;
use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::failure::Failure;
use crate::output::Screen;

pub fn completions(args: &CompletionsArgs, screen: &Screen) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tanist", &mut script);
    screen.text(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

pub fn man(args: &ManArgs, screen: &Screen) -> Outcome {
    match &args.dir {
        Some(dir) => write_pages(dir)?,
        None => screen.text(&main_page()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn main_page() -> Result<String, Failure> {
    let mut page = Vec::new();
    Man::new(Cli::command()).render(&mut page).map_err(|source| Failure::io("make the manual page", source))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn write_pages(dir: &Path) -> Result<(), Failure> {
    let written = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    written.map_err(|source| Failure::io(format!("write the manual pages into {}", dir.display()), source))
}
