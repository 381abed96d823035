//! Whether an interface has the agent's filter: what shows that an ENI's program is in place.
use super::netlink::Netlink;
use anyhow::Result;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcHandle, TcMessage};

/// Priority of our filters, fixed so that a restart finds and replaces them. "fw" in ASCII.
pub(crate) const PRIORITY: u16 = 0x6677;

/// # Errors
/// When the kernel could not be asked.
pub(crate) fn is_there(netlink: &mut Netlink, index: u32) -> Result<bool> {
    let mut message = TcMessage::default();
    message.header.index = index.cast_signed();
    message.header.parent = TcHandle { major: TcHandle::CLSACT.major, minor: TcHandle::MIN_INGRESS };
    // An interface without a clsact discipline has no filters, which the kernel says as a refusal.
    let answer =
        netlink.ask(RouteNetlinkMessage::GetTrafficFilter(message), netlink_packet_core::NLM_F_DUMP)?;
    Ok(answer.is_ok_and(|messages| messages.iter().any(is_ours)))
}

fn is_ours(message: &RouteNetlinkMessage) -> bool {
    let RouteNetlinkMessage::NewTrafficFilter(filter) = message else { return false };
    // The upper half is the priority; one without a handle only announces the chain.
    filter.header.info >> 16 == u32::from(PRIORITY) && u32::from(filter.header.handle) != 0
}
