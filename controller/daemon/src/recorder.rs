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
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A recording ends here; the run goes on.
pub(crate) const MOST_BYTES: u64 = 1 << 30;

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
    /// Replaces what is at `path`; none: records nothing.
    pub(crate) fn open(
        path: Option<&Path>,
        settings: &Settings,
        records: &[Record],
        at: Timestamp,
    ) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path);
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

impl Recording {
    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.bytes += bytes.len() as u64;
        anyhow::ensure!(self.bytes <= MOST_BYTES, "it has reached {MOST_BYTES} bytes");
        Ok(self.file.write_all(&bytes)?)
    }
}
