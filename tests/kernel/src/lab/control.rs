//! How a running emulator is told that its link has changed: a socket in the lab's folder, one line each way.
use super::link::Condition;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Neither side may keep the other waiting: the emulator carries frames meanwhile.
const PATIENCE: Duration = Duration::from_millis(500);
/// What it answers who was too slow: a machine that is busy may stop a process between two lines.
const LATE: &str = "late";
/// How often such a one tries again.
const TRIES: usize = 10;
/// What an emulator answers when the change is in force.
const DONE: &str = "done";

/// Socket names have at most 107 bytes, folders of labs may have more: the folder is named by its descriptor.
fn through(folder: &File, index: usize) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/link-{index}.socket", folder.as_raw_fd()))
}

/// Where an emulator hears; it does not wait there.
pub fn listen(folder: &Path, index: usize) -> Result<UnixListener> {
    let folder = File::open(folder).with_context(|| folder.display().to_string())?;
    let listener = UnixListener::bind(through(&folder, index)).context("the emulator's socket")?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// What the emulator was told, if it was; it answers once `adopt` has put it in force.
pub fn heard(listener: &UnixListener, adopt: impl FnOnce(Condition) -> Result<()>) -> Result<()> {
    let (mut stream, _) = match listener.accept() {
        Ok(accepted) => accepted,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error).context("the emulator's socket"),
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut text = Vec::new();
    let understood = stream.read_to_end(&mut text).map_err(anyhow::Error::from);
    let outcome = understood.and_then(|_| Ok(serde_json::from_slice(&text)?)).and_then(adopt);
    let late = |failure: &anyhow::Error| {
        let kind = failure.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        matches!(kind, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut))
    };
    if outcome.as_ref().is_err_and(late) {
        let _ = stream.write_all(LATE.as_bytes());
        return Ok(());
    }
    let answer = outcome.map_or_else(|failure| format!("{failure:#}"), |()| DONE.to_owned());
    // Who does not wait for the answer does not want it.
    let _ = stream.write_all(answer.as_bytes());
    Ok(())
}

/// Tells the emulator of a link; on return it is so.
pub(super) fn tell(folder: &Path, index: usize, condition: &Condition) -> Result<()> {
    for _ in 0..TRIES {
        match try_to_tell(folder, index, condition)?.as_str() {
            DONE => return Ok(()),
            LATE => {}
            refusal => bail!("the link's emulator refuses: {refusal}"),
        }
    }
    bail!("{TRIES} times the link's emulator was not told in time what to do: the machine is too busy")
}

/// What it answers.
fn try_to_tell(folder: &Path, index: usize, condition: &Condition) -> Result<String> {
    let place = File::open(folder).with_context(|| folder.display().to_string())?;
    let mut stream =
        UnixStream::connect(through(&place, index)).context("the link's emulator does not hear")?;
    stream.set_read_timeout(Some(20 * PATIENCE))?;
    stream.write_all(&serde_json::to_vec(condition)?)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the link's emulator does not answer")?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::link::Lane;
    use crate::lab::plan::Shape;

    fn condition() -> Condition {
        let lane = |blackhole| Lane { shape: Shape { delay: 5, ..Shape::default() }, blackhole };
        Condition { lanes: [lane(true), lane(false)], cut: Some(1) }
    }

    #[test]
    fn a_condition_arrives_as_it_was_sent_and_is_acknowledged() {
        // A folder whose name alone is longer than a socket's may be.
        let folder = tempfile::tempdir().expect("folder");
        let folder = folder.path().join("x".repeat(150));
        std::fs::create_dir(&folder).expect("folder");
        let listener = listen(&folder, 3).expect("listen");
        std::thread::scope(|scope| {
            let telling = scope.spawn(|| tell(&folder, 3, &condition()));
            let mut got = None;
            while got.is_none() {
                let adopt = |condition| {
                    got = Some(condition);
                    Ok(())
                };
                heard(&listener, adopt).expect("heard");
            }
            assert_eq!(got, Some(condition()));
            telling.join().expect("thread").expect("acknowledged");
        });
    }

    #[test]
    fn who_is_told_to_be_late_tells_again() {
        let folder = tempfile::tempdir().expect("folder");
        let listener = listen(folder.path(), 0).expect("listen");
        listener.set_nonblocking(false).expect("wait");
        std::thread::scope(|scope| {
            let telling = scope.spawn(|| tell(folder.path(), 0, &condition()));
            heard(&listener, |_| Err(std::io::Error::from(ErrorKind::TimedOut).into())).expect("heard");
            heard(&listener, |_| Ok(())).expect("heard again");
            telling.join().expect("thread").expect("acknowledged");
        });
    }

    #[test]
    fn a_refusal_comes_back_in_words() {
        let folder = tempfile::tempdir().expect("folder");
        let listener = listen(folder.path(), 0).expect("listen");
        listener.set_nonblocking(false).expect("wait");
        std::thread::scope(|scope| {
            let telling = scope.spawn(|| tell(folder.path(), 0, &condition()));
            heard(&listener, |_| bail!("no such recording")).expect("heard");
            let refusal = telling.join().expect("thread").expect_err("refused");
            assert!(refusal.to_string().contains("no such recording"), "{refusal}");
        });
        assert!(tell(folder.path(), 1, &condition()).is_err(), "nobody is there");
    }
}
