//! Whether an interface has the agent's filter: what shows that an ENI's program is in place, and what must be taken
//! away where programs hang in filters.
use super::links::{self, Link};
use super::netlink::Netlink;
use super::programs;
use anyhow::Result;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption};
use tracing::debug;

/// Priority of our filters, fixed so that a restart finds and replaces them. "fw" in ASCII.
pub(crate) const PRIORITY: u16 = 0x6677;

/// # Errors
/// When the kernel could not be asked.
pub(crate) fn is_there(netlink: &mut Netlink, index: u32) -> Result<bool> {
    Ok(list(netlink, index, TcHandle::MIN_INGRESS)?.iter().any(is_ours))
}

/// Takes our filters off the interfaces for which `which` holds, and the clsact discipline with them where it is empty
/// then; says which they were.
///
/// # Errors
/// When the kernel could not be asked.
pub(crate) fn leave(netlink: &mut Netlink, which: impl Fn(&Link) -> bool) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for link in links::all(netlink)?.into_iter().filter(which) {
        if !list(netlink, link.index, TcHandle::MIN_INGRESS)?
            .iter()
            .any(|filter| is_ours(filter) && is_named(filter))
        {
            continue;
        }
        programs::detach_clsact(&link.name);
        let empty = list(netlink, link.index, TcHandle::MIN_INGRESS)?.is_empty()
            && list(netlink, link.index, TcHandle::MIN_EGRESS)?.is_empty();
        if empty {
            remove_clsact(netlink, &link)?;
        }
        left.push(link.name);
    }
    Ok(left)
}

fn remove_clsact(netlink: &mut Netlink, link: &Link) -> Result<()> {
    let mut message = TcMessage::default();
    message.header.index = link.index.cast_signed();
    message.header.parent = TcHandle::CLSACT;
    message.header.handle = TcHandle { major: TcHandle::CLSACT.major, minor: 0 };
    if let Err(refused) = netlink.ask(RouteNetlinkMessage::DelQueueDiscipline(message), 0)? {
        debug!(interface = %link.name, %refused, "clsact stays");
    }
    Ok(())
}

/// An interface without a clsact discipline has no filters, which the kernel says as a refusal.
fn list(netlink: &mut Netlink, index: u32, side: u16) -> Result<Vec<RouteNetlinkMessage>> {
    let mut message = TcMessage::default();
    message.header.index = index.cast_signed();
    message.header.parent = TcHandle { major: TcHandle::CLSACT.major, minor: side };
    let answer =
        netlink.ask(RouteNetlinkMessage::GetTrafficFilter(message), netlink_packet_core::NLM_F_DUMP)?;
    Ok(answer.unwrap_or_default())
}

fn is_ours(message: &RouteNetlinkMessage) -> bool {
    let RouteNetlinkMessage::NewTrafficFilter(filter) = message else { return false };
    // The upper half is the priority; one without a handle only announces the chain.
    filter.header.info >> 16 == u32::from(PRIORITY) && u32::from(filter.header.handle) != 0
}

/// Another's filter may have our priority by accident.
fn is_named(message: &RouteNetlinkMessage) -> bool {
    let RouteNetlinkMessage::NewTrafficFilter(filter) = message else { return false };
    let ours = |option: &TcOption| match option {
        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => {
            [ebpf_abi::maps::name::UNDERLAY_INGRESS, ebpf_abi::maps::name::ENI_INGRESS]
                .iter()
                .any(|program| name.starts_with(program))
        }
        _ => false,
    };
    filter.attributes.iter().any(|attribute| match attribute {
        TcAttribute::Options(options) => options.iter().any(ours),
        _ => false,
    })
}
