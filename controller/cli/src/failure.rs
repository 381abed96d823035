//! What can go wrong, as people read it, as programs read it, and as an exit code.
//!
//! | code | meaning |
//! | --- | --- |
//! | 1 | the controller refused the request |
//! | 2 | wrong usage, or a wrong configuration or file |
//! | 3 | no controller could be reached, or none answered in time |
//! | 4 | the caller is not allowed to do that |
//! | 5 | accepted, but not in force when the wait ended |
//! | 6 | `why`: the packet would be dropped |
use crate::args::Cli;
use crate::out::{self, Out};
use clap::CommandFactory as _;
use proto_model::{Kind, Refusal};
use serde_json::json;
use std::ffi::OsString;
use std::time::Duration;

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The controller said no. `option` is what the refused field is called on the command line.
    Refused { refusal: Refusal, option: Option<String> },
    /// Something typed, or a file, is wrong.
    Usage { what: String, hint: String },
    /// No controller could be reached: each address, and why not.
    Unreachable { tried: Vec<(String, String)>, hint: String },
    /// The request was sent, and no answer came.
    NoAnswer { after: Duration },
    /// The controller accepted, but it is not in force yet.
    Pending { what: String, hint: String },
    /// The answer was shown, and it is not that the packet passes.
    WouldNotPass { exit: u8 },
}

impl Failure {
    pub fn usage(what: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), hint: String::new() }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { refusal, .. } => match refusal.kind {
                Kind::Forbidden => 4,
                Kind::Unavailable => 3,
                Kind::Invalid
                | Kind::NotFound
                | Kind::AlreadyExists
                | Kind::Precondition
                | Kind::Exhausted
                | Kind::Internal => 1,
            },
            Self::Usage { .. } => 2,
            Self::Unreachable { .. } | Self::NoAnswer { .. } => 3,
            Self::Pending { .. } => 5,
            Self::WouldNotPass { exit } => *exit,
        }
    }

    /// The word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused { refusal, .. } => match refusal.kind {
                Kind::Invalid => "invalid",
                Kind::NotFound => "not_found",
                Kind::AlreadyExists => "already_exists",
                Kind::Precondition => "precondition",
                Kind::Exhausted => "exhausted",
                Kind::Forbidden => "forbidden",
                Kind::Unavailable => "unavailable",
                Kind::Internal => "internal",
            },
            Self::Usage { .. } => "usage",
            Self::Unreachable { .. } => "unreachable",
            Self::NoAnswer { .. } => "no_answer",
            Self::Pending { .. } => "pending",
            Self::WouldNotPass { .. } => "would_not_pass",
        }
    }

    /// Says with which option the refused field was typed.
    #[must_use]
    pub fn named_after(self, options: &Options) -> Self {
        match self {
            Self::Refused { refusal, option: None } => {
                let option = options.for_field(&refusal.field);
                Self::Refused { refusal, option }
            }
            other => other,
        }
    }

    /// What was wrong, in a sentence or a few lines.
    pub fn what(&self) -> String {
        match self {
            Self::Refused { refusal, option } => match (option, refusal.field.as_str()) {
                (Some(option), _) => format!("{option}: {}", refusal.what),
                (None, "") => refusal.what.clone(),
                (None, field) => format!("{field}: {}", refusal.what),
            },
            Self::Usage { what, .. } | Self::Pending { what, .. } => what.clone(),
            Self::Unreachable { tried, .. } => {
                let lines: Vec<String> =
                    tried.iter().map(|(address, why)| format!("\n  {address}: {why}")).collect();
                format!("no controller could be reached{}", lines.concat())
            }
            Self::WouldNotPass { .. } => String::new(),
            Self::NoAnswer { after } => {
                format!("the controller did not answer within {} s", after.as_secs_f64())
            }
        }
    }

    /// What to do next; empty when there is nothing to say.
    pub fn hint(&self) -> String {
        match self {
            Self::Refused { refusal, .. } if refusal.hint.is_empty() && refusal.kind == Kind::Forbidden => {
                "an admin makes clients of another role: foreweave client add NAME --role operator".into()
            }
            Self::Refused { refusal, .. } if refusal.hint.is_empty() && refusal.kind == Kind::Internal => {
                "this is a bug of the controller; its log says more".into()
            }
            Self::Refused { refusal, .. } => refusal.hint.clone(),
            Self::Usage { hint, .. } | Self::Unreachable { hint, .. } | Self::Pending { hint, .. } => hint.clone(),
            Self::WouldNotPass { .. } => String::new(),
            Self::NoAnswer { .. } => {
                "--timeout 60s waits longer; whether the request took effect, foreweave status and the lists show".into()
            }
        }
    }

    pub fn json(&self) -> serde_json::Value {
        let (field, option) = match self {
            Self::Refused { refusal, option } => (refusal.field.as_str(), option.as_deref()),
            Self::Usage { .. }
            | Self::Unreachable { .. }
            | Self::NoAnswer { .. }
            | Self::Pending { .. }
            | Self::WouldNotPass { .. } => ("", None),
        };
        json!({"error": {
            "kind": self.kind(), "what": self.what(), "hint": self.hint(), "field": field, "option": option,
            "exit_code": self.exit_code(),
        }})
    }

    pub fn print(&self, out: Out) {
        // It stands on stdout already.
        if matches!(self, Self::WouldNotPass { .. }) {
            return;
        }
        if out.json {
            eprintln!("{}", self.json());
            return;
        }
        anstream::eprintln!("{}error:{:#} {}", out::ERROR, out::ERROR, self.what());
        let hint = self.hint();
        if !hint.is_empty() {
            anstream::eprintln!("  {}hint:{:#} {hint}", out::HINT, out::HINT);
        }
    }
}

/// What the options of the command that was typed are called, to name them in a refusal.
#[derive(Clone, Debug, Default)]
pub struct Options {
    names: Vec<String>,
    typed: Vec<String>,
}

/// Last words of the API's field paths, and the options or arguments that they come from; the first that was typed
/// counts, else the first that the command has.
const FIELDS: &[(&str, &[&str])] = &[
    ("rules", &["--rule", "RULE", "--allow"]),
    ("intents", &["--intent", "--service"]),
    ("before", &["--before"]),
    ("ids", &["ID"]),
    ("expected_version", &["CIRCUIT"]),
    ("max_rtt", &["--latency"]),
    ("max_loss", &["--loss"]),
    ("rtt", &["--latency"]),
    ("bandwidth", &["--bandwidth"]),
    ("limit", &["--limit"]),
    ("expires", &["--for", "--until"]),
    ("starts", &["--start"]),
    ("confirm_within", &["--confirm-within"]),
    ("encrypted", &["--encrypted"]),
    ("encrypted_links", &["--encrypted-links"]),
    ("max_price", &["--max-price"]),
    ("max_hops", &["--max-hops"]),
    ("via", &["--via"]),
    ("avoid", &["--avoid"]),
    ("require_tags", &["--require-tag"]),
    ("avoid_tags", &["--avoid-tag"]),
    ("risk", &["--risk"]),
    ("horizon", &["--horizon"]),
    ("weights", &["--weight"]),
    ("priority", &["--priority"]),
    ("path", &["--path"]),
    ("pinned_path", &["--path"]),
    ("name", &["--name", "NAME"]),
    ("source", &["SRC", "--from"]),
    ("destination", &["DST"]),
    ("idempotency_key", &["--idempotency-key"]),
    ("wait", &["--wait"]),
    ("services", &["--service"]),
    ("labels", &["--label"]),
    ("addresses", &["--address"]),
    ("attachment", &["--netns", "--netns-path", "--pid"]),
    ("interface", &["--interface"]),
    ("form", &["--form"]),
    ("lease", &["--lease"]),
    ("resource_id", &["NAME"]),
    ("status", &["STATUS"]),
    ("node", &["--node", "NAME"]),
    ("nodes", &["--at"]),
    ("lifetime", &["--lifetime"]),
    ("role", &["--role"]),
    ("network", &["--network"]),
    ("capacity", &["--capacity"]),
    ("loss", &["--loss"]),
    ("price", &["--price"]),
    ("tags", &["--tag"]),
    ("disabled", &["--disable"]),
    ("a", &["A"]),
    ("b", &["B"]),
    ("circuit", &["CIRCUIT", "--circuit"]),
];

impl Options {
    /// Those of the command that these arguments call.
    pub fn of(arguments: impl Iterator<Item = OsString>) -> Self {
        let mut command = Cli::command();
        let mut typed = Vec::new();
        for word in arguments {
            let text = word.to_string_lossy();
            typed.push(text.split_once('=').map_or(&*text, |(name, _)| name).to_owned());
            let next = word.to_str().and_then(|word| command.find_subcommand(word)).cloned();
            command = next.unwrap_or(command);
        }
        let name = |argument: &clap::Arg| match argument.get_long() {
            Some(long) => format!("--{long}"),
            None => {
                let value = argument.get_value_names().and_then(|names| names.first());
                value.map_or_else(|| argument.get_id().as_str().to_uppercase(), |name| name.to_string())
            }
        };
        Self { names: command.get_arguments().map(name).collect(), typed }
    }

    /// `circuit.bounds.max_rtt` → `--latency`, if the command has it. Rules and intents are looked for first: what is
    /// wrong inside of one came with its option.
    pub fn for_field(&self, field: &str) -> Option<String> {
        let words: Vec<&str> = field.split(['.', '[', ']']).filter(|word| !word.is_empty()).collect();
        // Those of a file have no options.
        if words.first() == Some(&"circuits") {
            return None;
        }
        let whole = words.iter().find(|word| matches!(**word, "rules" | "intents" | "weights"));
        whole.into_iter().chain(words.iter().rev()).find_map(|word| self.named(word))
    }

    fn named(&self, word: &str) -> Option<String> {
        let (_, candidates) = FIELDS.iter().find(|(field, _)| *field == word)?;
        let own: Vec<&&str> =
            candidates.iter().filter(|name| self.names.iter().any(|own| own == *name)).collect();
        let typed = own.iter().find(|name| self.typed.iter().any(|typed| typed == **name));
        typed.or(own.first()).map(|name| (**name).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &str) -> Options {
        Options::of(words.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_refused_field_is_named_by_its_option() {
        let create = options("--json circuit create web db --latency 5ms");
        for (field, option) in [
            ("circuit.bounds.max_rtt", "--latency"),
            ("circuit.bounds.max_loss", "--loss"),
            ("circuit.bounds.risk", "--risk"),
            ("circuit.bounds.weights[rtt]", "--weight"),
            ("circuit.rules[2].ports.from", "--rule"),
            ("circuit.rules[0].source", "--rule"),
            ("circuit.source", "SRC"),
            ("circuit.via[1]", "--via"),
            ("circuit.path", "--path"),
            ("idempotency_key", "--idempotency-key"),
        ] {
            assert_eq!(create.for_field(field).as_deref(), Some(option), "{field}");
        }
        assert_eq!(options("trace web-db --at a").for_field("nodes").as_deref(), Some("--at"));
        let register = options("resource register web --node n --host");
        assert_eq!(register.for_field("metadata.node").as_deref(), Some("--node"));
        assert_eq!(register.for_field("resource_id").as_deref(), Some("NAME"));
        assert_eq!(register.for_field("intents[0].bounds.max_rtt").as_deref(), Some("--intent"));
        for (words, option) in [("--until 2020-01-01T00:00:00Z", "--until"), ("--for=1s", "--for")] {
            let extend = options(&format!("circuit extend web-db {words}"));
            assert_eq!(extend.for_field("expires").as_deref(), Some(option));
        }
        let limited = options("circuit create web db --limit 1kbit");
        assert_eq!(limited.for_field("circuit.bounds.limit").as_deref(), Some("--limit"));
        assert_eq!(options("node add a").for_field("node").as_deref(), Some("NAME"));
        assert_eq!(options("link set a b").for_field("values.rtt").as_deref(), Some("--latency"));
        assert_eq!(options("status").for_field("circuit.bounds.max_rtt"), None);
    }

    #[test]
    fn every_option_of_the_table_exists() {
        let mut known: Vec<String> = Vec::new();
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            let words: Vec<OsString> = Vec::new();
            known.extend(Options::of(words.into_iter()).names);
            let own = command.get_arguments().map(|a| match a.get_long() {
                Some(long) => format!("--{long}"),
                None => a
                    .get_value_names()
                    .and_then(|names| names.first())
                    .map_or_else(|| a.get_id().as_str().to_uppercase(), |name| name.to_string()),
            });
            known.extend(own);
            commands.extend(command.get_subcommands().cloned());
        }
        for (field, names) in FIELDS {
            for name in *names {
                assert!(known.iter().any(|own| own == name), "{field}: no command has {name}");
            }
        }
    }

    #[test]
    fn every_failure_has_its_exit_code_and_json() {
        let refused = |kind| Failure::Refused { refusal: Refusal::new(kind, "no"), option: None };
        for (failure, code, kind) in [
            (refused(Kind::Invalid), 1, "invalid"),
            (refused(Kind::NotFound), 1, "not_found"),
            (refused(Kind::AlreadyExists), 1, "already_exists"),
            (refused(Kind::Precondition), 1, "precondition"),
            (refused(Kind::Exhausted), 1, "exhausted"),
            (refused(Kind::Internal), 1, "internal"),
            (refused(Kind::Unavailable), 3, "unavailable"),
            (refused(Kind::Forbidden), 4, "forbidden"),
            (Failure::usage("x"), 2, "usage"),
            (
                Failure::Unreachable { tried: vec![("a:1".into(), "refused".into())], hint: "y".into() },
                3,
                "unreachable",
            ),
            (Failure::NoAnswer { after: Duration::from_secs(30) }, 3, "no_answer"),
            (Failure::Pending { what: "x".into(), hint: "y".into() }, 5, "pending"),
        ] {
            assert_eq!(failure.exit_code(), code);
            let json = failure.json();
            assert_eq!(json["error"]["kind"], kind);
            assert_eq!(json["error"]["exit_code"], code);
            assert!(json["error"]["what"].as_str().is_some_and(|what| !what.is_empty()));
        }
    }

    #[test]
    fn a_refusal_shows_option_numbers_and_hint() {
        let refusal = Refusal {
            field: "circuit.bounds.bandwidth".into(),
            ..Refusal::new(
                Kind::Exhausted,
                "edge-a–edge-b (wan) has 340 Mbit/s free, the circuit needs 500 Mbit/s",
            )
        };
        let failure = Failure::Refused { refusal: refusal.hint("up to 340 Mbit/s now"), option: None }
            .named_after(&options("circuit create web db"));
        assert!(failure.what().starts_with("--bandwidth: edge-a–edge-b (wan) has 340 Mbit/s free"));
        assert_eq!(failure.hint(), "up to 340 Mbit/s now");
    }
}
