//! Writes captured frames as pcapng (draft-ietf-opsawg-pcapng): one interface per host and hook, a comment per packet.
use crate::failure::Failure;
use crate::show::trace::act;
use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use proto_model::NodeName;
use proto_model::trace::{Hook, Traced};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time stamps are nanoseconds (if_tsresol).
const NANOSECONDS: u8 = 9;

/// The file under way.
pub struct File {
    path: PathBuf,
    writer: PcapNgWriter<BufWriter<std::fs::File>>,
    circuit: String,
    snaplen: u16,
    interfaces: BTreeMap<(NodeName, Hook, String), u32>,
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
    /// # Errors
    /// What the file system refused.
    pub fn create(path: &Path, circuit: &str, snaplen: u16) -> Result<Self, Failure> {
        let file = std::fs::File::create(path).map_err(|why| failed(path, why))?;
        let writer = PcapNgWriter::new(BufWriter::new(file)).map_err(|why| failed(path, why))?;
        let circuit = circuit.to_owned();
        Ok(Self { path: path.to_owned(), writer, circuit, snaplen, interfaces: BTreeMap::new() })
    }

    /// # Errors
    /// What the file system refused.
    pub fn add(&mut self, node: &NodeName, packet: &Traced) -> Result<(), Failure> {
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
        };
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.snaplen.into(),
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Owned(format!("{node}/{}", packet.interface))),
                InterfaceDescriptionOption::IfDescription(Cow::Borrowed(hook)),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        self.writer.write_pcapng_block(block).map_err(|why| failed(&self.path, why))?;
        let number = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        self.interfaces.insert(key, number);
        Ok(number)
    }

    /// # Errors
    /// What the file system refused.
    pub fn finish(self) -> Result<(), Failure> {
        self.writer.into_inner().flush().map_err(|why| failed(&self.path, why))
    }
}
