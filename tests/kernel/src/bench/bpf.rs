//! The `bpf` system call, as far as tests and benchmarks need it: the one unsafe door of this package for BPF.
use anyhow::{Context, Result, bail};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

const MAP_LOOKUP: u32 = 1;
const MAP_UPDATE: u32 = 2;
const MAP_DELETE: u32 = 3;
const PROG_TEST_RUN: u32 = 10;
const MAP_UPDATE_BATCH: u32 = 26;

/// `BPF_F_TEST_XDP_LIVE_FRAMES`: frames go where the program's verdict sends them.
const LIVE_FRAMES: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    verdict: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    pad: u32,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub verdict: i32,
    /// The frame as the program left it; empty where it was not asked for.
    pub frame: Vec<u8>,
    /// Mean per run.
    pub took: Duration,
}

fn call<T>(command: u32, attributes: &mut T) -> io::Result<()> {
    // SAFETY: every pointer in `attributes` refers to a slice that its caller keeps alive and whose length it tells.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr() as u64
}

fn descriptor(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// # Errors
/// What the kernel says.
pub fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> Result<()> {
    let mut element =
        Element { map: descriptor(map), key: address(key), value: address(value), ..Element::default() };
    call(MAP_UPDATE, &mut element).context("bpf map update")
}

/// The value, of `size` bytes; none when the key is absent.
///
/// # Errors
/// What the kernel says.
pub fn lookup(map: BorrowedFd<'_>, key: &[u8], size: usize) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; size];
    let mut element = Element {
        map: descriptor(map),
        key: address(key),
        value: value.as_mut_ptr() as u64,
        ..Element::default()
    };
    match call(MAP_LOOKUP, &mut element) {
        Ok(()) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error).context("bpf map lookup"),
    }
}

/// False when the key was absent.
///
/// # Errors
/// What the kernel says.
pub fn delete(map: BorrowedFd<'_>, key: &[u8]) -> Result<bool> {
    let mut element = Element { map: descriptor(map), key: address(key), ..Element::default() };
    match call(MAP_DELETE, &mut element) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error).context("bpf map delete"),
    }
}

/// Many values at once: keys and values one after another.
///
/// # Errors
/// What the kernel says.
pub fn update_many(map: BorrowedFd<'_>, keys: &[u8], values: &[u8], count: usize) -> Result<()> {
    let mut batch = Batch {
        keys: address(keys),
        values: address(values),
        count: u32::try_from(count)?,
        map: descriptor(map),
        ..Batch::default()
    };
    call(MAP_UPDATE_BATCH, &mut batch).context("bpf map update batch")
}

/// Runs a program on a frame `repeat` times; `context` is a `__sk_buff` or `xdp_md`, or empty.
///
/// # Errors
/// What the kernel says.
pub fn test_run(program: BorrowedFd<'_>, frame: &[u8], context: &[u8], repeat: u32) -> Result<Ran> {
    let mut out = vec![0u8; frame.len() + 256];
    let mut run = TestRun {
        program: descriptor(program),
        data_size_in: u32::try_from(frame.len())?,
        data_size_out: u32::try_from(out.len())?,
        data_in: address(frame),
        data_out: out.as_mut_ptr() as u64,
        repeat,
        context_size_in: u32::try_from(context.len())?,
        context_in: if context.is_empty() { 0 } else { address(context) },
        ..TestRun::default()
    };
    call(PROG_TEST_RUN, &mut run).with_context(|| format!("test run on {} bytes", frame.len()))?;
    out.truncate(run.data_size_out as usize);
    Ok(Ran {
        verdict: run.verdict.cast_signed(),
        frame: out,
        took: Duration::from_nanos(u64::from(run.duration)),
    })
}

/// Has an XDP program send `repeat` frames for real, in batches as a driver would receive them on the interface in
/// `context` (an `xdp_md`).
///
/// # Errors
/// What the kernel says.
pub fn live_frames(program: BorrowedFd<'_>, frame: &[u8], context: &[u8], repeat: u32) -> Result<()> {
    let mut run = TestRun {
        program: descriptor(program),
        data_size_in: u32::try_from(frame.len())?,
        data_in: address(frame),
        repeat,
        context_size_in: u32::try_from(context.len())?,
        context_in: address(context),
        flags: LIVE_FRAMES,
        batch: 64,
        ..TestRun::default()
    };
    if context.is_empty() {
        bail!("live frames need to know the interface that they arrive on");
    }
    call(PROG_TEST_RUN, &mut run).context("live frames")
}
