//! Makes an ENI whole: the pair, its program, its addresses; and takes it away without a trace.
use super::Linux;
use super::filters;
use super::links::{self, InnerRefused, Link, Pair};
use super::namespaces::{self, Namespace};
use super::netlink::Netlink;
use super::programs::{Hook, Programs};
use agent_core::abi::{Door, Inner};
use agent_core::kernel_state::{Eni, HostSide};
use anyhow::{Context, Result, anyhow, bail};
use proto_model::resource::Attachment;
use std::net::Ipv6Addr;
use std::os::fd::AsFd;
use tracing::warn;

/// An ENI that is there.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) entry: Eni,
    /// Of the host side.
    pub(crate) index: u32,
    /// Of the inner side, in its namespace.
    pub(crate) inner: u32,
    pub(crate) both_here: bool,
}

impl Known {
    pub(crate) fn door(&self) -> Door {
        Door { ifindex: self.index, inner: if self.both_here { Inner::OnHost } else { Inner::Elsewhere } }
    }
}

/// What the alias of a host side says: whose it is, where its other side was put, and what that looks like; so that a
/// restart knows an ENI although its other side is damaged or out of reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alias {
    pub(crate) resource: String,
    pub(crate) attachment: Attachment,
    /// Not in those of former builds, nor where the namespace's path leaves no room.
    pub(crate) interface: Option<String>,
    pub(crate) v6: Option<Ipv6Addr>,
    /// When the process started that the resource was registered with.
    pub(crate) since: Option<Started>,
}

/// Ticks from the boot to the start of a process. Its number is given to another one when it has ended; this is not.
pub(crate) type Started = u64;

impl Alias {
    pub(crate) fn of(eni: &Eni, since: Option<Started>) -> Self {
        Self {
            resource: eni.resource.clone(),
            attachment: eni.attachment.clone(),
            interface: Some(eni.interface.clone()),
            v6: Some(eni.address.v6),
            since,
        }
    }

    /// The mark, the resource, words with a `=`, and last the place, which may contain blanks.
    pub(crate) fn text(&self) -> Result<String> {
        let mut words = String::new();
        if let (Some(interface), Some(v6)) = (&self.interface, self.v6) {
            words = format!("if={interface} v6={v6} ");
        }
        if let Some(since) = self.since {
            words.push_str(&format!("since={since} "));
        }
        let place = namespaces::text(&self.attachment);
        let long = format!("{}{} {words}{place}", links::MARK, self.resource);
        if long.len() <= links::ALIAS {
            return Ok(long);
        }
        let short = format!("{}{} {place}", links::MARK, self.resource);
        if short.len() > links::ALIAS {
            bail!(
                "the namespace's path makes an alias of {} bytes; at most {} fit",
                short.len(),
                links::ALIAS
            );
        }
        Ok(short)
    }

    /// The reverse of [`Self::text`].
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (resource, mut rest) = text.strip_prefix(links::MARK)?.split_once(' ')?;
        let (mut interface, mut v6, mut since) = (None, None, None);
        while let Some((word, after)) = rest.split_once(' ') {
            match word.split_once('=') {
                Some(("if", name)) => interface = Some(name.to_owned()),
                Some(("v6", address)) => v6 = Some(address.parse().ok()?),
                Some(("since", ticks)) => since = Some(ticks.parse().ok()?),
                Some(_) | None => break,
            }
            rest = after;
        }
        let attachment = namespaces::parse(rest)?;
        Some(Self { resource: resource.to_owned(), attachment, interface, v6, since })
    }
}

impl Linux {
    /// Idempotent. A change of MTU or resource happens in place; anything else makes the pair anew.
    pub(crate) fn put_eni(&mut self, eni: &Eni) -> Result<()> {
        let (place, since) = self.place(&eni.host, &eni.attachment)?;
        let alias = Alias::of(eni, since).text()?;
        let there = links::find(&mut self.netlink, eni.host.as_str())?;
        let mut kept = false;
        let host = match there {
            Some(link) if !link.is_ours() => {
                bail!("an interface named {} exists, and it is not the fabric's", eni.host.as_str())
            }
            Some(link) if self.serves(&link, eni, &place)? => {
                kept = true;
                link
            }
            Some(link) => {
                self.drop_pair(&link)?;
                self.create_pair(eni, &alias, &place)?
            }
            None => self.create_pair(eni, &alias, &place)?,
        };
        if let Err(error) = self.settle(eni, &alias, &place, &host) {
            // Nothing half-done remains; but what was there before, and perhaps works, stays.
            if !kept {
                self.enis.remove(&eni.host);
                self.drop_pair(&host).context("taking back what was made")?;
            }
            return Err(error);
        }
        let known =
            Known { entry: eni.clone(), index: host.index, inner: host.peer, both_here: place.is_home() };
        if let (Attachment::Process(pid), Some(since)) = (&eni.attachment, since) {
            self.processes.insert(eni.host, (*pid, since));
        }
        self.indexes.insert(eni.host, host.index);
        self.shared.with(|seen| seen.enis.insert(eni.host));
        self.enis.insert(eni.host, known);
        Ok(())
    }

    /// Opens the namespace of an ENI. A process must be the one that was there when the ENI was first made: another
    /// one under its number must not come by the resource's identity.
    pub(crate) fn place(
        &self,
        host: &HostSide,
        attachment: &Attachment,
    ) -> Result<(Namespace, Option<Started>)> {
        let place = self.namespaces.open(attachment)?;
        let Attachment::Process(pid) = attachment else { return Ok((place, None)) };
        // After the namespace was opened: had the number changed hands before, this shows it.
        let now = namespaces::started(*pid)?;
        match self.processes.get(host) {
            Some((known, then)) if known == pid && *then != now => bail!(
                "process {pid} is another one now (started {now} ticks after the boot, the registered one {then}); \
                 remove the resource and register it again"
            ),
            Some(_) | None => Ok((place, Some(now))),
        }
    }

    /// Whether an interface that is there can become what is wanted without being made anew.
    fn serves(&mut self, link: &Link, eni: &Eni, place: &Namespace) -> Result<bool> {
        if link.mac != eni.address.gateway_mac() {
            return Ok(false);
        }
        let mut there = self.namespaces.netlink(place)?;
        let inner = links::find(&mut there, &eni.interface)?;
        Ok(inner.is_some_and(|inner| is_other_side(&inner, link) && inner.mac == eni.address.mac()))
    }

    fn create_pair(&mut self, eni: &Eni, alias: &str, place: &Namespace) -> Result<Link> {
        if let Some(former) = self.indexes.remove(&eni.host) {
            self.clear_references(former)?;
            self.made_anew.push(eni.host);
        }
        let pair = Pair {
            host: eni.host.as_str(),
            alias,
            inner: &eni.interface,
            address: &eni.address,
            mtu: eni.mtu,
            namespace: place.as_fd(),
        };
        links::create(&mut self.netlink, &pair)
    }

    /// The program before the interface is up: no packet passes it unseen.
    fn settle(&mut self, eni: &Eni, alias: &str, place: &Namespace, host: &Link) -> Result<()> {
        if !filters::is_there(&mut self.netlink, host.index)? {
            self.programs.attach(eni.host.as_str(), Hook::Eni)?;
        }
        links::settle_host(&mut self.netlink, host, alias, eni.mtu)?;
        let mut there = self.namespaces.netlink(place)?;
        match links::settle_inner(&mut there, host.peer, &eni.address, eni.mtu) {
            Ok(()) => Ok(()),
            Err(InnerRefused::Ipv6Off) => {
                self.switch_ipv6_on(place, &eni.interface)?;
                links::settle_inner(&mut there, host.peer, &eni.address, eni.mtu).map_err(|e| anyhow!(e))
            }
            Err(InnerRefused::Other(error)) => Err(error),
        }
    }

    /// On our own interface only; the workload's others stay as they are.
    fn switch_ipv6_on(&self, place: &Namespace, interface: &str) -> Result<()> {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        self.namespaces
            .inside(place, || std::fs::write(&path, "0"))?
            .with_context(|| format!("IPv6 is switched off there, and {path} cannot be written"))
    }

    fn drop_pair(&mut self, link: &Link) -> Result<()> {
        self.shared.expect_removal(link.index);
        if let Err(error) = links::remove(&mut self.netlink, &link.name) {
            self.shared.was_removed(link.index);
            return Err(error);
        }
        Ok(())
    }

    pub(crate) fn remove_eni(&mut self, host: &HostSide) -> Result<()> {
        match links::find(&mut self.netlink, host.as_str())? {
            Some(link) if !link.is_ours() => {
                bail!("the interface {} is not the fabric's", host.as_str())
            }
            Some(link) => self.drop_pair(&link)?,
            None => {}
        }
        self.enis.remove(host);
        self.shared.with(|seen| seen.enis.remove(host));
        self.indexes.remove(host);
        self.processes.remove(host);
        Ok(())
    }
}

/// Of two interfaces in two namespaces, whether they are one pair.
pub(crate) fn is_other_side(inner: &Link, host: &Link) -> bool {
    inner.kind.as_deref() == Some("veth") && inner.index == host.peer && inner.peer == host.index
}

/// At the start: this build's program into every ENI that has one, in one step each.
pub(crate) fn renew_programs(netlink: &mut Netlink, programs: &mut Programs) -> Result<()> {
    for link in links::all(netlink)?.into_iter().filter(Link::is_ours) {
        if !filters::is_there(netlink, link.index)? {
            // Half made; what was observed of it leads to its repair or removal.
            continue;
        }
        if let Err(error) = programs.attach(&link.name, Hook::Eni) {
            // The old program goes on; the interface's own step will say so again.
            warn!(interface = %link.name, error = %format!("{error:#}"), "program not renewed");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eni(attachment: Attachment) -> Eni {
        let address = proto_model::FabricPrefix::default().address(1).expect("host 1");
        Eni {
            host: HostSide::of(&address),
            resource: "web".into(),
            attachment,
            interface: "fw0".into(),
            address,
            mtu: 1400,
        }
    }

    #[test]
    fn an_alias_says_whose_and_where() {
        let alias = Alias::of(&eni(Attachment::Process(17)), Some(4_711));
        let text = alias.text().expect("fits");
        assert_eq!(text, "foreweave:web if=fw0 v6=fdfb:6f72:6577::6440:1 since=4711 pid:17");
        assert_eq!(Alias::parse(&text), Some(alias));
        assert_eq!(Alias::parse("foreweave:web"), None);
        assert_eq!(Alias::parse("something else"), None);
    }

    #[test]
    fn aliases_of_former_builds_and_of_long_paths_say_less() {
        let path = Attachment::Path(format!("/run/a b=c {}", "d".repeat(200)));
        let text = Alias::of(&eni(path.clone()), None).text().expect("fits");
        let short =
            Alias { resource: "web".into(), attachment: path, interface: None, v6: None, since: None };
        assert_eq!(Alias::parse(&text), Some(short.clone()));
        assert_eq!(short.text().ok(), Some(text));
    }

    #[test]
    fn a_path_that_does_not_fit_is_refused_with_its_length() {
        let path = Attachment::Path(format!("/{}", "a".repeat(300)));
        let error = Alias::of(&eni(path), None).text().expect_err("too long");
        assert!(error.to_string().contains("at most 255 fit"), "{error}");
    }
}
