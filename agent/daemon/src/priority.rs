//! Puts threads that packets wait for before others, as far as the host allows.
use std::fmt;
use thread_priority::{
    Error, NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue,
    ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};

/// Real-time priority (1 to 99): before every ordinary thread, after what the kernel and audio do.
pub(crate) const REAL_TIME: u8 = 10;

/// What is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    RealTime,
    /// Ordinary, at nice −10.
    Nice,
    Ordinary,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RealTime => write!(f, "SCHED_FIFO, priority {REAL_TIME}"),
            Self::Nice => write!(f, "nice -10"),
            Self::Ordinary => write!(f, "as every thread (CAP_SYS_NICE would allow more)"),
        }
    }
}

/// Of the calling thread, which works for microseconds at a time.
pub(crate) fn raise() -> Class {
    let fifo = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    if set(REAL_TIME, fifo).is_ok() { Class::RealTime } else { prefer() }
}

/// Of the calling thread and those that it starts, which may need a processor for long: others still get some of it.
pub(crate) fn prefer() -> Class {
    let other = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
    if set(NICE, other).is_ok() { Class::Nice } else { Class::Ordinary }
}

/// The crate maps 0 to 99 onto nice 19 to −20: this is −10.
const NICE: u8 = 73;

fn set(priority: u8, policy: ThreadSchedulePolicy) -> Result<(), Error> {
    let value = ThreadPriorityValue::try_from(priority).unwrap_or(ThreadPriorityValue::MIN);
    let priority = ThreadPriority::Crossplatform(value);
    set_thread_priority_and_policy(thread_native_id(), priority, policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use thread_priority::{thread_schedule_policy_param, unix::ScheduleParams};

    #[test]
    fn the_kernel_confirms_the_class() {
        let (class, said) = std::thread::spawn(|| {
            let class = raise();
            (class, thread_schedule_policy_param(thread_native_id()).expect("a policy"))
        })
        .join()
        .expect("joined");
        let (policy, ScheduleParams { sched_priority }) = said;
        let fifo = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
        assert_eq!(class == Class::RealTime, policy == fifo, "{class}");
        assert_eq!(class == Class::RealTime, sched_priority == i32::from(REAL_TIME), "{class}");
    }

    #[test]
    fn a_preferred_thread_and_those_that_it_starts_stay_ordinary_ones() {
        let said = || thread_schedule_policy_param(thread_native_id()).expect("a policy").0;
        let nice = || rustix::process::getpriority_process(None).expect("readable");
        let begun = std::thread::spawn(move || {
            let class = prefer();
            let later = std::thread::spawn(move || (said(), nice()));
            (class, later.join().expect("joined"))
        });
        let (class, (policy, nice)) = begun.join().expect("joined");
        assert_eq!(policy, ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other), "{class}");
        assert_eq!(class == Class::Nice, nice == -10, "{class}: {nice}");
    }
}
