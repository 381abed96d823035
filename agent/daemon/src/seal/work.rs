//! Starts and stops the two threads of encryption, on the interfaces or on the sockets of a successor.
use super::former::Former;
use super::frames::Frames;
use super::table::Table;
use super::worker::{self, Devices};
use anyhow::{Context, Result};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

pub(super) struct Work {
    devices: Arc<Devices>,
    threads: Vec<JoinHandle<()>>,
    ended: Arc<Ended>,
    /// Frames come from a successor.
    yielded: bool,
}

/// How many threads have ended, for whatever reason.
struct Ended {
    count: AtomicUsize,
    news: EventFd,
}

/// Rings when its thread ends, also by a panic.
struct Bell(Arc<Ended>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.count.fetch_add(1, Ordering::SeqCst);
        let _ = self.0.news.write(1);
    }
}

impl Work {
    /// `interfaces`: plain and cipher.
    ///
    /// # Errors
    /// When there can be no more threads or file descriptors.
    pub(super) fn start(
        interfaces: [OwnedFd; 2],
        former: Option<Arc<Former>>,
        table: &Table,
    ) -> Result<Self> {
        let sources = [interfaces[0].try_clone()?, interfaces[1].try_clone()?];
        Self::with(sources, interfaces, former, table)
    }

    fn with(
        sources: [OwnedFd; 2],
        interfaces: [OwnedFd; 2],
        former: Option<Arc<Former>>,
        table: &Table,
    ) -> Result<Self> {
        let event = || EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let (stop, ended) = (event()?, Arc::new(Ended { count: AtomicUsize::new(0), news: event()? }));
        let (sources, interfaces) = (sources.map(Frames::over), interfaces.map(Frames::over));
        let [from_plain, from_cipher] = sources;
        let [plain, cipher] = interfaces;
        let devices = Arc::new(Devices { from_plain, from_cipher, plain, cipher, stop, former });
        let mut work = Self { devices, threads: Vec::new(), ended, yielded: false };
        for (name, task) in [
            ("encrypt", worker::encrypt as fn(&Devices, &Table)),
            ("decrypt", worker::decrypt as fn(&Devices, &Table)),
        ] {
            let (devices, table, bell) = (work.devices.clone(), table.clone(), Bell(work.ended.clone()));
            let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
                let _bell = bell;
                task(&devices, &table);
            });
            work.threads.push(thread.context("cannot start a thread")?);
        }
        Ok(work)
    }

    /// The same with what a successor passes on.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(super) fn yielded(mut self, sockets: [OwnedFd; 2], table: &Table) -> Result<Self> {
        self.stop();
        for socket in &sockets {
            rustix::io::ioctl_fionbio(socket, true)?;
        }
        let interfaces = self.interfaces();
        let interfaces = [interfaces[0].try_clone_to_owned()?, interfaces[1].try_clone_to_owned()?];
        let mut work = Self::with(sockets, interfaces, self.devices.former.clone(), table)?;
        work.yielded = true;
        Ok(work)
    }

    /// Whether it is over: an interface is gone, or the successor passes nothing on any more and all is done.
    pub(super) fn has_ended(&self) -> bool {
        let ended = self.ended.count.load(Ordering::SeqCst);
        if self.yielded { ended == self.threads.len() } else { ended > 0 }
    }

    /// Readable when one of its threads has ended.
    pub(super) fn news(&self) -> BorrowedFd<'_> {
        // It counts on; whoever looks wants to know each time.
        let _ = self.ended.news.read();
        self.ended.news.as_fd()
    }

    pub(super) fn interfaces(&self) -> [BorrowedFd<'_>; 2] {
        [self.devices.plain.as_fd(), self.devices.cipher.as_fd()]
    }

    pub(super) fn former(&self) -> Option<&Former> {
        self.devices.former()
    }

    fn stop(&mut self) {
        // A full counter wakes them as well.
        let _ = self.devices.stop.write(1);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Timing;
    use super::super::keys::Keys;
    use super::*;
    use agent_core::kernel_state::Seal;
    use agent_core::seal::virtio::Header;
    use agent_core::seal::{HEAD, message};
    use ebpf_abi::seal::Tag;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};
    use zerocopy::IntoBytes;

    const CIRCUIT: u64 = 7;

    fn sockets() -> [OwnedFd; 2] {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("sockets")
            .into()
    }

    /// A host whose interfaces are sockets, of which the test has the other ends.
    struct Host {
        table: Table,
        keys: Keys,
        /// The sealer's ends.
        interfaces: [OwnedFd; 2],
        plain: OwnedFd,
        cipher: OwnedFd,
        sent: u32,
        delivered: Vec<u32>,
    }

    impl Host {
        fn new() -> Self {
            let ([plain, a], [cipher, b]) = (sockets(), sockets());
            for socket in [&plain, &cipher, &a, &b] {
                rustix::io::ioctl_fionbio(socket, true).expect("does not wait");
            }
            let keys = Keys::generate().expect("random numbers");
            Self {
                table: Table::default(),
                keys,
                interfaces: [a, b],
                plain,
                cipher,
                sent: 0,
                delivered: Vec::new(),
            }
        }

        fn interfaces(&self) -> [OwnedFd; 2] {
            self.interfaces.each_ref().map(|one| one.try_clone().expect("a copy"))
        }

        fn work(&self, former: Option<Arc<Former>>, table: &Table) -> Work {
            Work::start(self.interfaces(), former, table).expect("started")
        }

        fn put(&self, table: &Table, far: &Host) {
            let seal = Seal { circuit: CIRCUIT, keys: far.keys.public(), slot: 9, mtu: 1_390 };
            table.put(&seal, &self.keys, Timing::default());
        }

        /// A packet of the workload, with a number.
        fn send(&mut self) {
            let mut packet = [0; 32];
            (packet[0], packet[3], packet[8], packet[9]) = (0x45, 32, 64, 17);
            packet[28..].copy_from_slice(&self.sent.to_be_bytes());
            self.sent += 1;
            let tag = Tag::packet(9, CIRCUIT, 0x0800);
            let frame = [Header::default().as_bytes(), tag.as_bytes(), &packet].concat();
            rustix::io::write(&self.plain, &frame).expect("there is room");
        }

        fn read(socket: &OwnedFd) -> Option<Vec<u8>> {
            let mut frame = vec![0; 70_000];
            let length = rustix::io::read(socket, &mut frame).ok()?;
            frame.truncate(length);
            Some(frame)
        }

        /// What the programs would do: messages go to the other host, packets to the workload.
        fn pump(&mut self, far: &Host) {
            while let Some(mut frame) = Self::read(&self.cipher) {
                let (header, tag, packet) = message::split(&mut frame).expect("long enough");
                let messages = &packet[28..];
                let size = if header.segment > 0 { usize::from(header.segment) } else { messages.len() };
                for bytes in messages.chunks(size) {
                    rustix::io::write(&far.cipher, &message::bare(&tag, bytes)).expect("there is room");
                }
            }
            while let Some(frame) = Self::read(&self.plain) {
                let packet = &frame[HEAD..];
                // Of two handshakes that cross, one is refused; a packet that is refused is missed in the end.
                if packet.is_empty() {
                    continue;
                }
                self.delivered.push(u32::from_be_bytes(packet[28..32].try_into().expect("a number")));
            }
        }
    }

    fn until(hosts: &mut [Host; 2], what: &str, so: impl Fn(&[Host; 2]) -> bool, sending: bool) {
        let begun = Instant::now();
        while !so(hosts) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}: never");
            let [a, b] = hosts;
            if sending {
                a.send();
                b.send();
            }
            a.pump(b);
            b.pump(a);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn all_arrived([a, b]: &[Host; 2]) -> bool {
        (a.delivered.len(), b.delivered.len()) == (b.sent as usize, a.sent as usize)
    }

    #[test]
    fn a_sealer_that_is_relieved_loses_no_packet_and_ends() {
        let mut hosts = [Host::new(), Host::new()];
        let [a, b] = &hosts;
        a.put(&a.table, b);
        b.put(&b.table, a);
        let (former, far) = (a.work(None, &a.table), b.work(None, &b.table));
        hosts.iter_mut().for_each(Host::send);
        until(&mut hosts, "the first packets arrive", all_arrived, false);

        // Both read for a while, and the new one knows no circuit yet.
        let ([plain, for_plain], [cipher, for_cipher]) = (sockets(), sockets());
        let relieving = Arc::new(Former::new([plain, cipher], BTreeSet::from([CIRCUIT])).expect("sockets"));
        let table = Table::default();
        let new = hosts[0].work(Some(relieving.clone()), &table);
        (0..20).for_each(|_| hosts.iter_mut().for_each(Host::send));
        hosts[0].table.get(CIRCUIT).expect("a circuit").lock().retire();
        let former = former.yielded([for_plain, for_cipher], &hosts[0].table).expect("yielded");
        until(&mut hosts, "packets pass the former one", all_arrived, false);
        assert!(relieving.is_there() && !table.has(CIRCUIT) && !former.has_ended());

        hosts[0].put(&table, &hosts[1]);
        until(&mut hosts, "the former one is relieved", |_| !relieving.is_there(), true);
        until(&mut hosts, "all packets arrive", all_arrived, false);
        until(&mut hosts, "the former one ends", |_| former.has_ended(), true);
        until(&mut hosts, "all packets arrive", all_arrived, false);
        assert!(table.has(CIRCUIT) && !new.has_ended() && !far.has_ended());
        for host in &mut hosts {
            host.delivered.sort_unstable();
            host.delivered.dedup();
        }
        assert!(all_arrived(&hosts), "each once");
    }

    #[test]
    fn a_relieved_sealer_that_dies_is_missed_once_only() {
        let hosts = [Host::new(), Host::new()];
        let table = Table::default();
        let ([plain, for_plain], [cipher, for_cipher]) = (sockets(), sockets());
        let former = Former::new([plain, cipher], BTreeSet::from([CIRCUIT])).expect("sockets");
        hosts[0].put(&table, &hosts[1]);
        assert!(former.keeps(CIRCUIT, &table), "there is no other session yet");
        drop((for_plain, for_cipher));
        former.packet(&[0; 100]);
        assert!(!former.is_there());
        assert_eq!(former.passing(), BTreeSet::new());
    }

    #[test]
    fn a_relieved_sealer_that_takes_nothing_is_given_up() {
        let ([plain, for_plain], [cipher, for_cipher]) = (sockets(), sockets());
        let former = Former::new([plain, cipher], BTreeSet::from([CIRCUIT])).expect("sockets");
        // Longer than any frame: it alone is lost.
        former.packet(&vec![0; 16 << 20]);
        assert!(former.is_there());
        let mut passed = 0;
        while former.is_there() {
            former.packet(&[0; 10_000]);
            passed += 1;
            assert!(passed < 100_000, "nobody reads, and all is taken");
        }
        assert!(passed > 1, "there was room for some");
        drop((for_plain, for_cipher));
    }
}
