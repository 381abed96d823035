//! Lets a thread that plays a wire, or that measures, go before what is measured.
use anyhow::{Context, Result, anyhow};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// Real-time priority (1 to 99): after nothing of ours; a wire does not wait for a host.
const PRIORITY: u8 = 20;

/// The calling thread runs as soon as it has something to do, from now on (`SCHED_FIFO`).
///
/// # Errors
/// The host does not allow it (`CAP_SYS_NICE`).
pub fn become_urgent() -> Result<()> {
    let fifo = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let value = ThreadPriorityValue::try_from(PRIORITY).map_err(|why| anyhow!("{why}"))?;
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(value), fifo)
        .map_err(|why| anyhow!("{why:?}"))
        .context("SCHED_FIFO for what measures (CAP_SYS_NICE)")
}
