//! Single packets: what would become of one, and following those that pass.
use crate::text::{MINUTE, Span, span};
use clap::{Args, ValueHint};
use proto_model::NodeName;
use proto_model::query::PACKET;
use proto_model::request::CircuitRef;
use proto_model::trace::{Filter, SNAPLEN};
use proto_model::trail::{Whom, Wonder};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "\
Every host on the packet's way runs its live programs over its live maps, without any effect, and says what they decide.
Exit codes: 0 it passes; 6 it is dropped; 3 a host could not be asked.")]
pub struct Why {
    /// Who opens the connection: a resource, or one of its fabric addresses
    #[arg(value_name = "SRC")]
    pub source: Whom,
    /// To whom
    #[arg(value_name = "DST")]
    pub destination: Whom,
    /// tcp, udp, icmp, or the number of an IP protocol
    #[arg(value_parser = protocol)]
    pub protocol: u8,
    /// Destination port of tcp and udp
    pub port: Option<u16>,
    /// Port of the opener, or identifier of an echo: names a connection that is open, or may be
    #[arg(long, value_name = "PORT", default_value_t = 40_000)]
    pub source_port: u16,
    /// The packet that DST answers with, instead of the one that opens
    #[arg(long)]
    pub reverse: bool,
    /// IPv6, where neither SRC nor DST is an address
    #[arg(long, short = '6')]
    pub ipv6: bool,
    /// Bytes of the IP packet, up to 1900; without it, a short one
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1..=i64::from(PACKET)))]
    pub size: Option<u16>,
}

impl Why {
    /// # Errors
    /// A port that is missing, or is one too many.
    pub fn wonder(&self) -> Result<Wonder, String> {
        let port = match (self.protocol, self.port) {
            (6 | 17, None) => {
                return Err("tcp and udp need a port, as in: foreweave why web db tcp 5432".into());
            }
            (6 | 17, Some(port)) => port,
            (_, None) => 0,
            (_, Some(port)) => return Err(format!("{port}: only tcp and udp have ports")),
        };
        Ok(Wonder {
            source: self.source.clone(),
            destination: self.destination.clone(),
            protocol: self.protocol,
            port,
            source_port: self.source_port,
            answer: self.reverse,
            v6: self.ipv6,
            size: self.size,
        })
    }
}

/// ICMP is 1 in both families.
fn protocol(text: &str) -> Result<u8, String> {
    match text {
        "icmp" => Ok(1),
        "tcp" => Ok(6),
        "udp" => Ok(17),
        "58" => Err("58 is ICMP of IPv6; write icmp, and -6 for IPv6".into()),
        other => {
            other.parse().ok().filter(|number| *number != 0).ok_or_else(|| {
                format!("\"{other}\" is not tcp, udp, icmp or a protocol number from 1 to 255")
            })
        }
    }
}

/// Which packets.
#[derive(Debug, Args)]
pub struct Which {
    /// Only these: tcp, udp, icmp, or the number of an IP protocol
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    pub proto: Option<u8>,
    /// Only from or to this port of tcp or udp
    #[arg(long)]
    pub port: Option<u16>,
    /// Only at these hosts; without it, at all that the circuit crosses
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    pub at: Vec<NodeName>,
    /// How long, from 1s to 10m
    #[arg(long = "for", value_name = "TIME", value_parser = span(1, 10 * MINUTE), default_value = "30s")]
    pub lasts: Span,
}

impl Which {
    pub fn filter(&self) -> Filter {
        Filter { protocol: self.proto, port: self.port }
    }
}

#[derive(Debug, Args)]
pub struct Trace {
    /// Name of the circuit, or its number as c42
    pub circuit: CircuitRef,
    #[command(flatten)]
    pub which: Which,
    /// End after so many packets; with --json, after so many records of hosts
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The file has one interface per host and hook: at the workload's interface the inner frame, on the underlay the frame as on
the wire, outer headers first. A comment at each packet says what the host did with it. Captures show what users send: this
needs the role of an operator, and the controller and the hosts log it.")]
pub struct Capture {
    /// Name of the circuit, or its number as c42
    pub circuit: CircuitRef,
    #[command(flatten)]
    pub which: Which,
    /// Bytes of each frame, up to 256
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=i64::from(SNAPLEN)))]
    pub snaplen: u16,
    /// End after so many frames
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// The pcapng file to write, which is replaced; - is the standard output, for `| wireshark -k -i -`
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub write: PathBuf,
}
