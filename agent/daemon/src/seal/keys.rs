//! This host's encryption keys: made here, kept where only root reads, never told; only their public halves leave.
use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gotatun::x25519::{PublicKey, StaticSecret};
use proto_model::SealKey;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const FILE: &str = "encryption.toml";

/// The present key, and the one before it, which is still accepted. Written out (to its file, and to the sealer) it is
/// the secrets.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub struct Keys {
    pub(super) secrets: Vec<StaticSecret>,
}

/// As the file has it: base64, as `wg genkey` prints them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    key: String,
    former: Option<String>,
}

impl From<Keys> for Stored {
    fn from(keys: Keys) -> Self {
        let text = |secret: &StaticSecret| STANDARD.encode(secret.to_bytes());
        let mut texts = keys.secrets.iter().map(text);
        Self { key: texts.next().unwrap_or_default(), former: texts.next() }
    }
}

impl TryFrom<Stored> for Keys {
    type Error = anyhow::Error;

    fn try_from(stored: Stored) -> Result<Self> {
        let secret = |text: &String| {
            let bytes = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            bytes.map(StaticSecret::from).ok_or_else(|| anyhow!("a key is 32 bytes as base64"))
        };
        let secrets = std::iter::once(&stored.key).chain(&stored.former).map(secret);
        Ok(Self { secrets: secrets.collect::<Result<_>>()? })
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.public().iter().map(ToString::to_string)).finish()
    }
}

impl Keys {
    /// New ones, of no file: for tests, and for a host that forgets them when the agent ends.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate() -> Result<Self> {
        Ok(Self { secrets: vec![random()?] })
    }

    /// Those of this host; made when there are none.
    ///
    /// # Errors
    /// A file that cannot be read or written, or is damaged; and what to do.
    pub fn load(state: &Path) -> Result<Self> {
        let path = path(state);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text)
                .with_context(|| format!("{} is damaged; remove it, and a new key is made", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let keys = Self::generate()?;
                keys.store(state)?;
                Ok(keys)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        toml::from_str::<Stored>(text)?.try_into()
    }

    /// Replaces the file in one step; only root, or the agent's own user, may read it.
    fn store(&self, state: &Path) -> Result<()> {
        if self.secrets.is_empty() {
            bail!("there is no key");
        }
        let stored = Stored::from(self.clone());
        let temporary = state.join(format!(".{FILE}.{}", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
            file.write_all(toml::to_string(&stored).map_err(std::io::Error::other)?.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, path(state))?;
            File::open(state)?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path(state).display())).inspect_err(|_| {
            let _ = std::fs::remove_file(&temporary);
        })
    }

    /// A new key comes first; the present one becomes the former one, and what was the former one is forgotten.
    ///
    /// # Errors
    /// When it cannot be kept; then nothing changed.
    pub fn rotate(&mut self, state: &Path) -> Result<()> {
        let mut secrets = vec![random()?];
        secrets.extend(self.secrets.first().cloned());
        let rotated = Self { secrets };
        rotated.store(state)?;
        *self = rotated;
        Ok(())
    }

    /// The newest first.
    pub fn public(&self) -> Vec<SealKey> {
        self.secrets.iter().map(|secret| SealKey(PublicKey::from(secret).to_bytes())).collect()
    }
}

fn path(state: &Path) -> PathBuf {
    state.join(FILE)
}

fn random() -> Result<StaticSecret> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
    Ok(StaticSecret::from(bytes))
}

/// Removes them from this host.
///
/// # Errors
/// When the file is there and cannot be removed.
pub(crate) fn forget(state: &Path) -> Result<()> {
    match std::fs::remove_file(path(state)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path(state).display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_the_same_until_they_are_rotated_and_only_the_owner_reads_them() {
        let state = tempfile::tempdir().expect("a directory");
        let first = Keys::load(state.path()).expect("made");
        assert_eq!(Keys::load(state.path()).expect("read").public(), first.public());
        let mode = path(state.path()).metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut keys = first.clone();
        keys.rotate(state.path()).expect("rotated");
        assert_eq!(keys.public()[1..], first.public()[..], "the present one becomes the former one");
        keys.rotate(state.path()).expect("rotated");
        assert_eq!(keys.public().len(), 2);
        assert!(!keys.public().contains(&first.public()[0]), "after two rotations it is forgotten");
        assert_eq!(Keys::load(state.path()).expect("read").public(), keys.public());
        forget(state.path()).expect("removed");
        assert!(!path(state.path()).exists());
    }

    #[test]
    fn a_damaged_file_is_not_replaced_silently() {
        let state = tempfile::tempdir().expect("a directory");
        std::fs::write(path(state.path()), "key = \"short\"").expect("written");
        let error = format!("{:#}", Keys::load(state.path()).expect_err("damaged"));
        assert!(error.contains("remove it") && error.contains("32 bytes"), "{error}");
    }

    #[test]
    fn a_secret_is_never_shown() {
        let keys = Keys::generate().expect("random numbers");
        let secret = STANDARD.encode(keys.secrets[0].to_bytes());
        assert!(!format!("{keys:?}").contains(&secret));
    }
}
