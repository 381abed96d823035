//! Carries frames between two TAP interfaces, each at the time its line says.
use super::line::{Fate, Line};
use super::series::Series;
use crate::lab::plan::Link;
use crate::lab::{door, namespace};
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// Frames that one direction may hold: what does not fit is dropped, as by a router without memory.
const HELD: usize = 65_536;
/// The longest frame that a TAP without offloads gives.
const FRAME: usize = 65_550;

/// Carries a link's frames until the process ends; `namespaces` are those of its two ends.
pub fn run(link: &Link, namespaces: [&str; 2], seed: u64) -> Result<()> {
    let series = link.shape.series.as_ref().map(|path| -> Result<Series> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        text.parse().map_err(|why: String| anyhow::anyhow!("{}: {why}", path.display()))
    });
    let series = series.transpose()?;
    let mut taps = Vec::new();
    for (end, name) in link.ends.iter().zip(namespaces) {
        taps.push(namespace::inside(name, || door::tap(&end.interface, false))?);
    }
    let direction =
        |seed| Direction { line: Line::new(link.shape.clone(), series.clone(), seed), held: VecDeque::new() };
    let [mut there, mut back] = [direction(seed), direction(seed ^ u64::MAX)];
    // A timer that is 50 µs late, the kernel's default, is late for a link of 100 µs.
    let _ = nix::sys::prctl::set_timerslack(1);
    let start = now()?;
    let mut frame = vec![0; FRAME];
    loop {
        for (from, to, direction) in [(0, 1, &mut there), (1, 0, &mut back)] {
            direction.take_in(&taps[from], &mut frame, start)?;
            direction.let_out(&taps[to])?;
        }
        let next = [there.next(), back.next()].into_iter().flatten().min();
        wait(&taps, next)?;
    }
}

struct Direction {
    line: Line,
    /// Frames on their way, with their time of arrival; in order, since a line keeps it.
    held: VecDeque<(u64, Box<[u8]>)>,
}

impl Direction {
    /// Reads what has come, up to a bound, so that the other direction gets its turn.
    fn take_in(&mut self, mut tap: &File, frame: &mut [u8], start: u64) -> Result<()> {
        for _ in 0..256 {
            let length = match tap.read(frame) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("reading a TAP"),
            };
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

/// Until a frame comes or `next` has come.
fn wait(taps: &[File], next: Option<u64>) -> Result<()> {
    let mut polled: Vec<PollFd<'_>> =
        taps.iter().map(|tap| PollFd::new(tap.as_fd(), PollFlags::POLLIN)).collect();
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
