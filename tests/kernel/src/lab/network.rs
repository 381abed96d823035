//! Interfaces, addresses and shaping inside the lab's namespaces, by netlink.
use super::namespace;
use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use netlink_packet_route::link::{InfoData, InfoVeth, LinkFlags};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// A netlink conversation inside one namespace.
pub(super) struct Network {
    handle: Handle,
}

/// Opens a netlink socket inside the namespace and does `work` with it there.
pub(super) fn within<T: Send>(name: &str, work: impl AsyncFnOnce(Network) -> Result<T> + Send) -> Result<T> {
    namespace::inside(name, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().context("netlink")?;
            let conversation = tokio::spawn(connection);
            let done = work(Network { handle }).await;
            conversation.abort();
            done.with_context(|| format!("in {name}"))
        })
    })
}

impl Network {
    /// A pair of interfaces: `name` here, `peer` in another namespace, both with this MTU.
    pub(super) async fn veth(&self, name: &str, peer: &str, peer_namespace: &str, mtu: u32) -> Result<()> {
        let there = namespace::open(peer_namespace)?;
        let other = LinkUnspec::new_with_name(peer).mtu(mtu).setns_by_fd(there.as_raw_fd()).build();
        let pair = LinkVeth::new(name, peer).mtu(mtu).set_info_data(InfoData::Veth(InfoVeth::Peer(other)));
        self.handle
            .link()
            .add(pair.build())
            .execute()
            .await
            .with_context(|| format!("the pair {name} and {peer} of {peer_namespace}"))
    }

    pub(super) async fn bridge(&self, name: &str) -> Result<()> {
        let added = self.handle.link().add(LinkBridge::new(name).build()).execute().await;
        added.with_context(|| format!("the bridge {name}"))?;
        self.up(name).await
    }

    pub(super) async fn enslave(&self, name: &str, bridge: &str) -> Result<()> {
        let index = self.index(bridge).await?;
        let change = LinkUnspec::new_with_name(name).controller(index).build();
        let set = self.handle.link().set(change).execute().await;
        set.with_context(|| format!("{name} into {bridge}"))?;
        self.up(name).await
    }

    pub(super) async fn up(&self, name: &str) -> Result<()> {
        let change = LinkUnspec::new_with_name(name).up().build();
        self.handle.link().set(change).execute().await.with_context(|| format!("{name} up"))
    }

    pub(super) async fn down(&self, name: &str) -> Result<()> {
        let change = LinkUnspec::new_with_name(name).down().build();
        self.handle.link().set(change).execute().await.with_context(|| format!("{name} down"))
    }

    pub(super) async fn set_mtu(&self, name: &str, mtu: u32) -> Result<()> {
        let change = LinkUnspec::new_with_name(name).mtu(mtu).build();
        self.handle.link().set(change).execute().await.with_context(|| format!("{name} mtu {mtu}"))
    }

    /// Waits until someone is at the other end of the wire.
    pub(super) async fn carrier(&self, name: &str) -> Result<()> {
        for _ in 0..1_000 {
            let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
            let link = found.try_next().await?.with_context(|| format!("there is no interface {name}"))?;
            if link.header.flags.contains(LinkFlags::LowerUp) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("nobody attached to {name} within 5 s")
    }

    /// IPv6 addresses are used at once, since nobody else can have them.
    pub(super) async fn address(&self, name: &str, address: IpAddr, length: u8) -> Result<()> {
        self.put_address(name, address, length, false).await
    }

    /// As [`Network::address`], also where it is there already.
    pub(super) async fn readdress(&self, name: &str, address: IpAddr, length: u8) -> Result<()> {
        self.put_address(name, address, length, true).await
    }

    async fn put_address(&self, name: &str, address: IpAddr, length: u8, again: bool) -> Result<()> {
        use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
        let index = self.index(name).await?;
        let mut request = self.handle.address().add(index, address, length);
        if address.is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let request = if again { request.replace() } else { request };
        request.execute().await.with_context(|| format!("{address}/{length} on {name}"))
    }

    async fn index(&self, name: &str) -> Result<u32> {
        let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
        let link = found.try_next().await.with_context(|| format!("the interface {name}"))?;
        Ok(link.with_context(|| format!("there is no interface {name}"))?.header.index)
    }
}
