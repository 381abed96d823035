//! Keeps the neighbours towards watched next hops resolved, and notices interfaces that others remove or change.
use super::Shared;
use super::features::Features;
use super::links;
use super::netlink::Netlink;
use super::routes::{self, Way};
use agent_core::kernel_state::{HostSide, LinkLayer};
use anyhow::{Context, Result};
use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_core::{NLM_F_CREATE, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteType;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{AsyncSocket, SocketAddr};
use rtnetlink::MulticastGroup;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, info, warn};

/// What is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Watch { local: IpAddr, remote: IpAddr },
    Unwatch { local: IpAddr, remote: IpAddr },
}

/// What it notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Neighbour {
        local: IpAddr,
        remote: IpAddr,
        link: Option<LinkLayer>,
    },
    Vanished(HostSide),
    /// Something about an interface that is none of the fabric's, or its addresses.
    Underlays,
}

/// Receive buffer for the kernel's notifications, bytes: thousands of interfaces may go at once.
const RECEIVE: libc::c_int = 4 << 20;
/// Neighbours that are not resolved are asked for this often.
const RETRY: Duration = Duration::from_secs(1);
/// Resolved ones are confirmed this often: packets of the data plane do not tell the kernel that they are in use.
const CONFIRM: u32 = 15;
/// After a change of routes or interfaces, more of them are awaited this long before everything is looked at again.
const SETTLE: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Watcher {
    netlink: Netlink,
    /// None: this kernel cannot be asked; transit is by tcx.
    features: Option<Features>,
    shared: Shared,
    watched: BTreeMap<(IpAddr, IpAddr), Watched>,
    notices: mpsc::Sender<Notice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watched {
    way: Option<Way>,
    link: Option<LinkLayer>,
}

type Events = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// Runs until the asking side is gone. Belongs to the network namespace of the thread that runs it.
///
/// # Errors
/// When the kernel's notifications cannot be had.
pub(crate) async fn run(
    mut asks: mpsc::UnboundedReceiver<Ask>,
    notices: mpsc::Sender<Notice>,
    shared: Shared,
) -> Result<()> {
    use MulticastGroup::{Ipv4Ifaddr, Ipv4Route, Ipv6Ifaddr, Ipv6Route, Link, Neigh};
    let groups = [Link, Neigh, Ipv4Ifaddr, Ipv6Ifaddr, Ipv4Route, Ipv6Route];
    let (mut connection, _handle, mut events): (_, _, Events) = rtnetlink::new_multicast_connection(&groups)
        .context("cannot subscribe to the kernel's notifications")?;
    // As much as the host allows; what does not fit is noticed and looked up.
    if let Err(error) = connection.socket_mut().socket_mut().set_rx_buf_sz(RECEIVE) {
        debug!(%error, "receive buffer not raised");
    }
    tokio::spawn(connection);
    let netlink = Netlink::open().context("cannot open a netlink socket")?;
    let features = Features::open().inspect_err(|error| info!("{error:#}: transit by tcx")).ok();
    let mut watcher = Watcher { netlink, features, shared, watched: BTreeMap::new(), notices };
    let mut ticks = interval(RETRY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0u32;
    let mut unsettled = Unsettled::default();
    loop {
        tokio::select! {
            ask = asks.recv() => match ask {
                Some(ask) => watcher.asked(ask).await,
                None => return Ok(()),
            },
            event = events.next() => match event {
                Some((message, _)) => watcher.happened(message, &mut unsettled).await,
                None => anyhow::bail!("the kernel's notifications ended"),
            },
            _ = ticks.tick() => {
                count = count.wrapping_add(1);
                watcher.look(|watched| watched.link.is_none() || count.is_multiple_of(CONFIRM)).await;
            }
            () = sleep_until(unsettled.until.unwrap_or_else(Instant::now)), if unsettled.until.is_some() => {
                watcher.settled(std::mem::take(&mut unsettled)).await;
            }
        }
    }
}

/// Changes that wait for their neighbours.
#[derive(Debug, Default)]
struct Unsettled {
    until: Option<Instant>,
    routes: bool,
    underlays: bool,
    /// Interfaces of the fabric may have gone.
    enis: bool,
}

impl Unsettled {
    fn wait(&mut self) {
        self.until.get_or_insert_with(|| Instant::now() + SETTLE);
    }
}

impl Watcher {
    async fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Watch { local, remote } => {
                let seen = self.resolve(local, remote);
                self.watched.insert((local, remote), seen);
                self.tell(Notice::Neighbour { local, remote, link: seen.link }).await;
            }
            Ask::Unwatch { local, remote } => {
                self.watched.remove(&(local, remote));
            }
        }
    }

    async fn happened(&mut self, message: NetlinkMessage<RouteNetlinkMessage>, unsettled: &mut Unsettled) {
        let message = match message.payload {
            NetlinkPayload::InnerMessage(message) => message,
            // The socket was full and what came then is lost: only looking at everything tells what it was.
            NetlinkPayload::Overrun(_) => {
                warn!("the kernel's notifications came too fast; everything is looked at again");
                *unsettled = Unsettled { routes: true, underlays: true, enis: true, until: unsettled.until };
                unsettled.wait();
                return;
            }
            _ => return,
        };
        match message {
            RouteNetlinkMessage::DelLink(link) => {
                self.link_gone(&link).await;
                self.link_changed(&link, unsettled);
            }
            RouteNetlinkMessage::NewLink(link) => self.link_changed(&link, unsettled),
            RouteNetlinkMessage::NewNeighbour(neighbour) | RouteNetlinkMessage::DelNeighbour(neighbour) => {
                // At once: a next hop that moved loses packets until it is followed.
                if let Some(to) = destination(&neighbour) {
                    let index = neighbour.header.ifindex;
                    self.look(|watched| watched.way == Some(Way { index, neighbour: to })).await;
                }
            }
            RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => {
                (unsettled.routes, unsettled.underlays) = (true, true);
                unsettled.wait();
            }
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route)
                if u8::from(route.header.protocol) != agent_core::kernel_state::ROUTE_PROTOCOL =>
            {
                unsettled.routes = true;
                unsettled.wait();
            }
            _ => {}
        }
    }

    /// Interfaces of the fabric come and go all the time; they carry no tunnels.
    fn link_changed(&self, message: &LinkMessage, unsettled: &mut Unsettled) {
        if links::Link::of(message).group != links::GROUP {
            (unsettled.routes, unsettled.underlays) = (true, true);
            unsettled.wait();
        }
    }

    async fn link_gone(&mut self, message: &LinkMessage) {
        let link = links::Link::of(message);
        if !link.is_ours() || self.shared.was_removed(link.index) {
            return;
        }
        match links::find(&mut self.netlink, &link.name) {
            // A step of the agent made it again, and the core knows.
            Ok(Some(now)) if now.is_ours() => {}
            Ok(Some(_) | None) => self.tell(Notice::Vanished(HostSide::named(&link.name))).await,
            Err(error) => warn!(interface = %link.name, %error, "could not look"),
        }
    }

    async fn settled(&mut self, unsettled: Unsettled) {
        if unsettled.enis {
            self.missing().await;
        }
        if unsettled.underlays {
            self.tell(Notice::Underlays).await;
        }
        if unsettled.routes {
            self.look(|_| true).await;
        }
    }

    /// Tells of every interface of the fabric that is not there any more.
    async fn missing(&mut self) {
        let there = match links::all(&mut self.netlink) {
            Ok(links) => links,
            Err(error) => return warn!(%error, "interfaces not listed"),
        };
        let there: BTreeSet<String> =
            there.into_iter().filter(links::Link::is_ours).map(|link| link.name).collect();
        for host in self.shared.enis().into_iter().filter(|host| !there.contains(host.as_str())) {
            self.tell(Notice::Vanished(host)).await;
        }
    }

    /// Looks again at those for which `which` holds, and tells what changed.
    async fn look(&mut self, which: impl Fn(&Watched) -> bool) {
        let keys: Vec<_> =
            self.watched.iter().filter(|(_, watched)| which(watched)).map(|(key, _)| *key).collect();
        for (local, remote) in keys {
            let now = self.resolve(local, remote);
            let before = self.watched.insert((local, remote), now);
            if before.is_some_and(|before| before.link != now.link) {
                self.tell(Notice::Neighbour { local, remote, link: now.link }).await;
            }
        }
    }

    fn resolve(&mut self, local: IpAddr, remote: IpAddr) -> Watched {
        let way = match routes::towards(&mut self.netlink, local, remote) {
            Ok(way) => way,
            Err(error) => {
                debug!(%local, %remote, error = %format!("{error:#}"), "no way");
                return Watched { way: None, link: None };
            }
        };
        let link = self.link_layer(way).unwrap_or_else(|error| {
            debug!(%local, %remote, error = %format!("{error:#}"), "neighbour not read");
            None
        });
        Watched { way: Some(way), link }
    }

    /// What the kernel knows of the neighbour; asks for it when that is nothing, or old.
    fn link_layer(&mut self, way: Way) -> Result<Option<LinkLayer>> {
        let Some(output) = links::find_index(&mut self.netlink, way.index)? else { return Ok(None) };
        let answer = self.netlink.ask(RouteNetlinkMessage::GetNeighbour(question(way)), 0)?;
        let entry = answer.ok().and_then(|messages| messages.into_iter().find_map(entry));
        let state = entry.as_ref().map(|entry| entry.header.state);
        if !matches!(
            state,
            Some(NeighbourState::Reachable | NeighbourState::Permanent | NeighbourState::Noarp)
        ) {
            self.use_it(way);
        }
        let valid = match state {
            None | Some(NeighbourState::Incomplete | NeighbourState::Failed | NeighbourState::None) => false,
            Some(_) => true,
        };
        let mac = entry.filter(|_| valid).as_ref().and_then(mac);
        let longest = if mac.is_some() { self.longest(&output) } else { 0 };
        Ok(mac.map(|neighbour| LinkLayer { ifindex: way.index, source: output.mac, neighbour, longest }))
    }

    fn longest(&self, output: &links::Link) -> u16 {
        // Frames from XDP pass no queue, and would take the place of those that wait there.
        if self.shared.is_shaped(&output.name) {
            return 0;
        }
        let Some(features) = &self.features else { return 0 };
        features.longest(output).unwrap_or_else(|error| {
            debug!("{error:#}");
            0
        })
    }

    fn use_it(&mut self, way: Way) {
        let mut message = question(way);
        message.header.flags = NeighbourFlags::Use;
        message.header.kind = RouteType::Unicast;
        match self.netlink.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE) {
            Ok(Ok(_)) => {}
            Ok(Err(refused)) => debug!(neighbour = %way.neighbour, %refused, "neighbour not asked for"),
            Err(error) => warn!(neighbour = %way.neighbour, %error, "neighbour not asked for"),
        }
    }

    async fn tell(&self, notice: Notice) {
        // Closed only when the agent stops.
        let _ = self.notices.send(notice).await;
    }
}

fn question(way: Way) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let (family, address) = match way.neighbour {
        IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
    };
    message.header.family = family;
    message.header.ifindex = way.index;
    message.attributes.push(NeighbourAttribute::Destination(address));
    message
}

fn entry(message: RouteNetlinkMessage) -> Option<NeighbourMessage> {
    match message {
        RouteNetlinkMessage::NewNeighbour(message) => Some(message),
        _ => None,
    }
}

fn mac(message: &NeighbourMessage) -> Option<ebpf_abi::Mac> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok(),
        _ => None,
    })
}

fn destination(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some((*v4).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::NetlinkHeader;

    #[tokio::test]
    async fn lost_notifications_are_made_good_by_looking_at_everything() {
        let (notices, mut told) = mpsc::channel(16);
        let shared = Shared::default();
        let gone = HostSide::named("fw00000000");
        shared.with(|seen| seen.enis.insert(gone));
        let netlink = Netlink::open().expect("a netlink socket");
        let mut watcher = Watcher { netlink, features: None, shared, watched: BTreeMap::new(), notices };
        let mut unsettled = Unsettled::default();
        let overrun = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::Overrun(Vec::new()));
        watcher.happened(overrun, &mut unsettled).await;
        assert!(unsettled.until.is_some() && unsettled.routes);
        watcher.settled(unsettled).await;
        drop(watcher);
        assert_eq!(told.recv().await, Some(Notice::Vanished(gone)));
        assert_eq!(told.recv().await, Some(Notice::Underlays));
        assert_eq!(told.recv().await, None);
    }
}
