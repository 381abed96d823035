//! Records every input as a line of JSON: a bug report that replays as a test.
//!
//! The first line holds the settings and the records that the run began with; every further one an input and its time.
use anyhow::{Context, Result};
use controller_core::io::Input;
use controller_core::record::Record;
use controller_core::settings::Settings;
use proto_model::Timestamp;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A recording ends here; the run goes on.
pub(crate) const MOST_BYTES: u64 = 1 << 30;
/// Earlier recordings that are kept beside it.
const MOST_KEPT: u32 = 9;

#[derive(Debug, Default)]
pub(crate) struct Recorder {
    open: Option<Recording>,
}

#[derive(Debug)]
struct Recording {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

#[derive(Serialize)]
struct Beginning<'a> {
    settings: &'a Settings,
    records: &'a [Record],
    at: Timestamp,
}

#[derive(Serialize)]
struct Happened<'a> {
    at: Timestamp,
    input: &'a Input,
}

impl Recorder {
    /// What is at `path` is kept under another name; none: records nothing.
    pub(crate) fn open(
        path: Option<&Path>,
        settings: &Settings,
        records: &[Record],
        at: Timestamp,
    ) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        keep_earlier(path)?;
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
        let file = file.with_context(|| format!("{}: cannot be written", path.display()))?;
        let recording = Recording { path: path.to_owned(), file: BufWriter::new(file), bytes: 0 };
        let mut recorder = Self { open: Some(recording) };
        recorder.line(&Beginning { settings, records, at });
        Ok(recorder)
    }

    pub(crate) fn input(&mut self, at: Timestamp, input: &Input) {
        if self.open.is_some() {
            self.line(&Happened { at, input });
        }
    }

    pub(crate) fn flush(&mut self) {
        let flushed = self.open.as_mut().map_or(Ok(()), |recording| recording.file.flush());
        self.ended(flushed.map_err(anyhow::Error::from));
    }

    fn line(&mut self, line: &impl Serialize) {
        let Some(recording) = &mut self.open else { return };
        let written = recording.write(line);
        self.ended(written);
    }

    /// A recording that cannot go on ends; the controller does not.
    fn ended(&mut self, outcome: Result<()>) {
        if let Err(why) = outcome
            && let Some(recording) = self.open.take()
        {
            tracing::warn!(file = %recording.path.display(), why = format!("{why:#}"), "the recording ends");
        }
    }
}

/// Renames a recording that is there: a controller that is started again must not destroy what shows why it ended.
///
/// The first ones are kept, and the last: what began a row of crashes tells the most.
fn keep_earlier(path: &Path) -> Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    let free = (1..MOST_KEPT).find(|number| !numbered(*number).exists());
    let kept = numbered(free.unwrap_or(MOST_KEPT));
    match std::fs::rename(path, &kept) {
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome.with_context(|| {
            format!("{}: the earlier recording cannot be renamed to {}", path.display(), kept.display())
        }),
    }
}

impl Recording {
    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.bytes += bytes.len() as u64;
        anyhow::ensure!(self.bytes <= MOST_BYTES, "it has reached {MOST_BYTES} bytes");
        Ok(self.file.write_all(&bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times at which the recordings that are there began.
    fn kept(path: &Path) -> Vec<(String, u64)> {
        let directory = std::fs::read_dir(path.parent().expect("directory")).expect("directory");
        let mut kept: Vec<_> = directory
            .map(|entry| {
                let entry = entry.expect("entry");
                let text = std::fs::read_to_string(entry.path()).expect("recording");
                let line = text.lines().next().expect("beginning");
                let beginning: serde_json::Value = serde_json::from_str(line).expect("JSON");
                (entry.file_name().into_string().expect("text"), beginning["at"].as_u64().expect("time"))
            })
            .collect();
        kept.sort();
        kept
    }

    #[test]
    fn a_restart_keeps_earlier_recordings_and_not_without_end() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("inputs");
        for start in 1..=12 {
            Recorder::open(Some(&path), &Settings::default(), &[], Timestamp(start)).expect("open").flush();
        }
        let mut expected: Vec<_> = (1..=8).map(|start| (format!("inputs.{start}"), start)).collect();
        expected.insert(0, ("inputs".into(), 12));
        expected.push(("inputs.9".into(), 11));
        assert_eq!(kept(&path), expected);
    }
}
