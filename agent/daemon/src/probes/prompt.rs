//! Asks the kernel for the carriers that count, again and again, on a thread of its own.
//!
//! The kernel notices at once that a carrier went, but of most interfaces it tells once a second at most
//! (`linkwatch_urgent_event` and `linkwatch_schedule_work`, net/core/link_watch.c); who asks is told. Asking takes the
//! lock of all network configuration, for which the protector must not wait.
use crate::kernel::links::{self, Link};
use crate::kernel::netlink::Netlink;
use crate::priority;
use anyhow::{Context, Result, anyhow};
use nix::sys::eventfd::EventFd;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tracing::debug;

/// How often each is asked for. A question takes some 10 µs: 0.2 % of a core for each interface.
const EVERY: Duration = Duration::from_millis(5);

pub(super) struct Prompt {
    wanted: BTreeSet<u32>,
    questions: Sender<BTreeSet<u32>>,
    answers: Receiver<Link>,
}

impl Prompt {
    /// In the network namespace of the calling thread. `wake`: of the protector.
    ///
    /// # Errors
    /// What could not be opened.
    pub(super) fn open(wake: Arc<EventFd>) -> Result<Self> {
        let asker = Netlink::open().context("cannot open a netlink socket")?;
        let (questions, asked) = channel();
        let (answer, answers) = channel();
        std::thread::Builder::new()
            .name("carriers".into())
            .spawn(move || Asker { netlink: asker, asked, answer, wake }.run())
            .context("cannot start a thread")?;
        Ok(Self { wanted: BTreeSet::new(), questions, answers })
    }

    /// From now on these interfaces, which have a carrier for all that is known, and no others.
    ///
    /// # Errors
    /// When the thread has ended.
    pub(super) fn want(&mut self, interfaces: BTreeSet<u32>) -> Result<()> {
        if interfaces == self.wanted {
            return Ok(());
        }
        self.wanted.clone_from(&interfaces);
        self.questions.send(interfaces).map_err(|_| anyhow!("the thread that asks for carriers ended"))
    }

    /// Interfaces that turned out to have none.
    pub(super) fn answers(&self) -> impl Iterator<Item = Link> {
        self.answers.try_iter()
    }
}

struct Asker {
    netlink: Netlink,
    asked: Receiver<BTreeSet<u32>>,
    answer: Sender<Link>,
    wake: Arc<EventFd>,
}

impl Asker {
    /// Until nobody asks any more.
    fn run(mut self) {
        debug!(scheduling = %priority::raise(), "carriers are asked for");
        let mut wanted = BTreeSet::new();
        loop {
            let next = match wanted.is_empty() {
                true => self.asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => self.asked.recv_timeout(EVERY),
            };
            match next {
                Ok(interfaces) => wanted = interfaces,
                Err(RecvTimeoutError::Timeout) => wanted.retain(|index| self.has_carrier(*index)),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// False, once told; the next question for it comes when it has one again.
    fn has_carrier(&mut self, index: u32) -> bool {
        match links::find_index(&mut self.netlink, index) {
            Ok(Some(link)) if link.has_carrier() => true,
            Ok(Some(link)) => {
                // Fail when the protector ends, or is awake 2^64 times over.
                let _ = self.answer.send(link);
                let _ = self.wake.write(1);
                false
            }
            // The notice of its end says all.
            Ok(None) => false,
            Err(error) => {
                debug!(index, error = %format!("{error:#}"), "its carrier was not asked for");
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::EfdFlags;

    /// The loopback interface has a carrier everywhere, and nobody has so many interfaces.
    #[test]
    fn what_has_a_carrier_is_asked_for_again_and_what_is_gone_is_not() {
        let (_questions, asked) = channel();
        let (answer, answers) = channel();
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).expect("an eventfd"));
        let mut asker = Asker { netlink: Netlink::open().expect("netlink"), asked, answer, wake };
        assert!(!asker.has_carrier(0x7fff_ffff), "there is none");
        assert_eq!(answers.try_iter().count(), 0, "of which the notice of its end tells");
        let loopback = links::find(&mut asker.netlink, "lo").expect("netlink").expect("lo");
        assert_eq!(asker.has_carrier(loopback.index), loopback.has_carrier());
        assert_eq!(answers.try_iter().count(), usize::from(!loopback.has_carrier()));
    }
}
