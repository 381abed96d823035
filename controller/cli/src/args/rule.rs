//! Firewall rules, as options and as arguments.
use super::circuit::Wait;
use crate::text::{DAY, Span, span};
use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches, Subcommand, ValueHint};
use proto_model::request::CircuitRef;
use proto_model::rule::RuleSpec;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub enum Rule {
    /// List the rules in the order in which they are tried
    List {
        /// Name of the circuit, or its number as c42
        circuit: CircuitRef,
    },
    /// Add rules
    Add {
        /// Name of the circuit, or its number as c42
        circuit: CircuitRef,
        /// Rules like "allow tcp/443" or "deny udp/1000-2000 reverse"
        #[arg(required = true, value_name = "RULE")]
        rules: Vec<RuleSpec>,
        /// Insert before the rule with this number; without it: at the end
        #[arg(long, value_name = "ID")]
        before: Option<u32>,
        #[command(flatten)]
        confirm: Confirm,
        #[command(flatten)]
        wait: Wait,
    },
    /// Remove rules by their numbers
    Remove {
        /// Name of the circuit, or its number as c42
        circuit: CircuitRef,
        /// Numbers, as `foreweave rule list` shows them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<u32>,
        #[command(flatten)]
        confirm: Confirm,
        #[command(flatten)]
        wait: Wait,
    },
    /// Replace the whole set at once; rules that stay keep their numbers
    Replace {
        /// Name of the circuit, or its number as c42
        circuit: CircuitRef,
        /// Rules like "allow tcp/443" or "deny udp/1000-2000 reverse"
        #[arg(value_name = "RULE", required_unless_present_any = ["file", "none"], conflicts_with = "file")]
        rules: Vec<RuleSpec>,
        /// Read the rules from a file: one per line, # starts a comment; - is standard input
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// Leave no rule: nothing passes any more
        #[arg(long, conflicts_with_all = ["rules", "file"])]
        none: bool,
        #[command(flatten)]
        confirm: Confirm,
        #[command(flatten)]
        wait: Wait,
    },
    /// Let the last change stay, which was made with --confirm-within
    Confirm {
        /// Name of the circuit, or its number as c42
        circuit: CircuitRef,
    },
    /// Take the last change, which was made with --confirm-within, back at once
    Rollback {
        /// Name of the circuit, or its number as c42
        circuit: CircuitRef,
    },
}

#[derive(Debug, Args)]
pub struct Confirm {
    /// The change is taken back by itself, also with the controller dead, unless `foreweave rule confirm` comes within
    /// this time, from 1s to 24h
    #[arg(long, value_name = "TIME", value_parser = span(1, DAY), help_heading = "The request")]
    pub confirm_within: Option<Span>,
}

impl Confirm {
    pub fn within(&self) -> Option<Duration> {
        self.confirm_within.as_ref().map(|span| span.0)
    }
}

/// `--allow`, `--deny` and `--rule` in the order in which they were typed, because rules are tried in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleArgs {
    pub rules: Vec<RuleSpec>,
}

/// How each option's text becomes a rule.
const OPTIONS: &[(&str, &str, &str)] = &[
    (
        "allow",
        "allow ",
        "Let connections in: PROTOCOL[/PORT[-PORT]] [from PREFIX] [to PREFIX] [reverse|both] [for 30m]",
    ),
    ("deny", "deny ", "Refuse them, in the same words; rules are tried in the order typed, none means deny"),
    ("rule", "", "A whole rule: \"allow tcp/443 from 100.64.0.0/16\""),
];

impl Args for RuleArgs {
    fn augment_args(command: Command) -> Command {
        OPTIONS.iter().fold(command, |command, &(name, prefix, help)| {
            let parse = move |text: &str| format!("{prefix}{text}").parse::<RuleSpec>();
            command.arg(
                clap::Arg::new(name)
                    .long(name)
                    .value_name("RULE")
                    .help(help)
                    .help_heading("What may pass")
                    .action(ArgAction::Append)
                    .value_parser(parse),
            )
        })
    }
    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RuleArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut typed: Vec<(usize, RuleSpec)> = Vec::new();
        for (name, _, _) in OPTIONS {
            let values = matches.get_many::<RuleSpec>(name).unwrap_or_default().cloned();
            typed.extend(matches.indices_of(name).unwrap_or_default().zip(values));
        }
        typed.sort_by_key(|(index, _)| *index);
        Ok(Self { rules: typed.into_iter().map(|(_, rule)| rule).collect() })
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
