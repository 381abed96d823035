//! Carries frames between two TAP interfaces, each at the time its line says.
use super::line::{Fate, Line};
use super::series::Series;
use crate::lab::link::{Condition, Lane};
use crate::lab::plan::{Link, Shape};
use crate::lab::{control, door, namespace};
use crate::urgent::become_urgent;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// Frames that one direction may hold: what does not fit is dropped, as by a router without memory.
const HELD: usize = 65_536;
/// The longest frame that a TAP without offloads gives.
const FRAME: usize = 65_550;

/// Carries a link's frames until the process ends; `namespaces` are those of its two ends, `told` is where changes of
/// the link are heard.
pub fn run(link: &Link, namespaces: [&str; 2], seed: u64, told: &UnixListener) -> Result<()> {
    let mut taps = Vec::new();
    for (end, name) in link.ends.iter().zip(namespaces) {
        taps.push(namespace::inside(name, || door::tap(&end.interface, false))?);
    }
    let direction = |seed| -> Result<Direction> {
        let line = Line::new(link.shape.clone(), series(&link.shape)?, seed);
        Ok(Direction { line, silent: false, held: VecDeque::new() })
    };
    let mut directions = [direction(seed)?, direction(seed ^ u64::MAX)?];
    // A timer that is 50 µs late, the kernel's default, is late for a link of 100 µs.
    let _ = nix::sys::prctl::set_timerslack(1);
    // A wire that waits for a processor has a queue that no real one has, and a full one takes long to make up for it. One
    // without a rate could keep the processor for itself.
    if link.shape.rate.is_some() {
        // Where it is not allowed, the link is a little worse.
        let _ = become_urgent();
    }
    let start = now()?;
    let mut frame = vec![0; FRAME];
    loop {
        control::heard(told, |condition| adopt(condition, &taps, &mut directions))?;
        for (from, direction) in directions.iter_mut().enumerate() {
            direction.take_in(&taps[from], &mut frame, start)?;
            direction.let_out(&taps[1 - from])?;
        }
        let next = directions.iter().filter_map(Direction::next).min();
        wait(&taps, told, next)?;
    }
}

/// The recording that a shape names.
fn series(shape: &Shape) -> Result<Option<Series>> {
    let read = |path: &std::path::PathBuf| -> Result<Series> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        text.parse().map_err(|why: String| anyhow::anyhow!("{}: {why}", path.display()))
    };
    shape.series.as_ref().map(read).transpose()
}

/// From now on the link is like this.
fn adopt(condition: Condition, taps: &[File], directions: &mut [Direction; 2]) -> Result<()> {
    let recordings = [series(&condition.lanes[0].shape)?, series(&condition.lanes[1].shape)?];
    let cut = condition.cut.is_some();
    for tap in taps {
        door::carrier(tap, !cut)?;
    }
    for ((direction, lane), series) in directions.iter_mut().zip(condition.lanes).zip(recordings) {
        direction.become_like(lane, series, cut);
    }
    Ok(())
}

struct Direction {
    line: Line,
    /// Nothing passes, and nobody is told.
    silent: bool,
    /// Frames on their way, with their time of arrival; in order, since a line keeps it.
    held: VecDeque<(u64, Box<[u8]>)>,
}

impl Direction {
    fn become_like(&mut self, lane: Lane, series: Option<Series>, cut: bool) {
        self.line.reshape(lane.shape, series);
        self.silent = lane.blackhole || cut;
        if self.silent {
            self.held.clear();
        }
    }

    /// Reads what has come, up to a bound, so that the other direction gets its turn.
    fn take_in(&mut self, mut tap: &File, frame: &mut [u8], start: u64) -> Result<()> {
        for _ in 0..256 {
            let length = match tap.read(frame) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("reading a TAP"),
            };
            if self.silent {
                continue;
            }
            let now = now()?;
            match self.line.offer(length, now, now - start) {
                Fate::Arrives(at) if self.held.len() < HELD => {
                    self.held.push_back((at, frame[..length].into()))
                }
                Fate::Arrives(_) | Fate::Lost | Fate::Overflowed => {}
            }
        }
        Ok(())
    }

    fn let_out(&mut self, mut tap: &File) -> Result<()> {
        let now = now()?;
        while let Some((at, frame)) = self.held.front() {
            if *at > now {
                return Ok(());
            }
            match tap.write(frame) {
                Ok(_) => {}
                // The interface is down, or its queue is full: the frame is lost, as on a real wire.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EIO | libc::EAGAIN | libc::ENOBUFS)) => {}
                Err(error) => return Err(error).context("writing a TAP"),
            }
            self.held.pop_front();
        }
        Ok(())
    }

    fn next(&self) -> Option<u64> {
        self.held.front().map(|(at, _)| *at)
    }
}

/// Until a frame or a word comes, or `next` has come.
fn wait(taps: &[File], told: &UnixListener, next: Option<u64>) -> Result<()> {
    let waited = taps.iter().map(AsFd::as_fd).chain([told.as_fd()]);
    let mut polled: Vec<PollFd<'_>> =
        waited.map(|fd: BorrowedFd<'_>| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let left = match next {
        Some(at) => Some(TimeSpec::from_duration(Duration::from_nanos(at.saturating_sub(now()?)))),
        None => None,
    };
    match ppoll(&mut polled, left, None) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("ppoll"),
    }
}

fn now() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
