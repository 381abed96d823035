//! Writes files so that a crash at any moment leaves the old state or the new one, never a part.
use anyhow::{Context, Result};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes a directory that only its owner can enter; an existing one keeps what it has and loses other people's access.
pub fn private_directory(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("{}: cannot make the directory", path.display()))?;
    let closed = fs::set_permissions(path, Permissions::from_mode(0o700));
    closed.with_context(|| format!("{}: cannot take other users' access away", path.display()))
}

/// A new file of mode 0600, on the disk when this returns; its name is durable only after [`sync_directory`].
pub fn private_file(path: &Path, content: &[u8]) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().with_context(|| format!("{}: cannot write", path.display()))
}

/// Puts `content` at `path` in one step; the intermediate file is `path` with `.new` appended.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = Path::new(&unfinished);
    private_file(unfinished, content)?;
    rename(unfinished, path)
}

/// Renames, and makes the new name durable.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))?;
    sync_directory(to.parent().unwrap_or(Path::new("/")))
}

pub fn sync_directory(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.with_context(|| format!("{}: cannot sync the directory", path.display()))
}

/// Text of at most 1 MiB; anything larger is not one of our files.
pub fn read_text(path: &Path) -> Result<String> {
    let size = fs::metadata(path).with_context(|| format!("{}: cannot read", path.display()))?.len();
    anyhow::ensure!(size <= 1 << 20, "{}: has {size} bytes, at most 1 MiB is read", path.display());
    fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))
}
