//! Writes everything that happens to the agent as JSON lines: a recording is a bug report, and replays as a test.
use agent_core::io::Input;
use agent_core::kernel_state::Entry;
use anyhow::{Context, Result};
use proto_model::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use tracing::warn;

/// One line of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub at: Timestamp,
    pub happened: Happened,
}

/// JSON has no keys but text, so what was observed is written as a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Happened {
    Observed(Vec<Entry>),
    Other(Input),
}

impl From<Input> for Happened {
    fn from(input: Input) -> Self {
        match input {
            Input::Observed(state) => Self::Observed(state.into_values().collect()),
            other => Self::Other(other),
        }
    }
}

impl From<Happened> for Input {
    fn from(happened: Happened) -> Self {
        match happened {
            Happened::Observed(entries) => {
                Self::Observed(entries.into_iter().map(|entry| (entry.key(), entry)).collect())
            }
            Happened::Other(input) => input,
        }
    }
}

/// The most bytes of a recording; then it ends, and says so.
pub const MOST: u64 = 256 << 20;

/// A recording under way.
#[derive(Debug)]
pub struct Recorder {
    file: Option<BufWriter<File>>,
    left: u64,
}

impl Recorder {
    /// # Errors
    /// When the file cannot be made.
    pub fn to(path: &Path) -> Result<Self> {
        Self::bounded(path, MOST)
    }

    fn bounded(path: &Path, left: u64) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot record into {}", path.display()))?;
        Ok(Self { file: Some(BufWriter::new(file)), left })
    }

    /// A recording that cannot go on ends; the agent does not.
    pub fn record(&mut self, at: Timestamp, input: &Input) {
        let Some(file) = &mut self.file else { return };
        let outcome = write(file, &mut self.left, &Line { at, happened: input.clone().into() });
        if let Err(error) = outcome {
            warn!(%error, "the recording ends here");
            self.file = None;
        }
    }
}

fn write(file: &mut BufWriter<File>, left: &mut u64, line: &Line) -> Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let length = text.len() as u64;
    *left = left.checked_sub(length).with_context(|| format!("{MOST} bytes are written"))?;
    file.write_all(&text)?;
    // A crash must not take the last lines with it: they are the interesting ones.
    Ok(file.flush()?)
}

/// Reads a recording.
///
/// # Errors
/// The number of the line that is none.
pub fn read(text: &str) -> Result<Vec<Line>> {
    text.lines()
        .enumerate()
        .map(|(number, line)| serde_json::from_str(line).with_context(|| format!("line {}", number + 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_can_be_read() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let mut recorder = Recorder::to(file.path()).expect("recorder");
        recorder.record(Timestamp(1), &Input::Tick);
        recorder.record(Timestamp(2), &Input::Disconnected { session: 7 });
        let lines = read(&std::fs::read_to_string(file.path()).expect("text")).expect("lines");
        assert_eq!(lines[1].at, Timestamp(2));
        assert_eq!(Input::from(lines[1].happened.clone()), Input::Disconnected { session: 7 });
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn what_was_observed_survives_too() {
        let hop = agent_core::kernel_state::NextHop {
            slot: 1,
            local: "192.0.2.1".parse().expect("address"),
            remote: "192.0.2.2".parse().expect("address"),
            link: None,
        };
        let entry = Entry::NextHop(hop);
        let input = Input::Observed([(entry.key(), entry)].into());
        let line = Line { at: Timestamp(1), happened: input.clone().into() };
        let text = serde_json::to_string(&line).expect("JSON");
        let [read] = read(&text).expect("lines").try_into().expect("one line");
        assert_eq!(Input::from(read.happened), input);
    }

    #[test]
    fn what_the_protector_told_survives_too() {
        use agent_core::protect::Told;
        use proto_model::NodeName;
        use proto_model::report::Way;
        use proto_model::topology::{LinkId, Measured};
        let name = |text: &str| text.parse::<NodeName>().expect("a name");
        let link = LinkId::new(name("a"), name("b"), "n".parse().expect("a name")).expect("two ends");
        let turned = Told::Turned { group: 3, to: Way::Backup, why: "carrier".into(), at: Timestamp(7) };
        let measured = Told::Measured(vec![(link, Measured { probes: 20, ..Measured::default() })]);
        for told in [turned, measured] {
            let input = Input::Protector(told);
            let line = Line { at: Timestamp(1), happened: input.clone().into() };
            let text = serde_json::to_string(&line).expect("JSON");
            let [read] = read(&text).expect("lines").try_into().expect("one line");
            assert_eq!(Input::from(read.happened), input);
        }
    }

    #[test]
    fn a_recording_has_an_end() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let mut recorder = Recorder::bounded(file.path(), 60).expect("recorder");
        for _ in 0..100 {
            recorder.record(Timestamp(1), &Input::Tick);
        }
        assert!(file.path().metadata().expect("file").len() <= 60);
    }
}
