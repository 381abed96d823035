//! Asks the kernel which interfaces take frames from XDP: where one does not, it loses them without a word.
//!
//! Spoken in bytes, because the family is small and has no crate: a header, the generic header, and attributes
//! (`linux/genetlink.h`, `linux/netdev.h`).
use super::links::Link;
use anyhow::{Context, Result, anyhow, bail};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

/// A socket and the number of the family "netdev", which kernels since 6.3 have.
#[derive(Debug)]
pub(crate) struct Features {
    socket: Socket,
    family: u16,
}

const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const GET_DEVICE: u8 = 1;
const DEVICE_INDEX: u16 = 1;
const DEVICE_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_NDO_XMIT`: redirected frames are taken now. Drivers say so only while they are ready for them.
const TAKES: u64 = 1 << 2;
/// `NETDEV_XDP_ACT_NDO_XMIT_SG`: also such as lie in several buffers.
const TAKES_PARTS: u64 = 1 << 6;

const ETHERNET: u32 = 14;
/// Frames up to an ordinary MTU lie in one buffer.
const ONE_BUFFER: u32 = ETHERNET + 1500;
/// Length, type, flags, sequence, port; then command, version, reserved.
const HEADERS: usize = 16 + 4;

impl Features {
    /// For the network namespace of this thread.
    ///
    /// # Errors
    /// A kernel that does not know the family, or has no socket left.
    pub(crate) fn open() -> Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let answer = ask(&socket, CONTROL, GET_FAMILY, FAMILY_NAME, b"netdev\0")
            .context("the kernel does not tell what interfaces can do with XDP (6.3 and later do)")?;
        let id = attribute(&answer, FAMILY_ID).and_then(|value| value.first_chunk::<2>());
        let family = u16::from_ne_bytes(*id.ok_or_else(|| anyhow!("the family netdev has no number"))?);
        Ok(Self { socket, family })
    }

    /// Bytes of the longest frame, Ethernet header included, that XDP may put out there now; 0: none.
    ///
    /// # Errors
    /// When the kernel refused to tell.
    pub(crate) fn longest(&self, link: &Link) -> Result<u16> {
        let index = link.index.to_ne_bytes();
        let answer = ask(&self.socket, self.family, GET_DEVICE, DEVICE_INDEX, &index)
            .with_context(|| format!("asking what {} can do with XDP", link.name))?;
        let features = attribute(&answer, DEVICE_FEATURES).and_then(|value| value.first_chunk::<8>());
        Ok(longest(features.map_or(0, |raw| u64::from_ne_bytes(*raw)), link.mtu))
    }
}

fn longest(features: u64, mtu: u32) -> u16 {
    if features & TAKES == 0 {
        return 0;
    }
    let fits = mtu.saturating_add(ETHERNET);
    let length = if features & TAKES_PARTS == 0 { fits.min(ONE_BUFFER) } else { fits };
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// The attributes of the answer to a question with one attribute.
fn ask(socket: &Socket, family: u16, command: u8, kind: u16, value: &[u8]) -> Result<Vec<u8>> {
    const REQUEST: u16 = 1;
    let attribute = 4 + value.len();
    let length = HEADERS + attribute.next_multiple_of(4);
    let mut question = Vec::with_capacity(length);
    question.extend(u32::try_from(length)?.to_ne_bytes());
    question.extend(family.to_ne_bytes());
    question.extend(REQUEST.to_ne_bytes());
    question.extend([0; 8]);
    question.extend([command, 1, 0, 0]);
    question.extend(u16::try_from(attribute)?.to_ne_bytes());
    question.extend(kind.to_ne_bytes());
    question.extend(value);
    question.resize(length, 0);
    socket.send(&question, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    attributes(&answer)
}

fn attributes(answer: &[u8]) -> Result<Vec<u8>> {
    const ERROR: u16 = 2;
    let word = |at: usize| answer.get(at..at + 4).and_then(|raw| raw.first_chunk::<4>());
    let kind = answer.get(4..6).and_then(|raw| raw.first_chunk::<2>()).map(|raw| u16::from_ne_bytes(*raw));
    if kind == Some(ERROR) {
        let code = word(16).map_or(0, |raw| i32::from_ne_bytes(*raw));
        return Err(std::io::Error::from_raw_os_error(-code).into());
    }
    let Some(attributes) = answer.get(HEADERS..) else { bail!("an answer of {} bytes", answer.len()) };
    Ok(attributes.to_vec())
}

fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some(head) = attributes.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([head[2], head[3]]) & 0x3fff == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_goes_by_xdp_only_where_it_is_taken_and_fits() {
        assert_eq!(longest(0, 1500), 0, "a VLAN, an interface without a program");
        assert_eq!(longest(TAKES, 1400), 1414);
        assert_eq!(longest(TAKES, 9000), 1514, "a jumbo frame may lie in several buffers");
        assert_eq!(longest(TAKES | TAKES_PARTS, 9000), 9014);
        assert_eq!(longest(TAKES | TAKES_PARTS, 65_536), u16::MAX);
        assert_eq!(longest(TAKES_PARTS, 1500), 0);
    }

    #[test]
    fn this_kernel_says_that_the_loopback_takes_none() {
        let links = super::super::links::find_index(&mut super::super::netlink::Netlink::open().unwrap(), 1);
        let loopback = links.unwrap().expect("the loopback");
        assert_eq!(Features::open().unwrap().longest(&loopback).unwrap(), 0);
    }

    #[test]
    fn cut_answers_do_not_confuse_the_reader() {
        for length in 0..48 {
            let cut = vec![0x02; length];
            let _ = attributes(&cut).map(|rest| attribute(&rest, FAMILY_ID).map(<[u8]>::len));
        }
        assert_eq!(attribute(&[8, 0, 1, 0, 7, 0, 0, 0], 1), Some(&[7, 0, 0, 0][..]));
        assert_eq!(attribute(&[9, 0, 1, 0, 7, 0, 0, 0], 1), None);
    }
}
