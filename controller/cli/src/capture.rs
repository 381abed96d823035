//! Writes captured frames as pcapng (draft-ietf-opsawg-pcapng): one interface per host and hook, a comment per packet.
use crate::failure::Failure;
use crate::show::trace::act;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use proto_model::trace::{Hook, Traced};
use proto_model::{NodeName, Timestamp};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{BufWriter, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time stamps are nanoseconds (if_tsresol).
const NANOSECONDS: u8 = 9;

/// Hosts tell in batches. A frame is held back until one this much later is known, so that the file is in the order of time.
const HELD: Duration = Duration::from_millis(500);
/// Frames that are held back at most; beyond that the oldest are written.
const MOST: usize = 50_000;

/// By time and order of arrival.
type Held = BTreeMap<(Timestamp, u64), (NodeName, Traced)>;

/// The file under way.
pub struct File {
    path: PathBuf,
    writer: PcapNgWriter<BufWriter<std::fs::File>>,
    circuit: String,
    snaplen: u16,
    interfaces: BTreeMap<(NodeName, Hook, String), u32>,
    held: Held,
    added: u64,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("path", &self.path).finish_non_exhaustive()
    }
}

fn failed(path: &Path, why: impl Display) -> Failure {
    Failure::usage(format!("{} cannot be written: {why}", path.display()))
}

impl File {
    /// Makes it, if it is not there; what is in it stays until [`File::begin`].
    ///
    /// # Errors
    /// What the file system refused.
    pub fn open(path: &Path) -> Result<std::fs::File, Failure> {
        if path == Path::new("-") {
            let stdout = std::io::stdout().as_fd().try_clone_to_owned();
            return stdout.map(std::fs::File::from).map_err(|why| failed(path, why));
        }
        let mut how = std::fs::OpenOptions::new();
        how.write(true).create(true).truncate(false).open(path).map_err(|why| failed(path, why))
    }

    /// # Errors
    /// What the file system refused.
    pub fn begin(path: &Path, file: std::fs::File, circuit: &str, snaplen: u16) -> Result<Self, Failure> {
        // A pipe has no length.
        if file.metadata().is_ok_and(|about| about.is_file()) {
            file.set_len(0).map_err(|why| failed(path, why))?;
        }
        let writer = PcapNgWriter::new(BufWriter::new(file)).map_err(|why| failed(path, why))?;
        let circuit = circuit.to_owned();
        let (interfaces, held) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { path: path.to_owned(), writer, circuit, snaplen, interfaces, held, added: 0 })
    }

    /// # Errors
    /// What the file system refused.
    pub fn add(&mut self, node: NodeName, packet: Traced) -> Result<(), Failure> {
        self.added += 1;
        self.held.insert((packet.at, self.added), (node, packet));
        let newest = self.held.last_key_value().map_or(Timestamp(0), |((at, _), _)| *at);
        let ripe = |held: &Held| {
            let oldest = held.first_key_value().map_or(newest, |((at, _), _)| *at);
            newest.since(oldest) >= HELD || held.len() > MOST
        };
        while ripe(&self.held)
            && let Some((_, (node, packet))) = self.held.pop_first()
        {
            self.write(&node, &packet)?;
        }
        // Somebody may be looking on.
        self.writer.get_mut().flush().map_err(|why| failed(&self.path, why))
    }

    fn write(&mut self, node: &NodeName, packet: &Traced) -> Result<(), Failure> {
        let interface = self.interface(node, packet)?;
        let comment = format!("circuit {} ({}): {}", self.circuit, packet.circuit, act(packet));
        let block = EnhancedPacketBlock {
            interface_id: interface,
            timestamp: Duration::from_nanos(packet.at.0),
            original_len: packet.length,
            data: Cow::Borrowed(&packet.bytes),
            options: vec![EnhancedPacketOption::Comment(Cow::Owned(comment))],
        };
        self.writer.write_pcapng_block(block).map_err(|why| failed(&self.path, why))?;
        Ok(())
    }

    fn interface(&mut self, node: &NodeName, packet: &Traced) -> Result<u32, Failure> {
        let key = (node.clone(), packet.hook, packet.interface.clone());
        if let Some(known) = self.interfaces.get(&key) {
            return Ok(*known);
        }
        let hook = match packet.hook {
            Hook::Eni => "the workload's frame, at its interface",
            Hook::Tcx => "as it came from the underlay (traffic control)",
            Hook::Xdp => "as it came from the underlay (XDP)",
            Hook::Seal => "as it came out of encryption or decryption, a tag in place of the link layer",
        };
        self.describe(format!("{node}/{}", packet.interface), hook)?;
        let number = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        self.interfaces.insert(key, number);
        Ok(number)
    }

    fn describe(&mut self, name: String, what: &str) -> Result<(), Failure> {
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.snaplen.into(),
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Owned(name)),
                InterfaceDescriptionOption::IfDescription(Cow::Borrowed(what)),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        self.writer.write_pcapng_block(block).map_err(|why| failed(&self.path, why))?;
        Ok(())
    }

    /// # Errors
    /// What the file system refused.
    pub fn finish(mut self) -> Result<(), Failure> {
        for (node, packet) in std::mem::take(&mut self.held).into_values() {
            self.write(&node, &packet)?;
        }
        if self.interfaces.is_empty() {
            // Readers want an interface, also where there was no frame.
            self.describe("none".into(), "no frame was captured")?;
        }
        self.writer.into_inner().flush().map_err(|why| failed(&self.path, why))
    }
}
