//! Where answers go: tables for people, JSON for programs; colour only on terminals.
use crate::failure::Failure;
use crate::json;
use clap::builder::styling::{AnsiColor, Style};
use std::io::Write as _;

pub const ERROR: Style = AnsiColor::Red.on_default().bold();
pub const HINT: Style = AnsiColor::Cyan.on_default();

#[derive(Clone, Copy, Debug)]
pub struct Out {
    pub json: bool,
}

impl Out {
    /// The whole answer of a command.
    pub fn answer<M: prost::Message>(
        self,
        name: &str,
        message: &M,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json {
            let value = json::of(name, message).map_err(Failure::usage)?;
            return line(&format!("{value:#}"));
        }
        line(text().trim_end())
    }

    /// One of many: a line of JSON, or some lines of text.
    pub fn item<M: prost::Message>(
        self,
        name: &str,
        message: &M,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json {
            let value = json::of(name, message).map_err(Failure::usage)?;
            return line(&value.to_string());
        }
        line(text().trim_end())
    }

    /// The whole answer of a command that asks no controller.
    pub fn value(self, value: &impl serde::Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json {
            let value = serde_json::to_value(value).map_err(|error| Failure::usage(error.to_string()))?;
            return line(&format!("{value:#}"));
        }
        line(text().trim_end())
    }

    /// A line for people alone.
    pub fn text(self, text: &str) -> Result<(), Failure> {
        line(text)
    }

    /// What helps a person and no program: to stderr, and not with `--json`.
    pub fn note(self, text: &str) {
        if !self.json && !text.is_empty() {
            anstream::eprintln!("{text}");
        }
    }
}

/// A reader that went away (`| head`) is no failure; the next line would fail the same way, so the program ends.
fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = anstream::stdout().lock();
    written(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// As they are.
pub fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    written(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

fn written(outcome: std::io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::usage(format!("the answer could not be written: {error}"))),
    }
}
