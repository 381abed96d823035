//! The help of every command, as it is printed: a changed option shows in review.
use clap::{Command, CommandFactory};
use controller_cli::args::Cli;

fn all(command: &Command, path: &str, pages: &mut Vec<(String, String)>) {
    let mut own = command.clone().bin_name(path).term_width(110);
    pages.push((path.to_owned(), own.render_long_help().to_string()));
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        all(sub, &format!("{path} {}", sub.get_name()), pages);
    }
}

#[test]
fn the_help_of_every_command_is_as_it_was() {
    let mut command = Cli::command();
    command.build();
    let mut pages = Vec::new();
    all(&command, "foreweave", &mut pages);
    assert!(pages.len() > 30, "only {} commands", pages.len());
    for (path, page) in pages {
        insta::assert_snapshot!(path.replace(' ', "_"), page);
    }
}

#[test]
fn every_argument_and_command_has_a_help_text() {
    fn check(command: &Command) {
        assert!(command.get_about().is_some(), "{} has no help", command.get_name());
        for argument in command.get_arguments() {
            assert!(
                argument.get_help().is_some(),
                "{} {} has no help",
                command.get_name(),
                argument.get_id()
            );
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}

#[test]
fn the_arguments_do_not_contradict_each_other() {
    Cli::command().debug_assert();
}
