//! Keeps what ends by itself over the end of the agent: one small file per object in its state directory.
//!
//! It has to outlive the agent, not the host: maps and programs do not survive a reboot either. So nothing is synced.
use anyhow::{Context, Result};
use proto_model::desired::{Object, ObjectKey, Side};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tracing::warn;

/// The directory, below the agent's state.
const DIRECTORY: &str = "ends";

#[derive(Debug)]
pub(crate) struct Memory {
    directory: PathBuf,
}

impl Memory {
    pub(crate) fn of(state: &Path) -> Self {
        Self { directory: state.join(DIRECTORY) }
    }

    /// Everything that was kept. A file that is not understood is left where it is and named.
    pub(crate) fn read(&self) -> Result<Vec<Object>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| self.directory.display().to_string()),
        };
        let mut objects = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| self.directory.display().to_string())?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            match serde_json::from_slice(&bytes) {
                Ok(object) => objects.push(object),
                Err(error) => warn!(file = %path.display(), %error, "not understood; it is ignored"),
            }
        }
        Ok(objects)
    }

    /// Replaces the file as a whole, so that a reader sees the one or the other.
    pub(crate) fn keep(&self, key: &ObjectKey, object: Option<&Object>) -> Result<()> {
        let Some(name) = name(key) else { return Ok(()) };
        let path = self.directory.join(format!("{name}.json"));
        let Some(object) = object else {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(error).with_context(|| path.display().to_string())
                }
                _ => Ok(()),
            };
        };
        let new = self.directory.join(format!("{name}.new"));
        let bytes = serde_json::to_vec(object).context("an object that cannot be written")?;
        fs::create_dir_all(&self.directory).with_context(|| self.directory.display().to_string())?;
        fs::write(&new, bytes).with_context(|| new.display().to_string())?;
        fs::rename(&new, &path).with_context(|| path.display().to_string())
    }

    /// Of a host that leaves the fabric.
    pub(crate) fn remove(self) -> Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| self.directory.display().to_string())
            }
            _ => Ok(()),
        }
    }
}

/// None: nothing of this kind ends by itself.
fn name(key: &ObjectKey) -> Option<String> {
    match key {
        ObjectKey::Endpoint(circuit, Side::Source) => Some(format!("{circuit}-source")),
        ObjectKey::Endpoint(circuit, Side::Destination) => Some(format!("{circuit}-destination")),
        ObjectKey::Rules(circuit) => Some(format!("{circuit}-rules")),
        ObjectKey::Policy => Some("policy".to_owned()),
        ObjectKey::Eni(_)
        | ObjectKey::Hop(_)
        | ObjectKey::Peer(_)
        | ObjectKey::Trace(_)
        | ObjectKey::Queues(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::CircuitId;
    use proto_model::rule::RuleSet;

    #[test]
    fn what_is_kept_is_read_back_until_it_is_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let memory = Memory::of(dir.path());
        assert!(memory.read().expect("nothing yet").is_empty());
        let set = |version| {
            Object::Rules(RuleSet { circuit: CircuitId(3), version, rules: Vec::new(), revert: None })
        };
        memory.keep(&set(1).key(), Some(&set(1))).expect("kept");
        memory.keep(&set(2).key(), Some(&set(2))).expect("replaced");
        fs::write(dir.path().join("ends/c9-rules.json"), "of another build").expect("written");
        assert_eq!(memory.read().expect("read"), [set(2)]);
        memory.keep(&set(2).key(), None).expect("forgotten");
        memory.keep(&set(2).key(), None).expect("twice is fine");
        assert!(memory.read().expect("read").is_empty());
        memory.remove().expect("removed");
        assert!(!dir.path().join("ends").exists());
    }
}
