//! Changes a link while it is up: carrier, silent loss, loss, delay, rate; and back to what the topology says.
use super::network::within;
use super::plan::{Link, Plan, Shape};
use super::process::Process;
use super::{Lab, control, shape};
use anyhow::{Context, Result, bail};
use proto_model::{Bandwidth, Latency, Loss};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How a link is at this moment: a file of the lab once it was changed, and what its emulator is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// From the first end to the second, and back.
    pub lanes: [Lane; 2],
    /// The end whose interface is down, where no emulator takes the carrier away from both.
    pub cut: Option<usize>,
}

/// One direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    pub shape: Shape,
    /// Everything is lost, and nobody is told.
    pub blackhole: bool,
}

/// What is done to a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The carrier goes: with an emulator at both ends; without, the second end's interface is taken down, and the
    /// first end loses its carrier.
    Cut,
    /// Carrier and passage come back; loss, delay and rate stay as they were set.
    Mend,
    /// Everything is lost without a word, the carrier stays.
    Blackhole,
    Loss(Loss),
    Delay(Step),
    Jitter(Latency),
    /// None: as fast as it goes.
    Rate(Option<Bandwidth>),
    /// As the topology says.
    Reset,
}

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    To(Latency),
    Longer(Latency),
    Shorter(Latency),
}

/// Which link, seen from which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub index: usize,
    /// The end named first: 0 or 1.
    pub from: usize,
}

impl Step {
    /// `10ms`, `+50ms` or `-5ms`.
    ///
    /// # Errors
    /// Not a latency up to one hour.
    pub fn parse(text: &str) -> Result<Self> {
        let latency = |text: &str| text.parse::<Latency>().map_err(anyhow::Error::from);
        match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(more), _) => Ok(Self::Longer(latency(more)?)),
            (_, Some(less)) => Ok(Self::Shorter(latency(less)?)),
            (None, None) => Ok(Self::To(latency(text)?)),
        }
    }

    fn after(self, delay: u64) -> Result<u64> {
        match self {
            Self::To(latency) => Ok(latency.nanos()),
            Self::Longer(more) => Ok(delay.saturating_add(more.nanos())),
            Self::Shorter(less) => delay.checked_sub(less.nanos()).with_context(|| {
                let delay = Latency::from_nanos(delay);
                format!("the delay is {delay} one way, it cannot become {less} shorter")
            }),
        }
    }
}

impl Condition {
    /// As the topology says.
    pub fn of(link: &Link) -> Self {
        let lane = || Lane { shape: link.shape.clone(), blackhole: false };
        Self { lanes: [lane(), lane()], cut: None }
    }

    /// After a change, made at the end `from`; `one_way`: only to what leaves that end.
    fn after(&self, change: &Change, link: &Link, from: usize, one_way: bool) -> Result<Self> {
        let mut next = self.clone();
        match change {
            Change::Cut if one_way => bail!("a carrier has no direction: leave --one-way out"),
            Change::Cut => next.cut = Some(1 - from),
            Change::Mend | Change::Reset if !one_way => next.cut = None,
            Change::Mend
            | Change::Reset
            | Change::Blackhole
            | Change::Loss(_)
            | Change::Delay(_)
            | Change::Jitter(_)
            | Change::Rate(_) => {}
        }
        for (index, lane) in next.lanes.iter_mut().enumerate() {
            if index == from || !one_way {
                lane.change(change, link)?;
            }
        }
        Ok(next)
    }

    /// For people: what differs from the topology; empty when nothing does.
    pub fn differences(&self, link: &Link) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(end) = self.cut {
            found.push(format!("no carrier ({} is down)", link.ends[end].interface_of()));
        }
        for (index, lane) in self.lanes.iter().enumerate() {
            let way = format!("{} → {}", link.ends[index].host, link.ends[1 - index].host);
            if lane.blackhole {
                found.push(format!("{way}: everything is lost"));
            }
            if lane.shape != link.shape {
                found.push(format!("{way}: {}", lane.shape.told()));
            }
        }
        found
    }
}

impl Lane {
    fn change(&mut self, change: &Change, link: &Link) -> Result<()> {
        let shape = &mut self.shape;
        match change {
            Change::Cut => {}
            Change::Mend => self.blackhole = false,
            Change::Blackhole => self.blackhole = true,
            Change::Loss(loss) => (shape.loss, shape.series) = (loss.ppm(), None),
            Change::Delay(step) => (shape.delay, shape.series) = (step.after(shape.delay)?, None),
            Change::Jitter(jitter) => shape.jitter = jitter.nanos(),
            Change::Rate(rate) => shape.rate = rate.map(Bandwidth::bits_per_second),
            Change::Reset => *self = Self { shape: link.shape.clone(), blackhole: false },
        }
        Ok(())
    }
}

/// The process that carries a link, where one does.
pub(super) fn emulator(plan: &Plan, index: usize) -> Process {
    Process::new(&plan.folder(), &format!("emulator-{index}"))
}

impl Lab {
    /// The link between two hosts; its network's name is needed where they share several.
    ///
    /// # Errors
    /// No such link, with those that there are; or several.
    pub fn find_link(&self, a: &str, b: &str, network: Option<&str>) -> Result<Seen> {
        let (plan, links) = (self.plan(), &self.plan().links);
        let seen = |(index, link): (usize, &Link)| -> Option<Seen> {
            let ends = [link.ends[0].host.as_str(), link.ends[1].host.as_str()];
            let from = if ends == [a, b] { 0 } else { 1 };
            let wanted = network.is_none_or(|network| network == link.network);
            ((ends == [a, b] || ends == [b, a]) && wanted).then_some(Seen { index, from })
        };
        let found: Vec<Seen> = links.iter().enumerate().filter_map(seen).collect();
        match found[..] {
            [only] => Ok(only),
            [] => {
                let all: Vec<String> = links.iter().map(Link::described).collect();
                let network = network.map_or(String::new(), |network| format!(" in network {network}"));
                bail!("lab {} has no link {a} – {b}{network}; it has {}", plan.name, all.join(", "))
            }
            _ => {
                let names: Vec<&str> = found.iter().map(|seen| links[seen.index].network.as_str()).collect();
                bail!("{a} and {b} share {} networks; say --network {}", names.len(), names.join(" or "))
            }
        }
    }

    /// How a link is now.
    ///
    /// # Errors
    /// Its file is damaged.
    pub fn condition(&self, index: usize) -> Result<Condition> {
        let file = self.condition_file(index);
        match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| file.display().to_string()),
            Err(_) => Ok(Condition::of(&self.plan().links[index])),
        }
    }

    /// Changes the link between two hosts, both ways; it is in force on return.
    ///
    /// # Errors
    /// No such link, or one that cannot be changed like this, and what would be needed.
    pub fn change(&self, a: &str, b: &str, change: &Change) -> Result<()> {
        self.change_link(self.find_link(a, b, None)?, change, false)
    }

    /// Changes only what goes from `a` to `b`.
    ///
    /// # Errors
    /// As [`Lab::change`].
    pub fn change_one_way(&self, a: &str, b: &str, change: &Change) -> Result<()> {
        self.change_link(self.find_link(a, b, None)?, change, true)
    }

    /// # Errors
    /// As [`Lab::change`].
    pub fn change_link(&self, seen: Seen, change: &Change, one_way: bool) -> Result<()> {
        let link = &self.plan().links[seen.index];
        let before = self.condition(seen.index)?;
        let after = before.after(change, link, seen.from, one_way)?;
        let emulator = emulator(self.plan(), seen.index);
        if emulator.log().exists() {
            control::tell(&self.plan().folder(), seen.index, &after)
                .with_context(|| emulator.last_words())?;
        } else {
            self.reshape(link, &before, &after)?;
            self.carry(link, &before, &after)?;
        }
        let file = self.condition_file(seen.index);
        let draft = file.with_extension("draft");
        std::fs::write(&draft, serde_json::to_vec_pretty(&after)?)?;
        std::fs::rename(draft, &file).with_context(|| file.display().to_string())
    }

    fn condition_file(&self, index: usize) -> PathBuf {
        self.plan().folder().join(format!("link-{index}.json"))
    }

    /// What leaves each end of a veth pair. It is lost before the wire, behind every program on the way out; a frame
    /// that native XDP puts on a veth passes no queue and is not lost.
    fn reshape(&self, link: &Link, before: &Condition, after: &Condition) -> Result<()> {
        let demanding = after.lanes.iter().any(|lane| lane.shape.needs_delay_or_loss());
        let netem = demanding && shape::has_netem(&self.plan().controller_namespace())?;
        if demanding && !netem {
            bail!(
                "{} has no emulator and this kernel has no netem, so it cannot lose or delay; give the link \
                 `emulate = true` in the topology file, or bring the lab up with --emulate",
                link.described()
            );
        }
        for (index, (old, new)) in before.lanes.iter().zip(&after.lanes).enumerate() {
            if old == new {
                continue;
            }
            let end = &link.ends[index];
            let name = self.plan().namespace(&end.host)?;
            if new.blackhole {
                shape::blackhole(&name, &end.interface)?;
                continue;
            }
            if old.blackhole || !old.shape.is_plain() {
                shape::clear(&name, &end.interface)?;
            }
            shape::apply(&name, &end.interface, &new.shape, netem)?;
        }
        Ok(())
    }

    /// Takes an end of a veth pair down or up.
    fn carry(&self, link: &Link, before: &Condition, after: &Condition) -> Result<()> {
        if before.cut == after.cut {
            return Ok(());
        }
        if let Some(end) = before.cut.map(|end| &link.ends[end]) {
            within(&self.plan().namespace(&end.host)?, async |network| {
                network.up(&end.interface).await?;
                // IPv6 addresses went with the interface.
                for (address, length) in end.addresses.iter().filter(|(address, _)| address.is_ipv6()) {
                    network.readdress(&end.interface, *address, *length).await?;
                }
                Ok(())
            })?;
        }
        if let Some(end) = after.cut.map(|end| &link.ends[end]) {
            within(&self.plan().namespace(&end.host)?, async |network| network.down(&end.interface).await)?;
        }
        Ok(())
    }

    /// Links that are not as the topology says, each with what is different.
    ///
    /// # Errors
    /// A file of the lab is damaged.
    pub fn changed_links(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for (index, link) in self.plan().links.iter().enumerate() {
            let differences = self.condition(index)?.differences(link);
            lines.extend(differences.iter().map(|difference| format!("{}: {difference}", link.described())));
        }
        Ok(lines)
    }
}

/// The namespaces of a link's ends.
///
/// # Errors
/// The plan has no such host.
pub fn namespaces(plan: &Plan, link: &Link) -> Result<[String; 2]> {
    let [a, b] = &link.ends;
    Ok([plan.namespace(&a.host)?, plan.namespace(&b.host)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::file;

    fn link() -> Link {
        let text = "name = \"x\"\n[[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n\
                    [[link]]\nends = [\"a\", \"b\"]\ndelay = \"2ms\"\nloss = \"1%\"\n";
        file::parse(text, None).expect("plan").links.remove(0)
    }

    fn after(changes: &[Change], one_way: bool) -> Condition {
        let link = link();
        let change = |condition: Condition, change: &Change| {
            condition.after(change, &link, 1, one_way).expect("possible")
        };
        changes.iter().fold(Condition::of(&link), change)
    }

    #[test]
    fn steps_are_read_or_refused_with_an_example() {
        let ms = |n: u64| Latency::from_nanos(n * 1_000_000);
        assert_eq!(Step::parse("10ms").expect("read"), Step::To(ms(10)));
        assert_eq!(Step::parse("+50ms").expect("read"), Step::Longer(ms(50)));
        assert_eq!(Step::parse("-1ms").expect("read"), Step::Shorter(ms(1)));
        for wrong in ["", "10", "+-1ms", "2h", "++1ms"] {
            let refusal = Step::parse(wrong).expect_err(wrong).to_string();
            assert!(refusal.contains("20ms"), "{refusal}");
        }
    }

    #[test]
    fn a_change_one_way_leaves_the_other_way() {
        let changed = after(&[Change::Blackhole, Change::Delay(Step::parse("+3ms").expect("read"))], true);
        assert_eq!(changed.lanes[0], Condition::of(&link()).lanes[0]);
        assert!(changed.lanes[1].blackhole);
        assert_eq!(changed.lanes[1].shape.delay, 5_000_000);
        assert!(Condition::of(&link()).after(&Change::Cut, &link(), 0, true).is_err());
    }

    #[test]
    fn mending_keeps_what_was_set_and_reset_does_not() {
        let loss = Change::Loss("20%".parse().expect("loss"));
        let mended = after(&[loss.clone(), Change::Cut, Change::Blackhole, Change::Mend], false);
        assert_eq!(
            (mended.cut, mended.lanes[0].blackhole, mended.lanes[0].shape.loss),
            (None, false, 200_000)
        );
        assert_eq!(after(&[loss, Change::Cut, Change::Reset], false), Condition::of(&link()));
    }

    #[test]
    fn the_far_end_goes_down_when_a_link_is_cut() {
        assert_eq!(after(&[Change::Cut], false).cut, Some(0));
        let told = after(&[Change::Cut], false).differences(&link());
        assert_eq!(told, ["no carrier (eth0 of a is down)"]);
    }

    #[test]
    fn no_delay_becomes_shorter_than_nothing() {
        let shorter = Change::Delay(Step::parse("-3ms").expect("read"));
        let refusal = Condition::of(&link()).after(&shorter, &link(), 0, false).expect_err("2 ms");
        assert!(refusal.to_string().contains("2 ms") && refusal.to_string().contains("3 ms"), "{refusal}");
    }

    #[test]
    fn differences_are_told_by_direction() {
        let slow = after(&[Change::Delay(Step::parse("52ms").expect("read"))], true);
        let told = slow.differences(&link());
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("b → a: ") && told[0].contains("52 ms"), "{told:?}");
        assert!(after(&[Change::Blackhole, Change::Mend], false).differences(&link()).is_empty());
    }
}
