//! Freezes the help of every command, which is what operators and their scripts rely on.

use clap::{Command, CommandFactory as _};
use tanist::cli::Cli;

#[test]
fn the_command_tree_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn help_of_every_command() {
    let mut root = Cli::command().term_width(110);
    root.build();
    let mut text = String::new();
    print_help(&mut root, &mut text);
    insta::assert_snapshot!("help", text);
}

fn print_help(command: &mut Command, text: &mut String) {
    let title = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
    let help = command.render_long_help().to_string();
    let lines: String = help.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    text.push_str(&format!("==== {title}\n{lines}\n"));
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        print_help(sub, text);
    }
}
