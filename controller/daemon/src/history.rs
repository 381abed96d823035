//! Keeps what was measured of the links over a restart: in a file beside the store, since samples are no promises.
use crate::files;
use anyhow::{Context, Result};
use controller_core::fabric::Fabric;
use proto_model::Timestamp;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::{info, warn};

const NAME: &str = "telemetry";
/// What a controller that is killed forgets at most.
const EVERY: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(crate) struct History {
    path: PathBuf,
    due: Timestamp,
    /// What was kept last: a fabric without links writes nothing.
    kept: bool,
}

impl History {
    pub(crate) fn of(state: &Path, now: Timestamp) -> Self {
        Self { path: state.join(NAME), due: now.plus(EVERY), kept: false }
    }

    /// What cannot be read is as good as nothing: forecasts begin anew.
    pub(crate) fn recall(&self, fabric: &mut Fabric, now: Timestamp) {
        match self.read(fabric, now) {
            Ok(Some(links)) => info!(links, "what was measured of the links is remembered"),
            Ok(None) => {}
            Err(error) => warn!(error = %format!("{error:#}"), "what was measured of the links is forgotten"),
        }
    }

    fn read(&self, fabric: &mut Fabric, now: Timestamp) -> Result<Option<usize>> {
        let shown = || self.path.display().to_string();
        match std::fs::read(&self.path) {
            Ok(bytes) => fabric.recall(&bytes, now).map(Some).with_context(shown),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(shown),
        }
    }

    pub(crate) fn keep_if_due(&mut self, fabric: &Fabric, now: Timestamp) {
        if self.due <= now {
            self.due = now.plus(EVERY);
            self.keep(fabric);
        }
    }

    /// Nothing is promised of it, so that a disk that refuses stops nobody.
    pub(crate) fn keep(&mut self, fabric: &Fabric) {
        if fabric.links_remembered() == 0 && !self.kept {
            return;
        }
        self.kept = true;
        if let Err(error) = files::replace(&self.path, &fabric.history()) {
            warn!(error = %format!("{error:#}"), "what was measured of the links is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_core::fabric::Settings;

    fn fabric() -> Fabric {
        Fabric::restore(Settings::default(), [], Timestamp(1)).expect("empty")
    }

    #[test]
    fn a_history_that_is_none_is_left_aside() {
        let state = tempfile::tempdir().expect("a folder");
        let history = History::of(state.path(), Timestamp(1));
        assert_eq!(history.read(&mut fabric(), Timestamp(2)).expect("nothing is there"), None);
        std::fs::write(state.path().join(NAME), b"not a history").expect("written");
        let error = format!("{:#}", history.read(&mut fabric(), Timestamp(2)).expect_err("garbage"));
        assert!(error.contains("telemetry"), "{error}");
        history.recall(&mut fabric(), Timestamp(2));
    }

    #[test]
    fn what_is_kept_can_be_recalled_and_a_fabric_without_links_writes_nothing() {
        let state = tempfile::tempdir().expect("a folder");
        let mut history = History::of(state.path(), Timestamp(1));
        history.keep_if_due(&fabric(), Timestamp(1).plus(EVERY));
        assert!(!state.path().join(NAME).exists());
        files::replace(&state.path().join(NAME), &fabric().history()).expect("written");
        assert_eq!(history.read(&mut fabric(), Timestamp(2)).expect("well-formed"), Some(0));
    }
}
