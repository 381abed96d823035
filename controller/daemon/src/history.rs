//! Keeps what was measured of the links over a restart: in a file beside the store, since samples are no promises.
//!
//! The engine gives a copy to a thread, which writes it: turning it into bytes takes several times as long as copying it, and a
//! disk may take as long as it likes.
use crate::files;
use anyhow::{Context, Result};
use controller_core::fabric::{Fabric, Kept};
use proto_model::Timestamp;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::{info, warn};

const NAME: &str = "telemetry";
/// What a controller that is killed forgets at most, with what it takes to write.
const EVERY: Duration = Duration::from_secs(300);
/// Between two lines about how far forecasts have learned again.
const PROGRESS: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct History {
    path: PathBuf,
    due: Timestamp,
    /// What was kept last: a fabric without links writes nothing.
    kept: bool,
    /// Never two at once: they would write the same file.
    writing: Option<JoinHandle<()>>,
    /// When it is said next how far forecasts have learned again; none: they miss nothing.
    progress: Option<Timestamp>,
}

impl History {
    pub(crate) fn of(state: &Path, now: Timestamp) -> Self {
        let due = now.plus(EVERY);
        Self { path: state.join(NAME), due, kept: false, writing: None, progress: None }
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

    /// After each turn of the engine.
    pub(crate) fn turn(&mut self, fabric: &Fabric, now: Timestamp) {
        self.tell_progress(fabric.learning(), now);
        if self.due <= now && self.writing.as_ref().is_none_or(JoinHandle::is_finished) {
            self.due = now.plus(EVERY);
            self.begin(fabric);
        }
    }

    fn tell_progress(&mut self, learned: Option<f32>, now: Timestamp) {
        let Some(learned) = learned else {
            if self.progress.take().is_some() {
                info!("forecasts have learned again what was measured");
            }
            return;
        };
        if self.progress.is_none_or(|next| next <= now) {
            self.progress = Some(now.plus(PROGRESS));
            let percent = (learned * 100.0) as u8;
            info!(percent, "forecasts learn again; until then decisions go by what is measured");
        }
    }

    fn begin(&mut self, fabric: &Fabric) {
        self.finish();
        if fabric.links_remembered() == 0 && !self.kept {
            return;
        }
        self.kept = true;
        let (path, history) = (self.path.clone(), fabric.history());
        let begun = std::thread::Builder::new().name("history".into()).spawn(move || write(&path, &history));
        match begun {
            Ok(writing) => self.writing = Some(writing),
            Err(error) => warn!(%error, "what was measured of the links is not kept"),
        }
    }

    /// Waits for what is being written.
    fn finish(&mut self) {
        let Some(writing) = self.writing.take() else { return };
        if writing.join().is_err() {
            warn!("what was measured of the links is not kept: its thread panicked");
        }
    }

    /// The last time, when nobody waits for the engine any more: it is on the disk when this returns.
    pub(crate) fn keep(&mut self, fabric: &Fabric) {
        self.begin(fabric);
        self.finish();
    }
}

/// Nothing is promised of it, so that a disk that refuses stops nobody.
fn write(path: &Path, history: &Kept) {
    if let Err(error) = files::replace(path, &history.to_bytes()) {
        warn!(error = %format!("{error:#}"), "what was measured of the links is not kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_core::fabric::Settings;
    use controller_core::telemetry::{self, Sample, Store};
    use proto_model::NodeName;
    use proto_model::topology::LinkId;

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
        history.turn(&fabric(), Timestamp(1).plus(EVERY));
        history.finish();
        assert!(!state.path().join(NAME).exists());
        files::replace(&state.path().join(NAME), &fabric().history().to_bytes()).expect("written");
        assert_eq!(history.read(&mut fabric(), Timestamp(2)).expect("well-formed"), Some(0));
    }

    /// Of one link something was measured.
    fn measured() -> Fabric {
        let mut store = Store::default();
        let [a, b] = ["a", "b"].map(|name| NodeName(name.parse().expect("a name")));
        let link = LinkId::new(a, b, "net".parse().expect("a name")).expect("two ends");
        store.see(Timestamp(1), &link, &Sample::default());
        let mut fabric = fabric();
        let bytes = telemetry::to_bytes(&store, &Store::default());
        fabric.recall(&bytes, Timestamp(2)).expect("just written");
        fabric
    }

    #[test]
    fn a_write_that_was_cut_leaves_the_former_history() {
        let state = tempfile::tempdir().expect("a folder");
        let mut history = History::of(state.path(), Timestamp(1));
        history.keep(&measured());
        let cut = state.path().join("telemetry.new");
        std::fs::write(&cut, b"FWTL").expect("written");
        assert_eq!(history.read(&mut fabric(), Timestamp(3)).expect("the former one"), Some(1));
        history.keep(&measured());
        assert!(!cut.exists());
        assert_eq!(history.read(&mut fabric(), Timestamp(4)).expect("the next one"), Some(1));
    }

    #[test]
    fn nobody_waits_for_a_slow_disk_until_the_end_and_no_two_writes_run_at_once() {
        let state = tempfile::tempdir().expect("a folder");
        let mut history = History::of(state.path(), Timestamp(1));
        // Nothing is written into a pipe before somebody reads.
        let pipe = state.path().join("telemetry.new");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let mut now = Timestamp(1);
        let mut first = None;
        for _ in 0..3 {
            now = now.plus(EVERY);
            history.turn(&measured(), now);
            let writing = history.writing.as_ref().map(|writing| writing.thread().id());
            assert!(writing.is_some() && *first.get_or_insert(writing) == writing, "one and the same");
        }
        assert!(history.due <= now, "it is written again as soon as the disk can");
        let reader = std::thread::spawn(move || std::fs::read(pipe).expect("a pipe"));
        history.finish();
        assert!(reader.join().expect("no panic").starts_with(b"FWTL"));
        // The pipe cannot be synced, so that it is still there, and nothing else is.
        assert!(!state.path().join(NAME).exists());
        std::fs::remove_file(state.path().join("telemetry.new")).expect("there");
        history.turn(&measured(), now);
        history.finish();
        assert!(state.path().join(NAME).exists());
    }
}
