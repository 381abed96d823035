//! Who else uses a UDP port here: its tunnels would be taken for the fabric's, and refused as unknown labels.
//!
//! The data plane itself opens no socket, so whoever holds the port is another.
use super::netlink::Netlink;
use anyhow::{Context, Result};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};

/// Their names, each as a noun phrase.
///
/// # Errors
/// When the kernel could not be asked.
pub(crate) fn holders(port: u16) -> Result<Vec<String>> {
    let mut netlink = Netlink::open().context("cannot open a netlink socket")?;
    let messages = netlink.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let tunnels: Vec<String> = messages.iter().filter_map(|message| tunnel(message, port)).collect();
    // The kernel's own socket of such an interface is in the tables too.
    if !tunnels.is_empty() {
        return Ok(tunnels);
    }
    let mut sockets = Vec::new();
    for table in ["udp", "udp6"] {
        // Without IPv6 there is no second table.
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        sockets.extend(text.lines().filter_map(|line| socket(line, port, table)));
    }
    sockets.dedup();
    Ok(sockets)
}

fn tunnel(message: &RouteNetlinkMessage, port: u16) -> Option<String> {
    let RouteNetlinkMessage::NewLink(link) = message else { return None };
    let infos = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    })?;
    let held = infos.iter().any(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(options)) => options.contains(&InfoVxlan::Port(port)),
        _ => false,
    });
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    })?;
    held.then(|| format!("the vxlan interface {name}"))
}

/// A line of the kernel's table: number, local address and port, remote, state, … and the inode at last. A socket on
/// the loopback disturbs nobody.
fn socket(line: &str, port: u16, table: &str) -> Option<String> {
    let mut fields = line.split_whitespace();
    let (address, found) = fields.nth(1)?.split_once(':')?;
    let loopback = if address.len() == 8 {
        address.ends_with("7F")
    } else {
        address == "00000000000000000000000001000000"
    };
    let inode = fields.nth(7)?;
    (u16::from_str_radix(found, 16) == Ok(port) && !loopback).then(|| match inode {
        "0" => format!("a socket of the kernel ({table})"),
        inode => format!("a {table} socket (inode {inode}; `ss -ulpn` names its process)"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernels_table_are_read() {
        let of = |local: &str, inode: &str| {
            format!(
                "  7: {local} 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 {inode} 2 0 0"
            )
        };
        let found = socket(&of("00000000:12B5", "4711"), 4789, "udp").expect("it holds the port");
        assert!(found.contains("4711"), "{found}");
        assert!(socket(&of("00000000:12B5", "0"), 4789, "udp").expect("held").contains("kernel"));
        assert_eq!(socket(&of("00000000:12B6", "4711"), 4789, "udp"), None, "another port");
        assert_eq!(socket(&of("0100007F:12B5", "4711"), 4789, "udp"), None, "the loopback");
        assert_eq!(socket("  sl  local_address rem_address   st", 4789, "udp"), None, "the head line");
    }

    #[test]
    fn a_bound_socket_is_found() {
        let bound = std::net::UdpSocket::bind("0.0.0.0:0").expect("bound");
        let port = bound.local_addr().expect("an address").port();
        assert_eq!(holders(port).expect("asked").len(), 1);
        drop(bound);
        assert_eq!(holders(port).expect("asked"), Vec::<String>::new());
    }
}
