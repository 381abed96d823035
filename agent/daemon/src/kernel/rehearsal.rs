//! Asks the programs what they would do with a packet: loads them dry over the pinned maps and runs them on it.
//!
//! They stay loaded for [`IDLE`] after the last question, so that a trail of questions pays the verifier once.
use super::Shared;
use super::filters;
use super::links::{self, Link};
use super::maps::{self, Slots};
use super::netlink::Netlink;
use super::programs::{Hook, pinned};
use agent_core::kernel_state::HostSide;
use agent_core::seal::{TAG, message};
use agent_core::{craft, frame};
use anyhow::{Context, Result, anyhow, bail};
use aya::programs::{SchedClassifier, TcAttachType, TestRun, TestRunOptions, TestRunResult, Xdp};
use aya::{Ebpf, EbpfLoader};
use ebpf_abi::Reason;
use ebpf_abi::maps::name;
use ebpf_abi::seal::{CIPHER, PLAIN, Tag};
use ebpf_abi::verdict::{self, Verdict};
use proto_model::query::{Answer, Connection, FRAME, Fate, Packet, QueryId, Question, Ran, Sealing, Sent};
use proto_model::report::Way;
use proto_model::{CircuitId, FabricAddress, Label};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{debug, warn};
use zerocopy::FromBytes;

/// Questions that wait; more are answered with a refusal.
pub(crate) const WAITING: usize = 64;
/// How long the programs stay loaded unasked.
const IDLE: Duration = Duration::from_secs(10);

/// Verdicts of the two kinds of programs (`linux/pkt_cls.h`, `linux/bpf.h`).
const TC_REDIRECT: u32 = 7;
const TC_DROP: u32 = 2;
const XDP_DROP: u32 = 1;
const XDP_REDIRECT: u32 = 4;

#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) session: u64,
    pub(crate) query: QueryId,
    pub(crate) question: Question,
}

#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) session: u64,
    pub(crate) query: QueryId,
    pub(crate) answer: Answer,
}

/// Answers until nobody asks any more. Runs on a thread of its own: the verifier takes its time.
pub(crate) async fn run(
    pins: PathBuf,
    port: u16,
    shared: Shared,
    mut asked: mpsc::Receiver<Asked>,
    answers: mpsc::Sender<Answered>,
) -> Result<()> {
    let mut loaded: Option<Rehearsal> = None;
    loop {
        let next = match loaded {
            Some(_) => tokio::time::timeout(IDLE, asked.recv()).await,
            None => Ok(asked.recv().await),
        };
        let Ok(next) = next else {
            loaded = None;
            continue;
        };
        let Some(Asked { session, query, question }) = next else { return Ok(()) };
        let (held, pins, shared) = (loaded.take(), pins.clone(), shared.clone());
        let work = move || answer(held, &pins, port, shared, &question);
        let (held, answer) = tokio::task::spawn_blocking(work).await?;
        loaded = held;
        if answers.send(Answered { session, query, answer }).await.is_err() {
            return Ok(());
        }
    }
}

fn answer(
    held: Option<Rehearsal>,
    pins: &Path,
    port: u16,
    shared: Shared,
    question: &Question,
) -> (Option<Rehearsal>, Answer) {
    let rehearsal = held.map_or_else(|| Rehearsal::load(crate::DATAPLANE, pins, port, shared), Ok);
    let mut rehearsal = match rehearsal {
        Ok(rehearsal) => rehearsal,
        Err(error) => {
            warn!(error = %format!("{error:#}"), "the programs cannot be asked");
            return (None, Answer::Unable(format!("{error:#}")));
        }
    };
    let answer =
        rehearsal.answer(question).map_or_else(|error| Answer::Unable(format!("{error:#}")), Answer::Ran);
    (Some(rehearsal), answer)
}

/// The programs, loaded dry.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    ebpf: Ebpf,
    verdict: Slots<Verdict>,
    sealers: Slots<u32>,
    pins: PathBuf,
    port: u16,
    netlink: Netlink,
    shared: Shared,
}

/// What one program made of a frame.
struct Said {
    hook: Hook,
    verdict: Verdict,
    /// As it goes on; none: it was dropped.
    left: Option<Vec<u8>>,
}

impl Rehearsal {
    /// Over the maps that are pinned there; of one that is not there it would have an empty one of its own.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn load(object: &[u8], pins: &Path, port: u16, shared: Shared) -> Result<Self> {
        let started = Instant::now();
        let mut loader = EbpfLoader::new();
        loader.btf(None).override_global(verdict::DRY, &1u32, true);
        for map in name::MAPS {
            let pin = maps::pin(pins, map);
            if !pin.exists() {
                bail!("{} is not pinned; the agent is not running", pin.display());
            }
            loader.map_pin_path(map, pin);
        }
        let mut ebpf = loader.load(object).context("the kernel refused the data plane's maps")?;
        for hook in [Hook::Eni, Hook::Tcx, Hook::Plain, Hook::Cipher] {
            classifier(&mut ebpf, hook)?
                .load()
                .with_context(|| format!("the kernel refused {}", hook.program()))?;
        }
        xdp(&mut ebpf)?.load().context("the kernel refused underlay_xdp")?;
        let verdict = Slots::new(ebpf.take_map(verdict::MAP).context("the data plane has no VERDICT")?)?;
        let sealers = Slots::new(ebpf.take_map("SEALERS").context("the data plane has no SEALERS")?)?;
        debug!(took = ?started.elapsed(), "programs loaded to be asked");
        Ok(Self { ebpf, verdict, sealers, pins: pins.to_owned(), port, netlink: Netlink::open()?, shared })
    }

    /// # Errors
    /// Why it cannot be told.
    pub(crate) fn answer(&mut self, question: &Question) -> Result<Ran> {
        match question {
            Question::Sent { workload, packet } => self.sent(workload, packet),
            Question::Arrives { frame, packet } => self.arrives(frame, packet),
            Question::Enters { workload, tunnel, packet } => {
                let frame = crafted(packet, workload)?;
                let frame = craft::wrapped(tunnel, self.port, &frame).ok_or_else(|| {
                    anyhow!("{} and {} are of two address families", tunnel.source, tunnel.destination)
                })?;
                self.arrives(&frame, packet)
            }
        }
    }

    fn sent(&mut self, workload: &FabricAddress, packet: &Packet) -> Result<Ran> {
        let host = HostSide::of(workload);
        let link = links::find(&mut self.netlink, host.as_str())?;
        let Some(link) = link else {
            // Without a circuit there is no interface, and so no program that could drop anything.
            bail!("the workload has no interface of the fabric here ({} is not there)", host.as_str());
        };
        self.require(Hook::Eni, &link)?;
        let frame = crafted(packet, workload)?;
        let Some(said) = self.classify(Hook::Eni, link.index, &frame)? else {
            return Ok(self.told(Hook::Eni, &link, &frame, &Verdict::default(), Fate::NotOurs));
        };
        match &said.left {
            Some(left) if said.verdict.ifindex == self.sealers.get(PLAIN)? => {
                self.encrypted(&link, &frame, &said, left)
            }
            Some(_) | None => self.conclude(&link, &frame, &said),
        }
    }

    /// The agent makes a message of it, and another program chooses the way. What stands in the message does not matter.
    fn encrypted(&mut self, link: &Link, came: &[u8], said: &Said, given: &[u8]) -> Result<Ran> {
        let tag = tag(given)?;
        let message = message::specimen(tag.index(), tag.circuit(), given.len() - TAG);
        let device = self.sealer(CIPHER, Hook::Cipher)?;
        let Some(after) = self.classify(Hook::Cipher, device, &message)? else {
            bail!("{} left the message to the kernel", Hook::Cipher.program());
        };
        let fate = self.fate(&after)?;
        let hook = if after.left.is_some() { Hook::Eni } else { Hook::Cipher };
        let sealing = self.sealing(said.verdict.circuit);
        Ok(Ran { sealing, ..self.told(hook, link, came, &said.verdict, fate) })
    }

    fn arrives(&mut self, frame: &[u8], packet: &Packet) -> Result<Ran> {
        let outer = frame::outer(frame, self.port)
            .ok_or_else(|| anyhow!("this is no frame of a tunnel to port {}", self.port))?;
        let link = self.holder(outer.destination)?;
        let mut frame = frame.to_vec();
        // As the network card takes it for its own.
        frame[..6].copy_from_slice(&link.mac);
        if self.has_xdp(&link.name)?
            && let Some(said) = self.early(&frame)?
        {
            return self.conclude(&link, &frame, &said);
        }
        self.require(Hook::Tcx, &link)?;
        let Some(said) = self.classify(Hook::Tcx, link.index, &frame)? else {
            return Ok(self.told(Hook::Tcx, &link, &frame, &Verdict::default(), Fate::NotOurs));
        };
        match &said.left {
            Some(left) if said.verdict.ifindex == self.sealers.get(CIPHER)? => {
                self.decrypted(&link, &frame, left, packet)
            }
            Some(_) | None => self.conclude(&link, &frame, &said),
        }
    }

    /// The agent decrypts it, and another program judges what was in it.
    fn decrypted(&mut self, link: &Link, came: &[u8], given: &[u8], packet: &Packet) -> Result<Ran> {
        let inside = craft::decrypted(packet, &tag(given)?).ok_or_else(|| two_families(packet))?;
        let device = self.sealer(PLAIN, Hook::Plain)?;
        let Some(after) = self.classify(Hook::Plain, device, &inside)? else {
            bail!("{} left the packet to the kernel", Hook::Plain.program());
        };
        let sealing = self.sealing(after.verdict.circuit);
        Ok(Ran { sealing, ..self.conclude(link, came, &after)? })
    }

    /// An interface of encryption, with its program.
    fn sealer(&mut self, which: u32, hook: Hook) -> Result<u32> {
        let device = self.sealers.get(which)?;
        let link = links::find_index(&mut self.netlink, device)?;
        let link = link.with_context(|| format!("the interface of {} is not there", hook.program()))?;
        self.require(hook, &link)?;
        Ok(device)
    }

    /// At an end of an encrypted circuit.
    fn sealing(&self, circuit: u64) -> Sealing {
        if self.shared.has_session(circuit) { Sealing::Sealed } else { Sealing::NoSession }
    }

    /// The interface that has an address.
    fn holder(&mut self, address: IpAddr) -> Result<Link> {
        let holder = links::holder(&mut self.netlink, address)?;
        let link = holder.map(|index| links::find_index(&mut self.netlink, index)).transpose()?.flatten();
        link.ok_or_else(|| anyhow!("no interface here has the address {address}, to which the packet goes"))
    }

    /// What the programs would say is the truth only where they hang: elsewhere packets pass the fabric by.
    fn require(&mut self, hook: Hook, link: &Link) -> Result<()> {
        if (hook == Hook::Tcx && has_tcx(link)) || filters::is_there(&mut self.netlink, link.index)? {
            return Ok(());
        }
        let (program, interface) = (hook.program(), &link.name);
        bail!(
            "{program} is not attached to {interface}, so packets pass the fabric by; a restart of the agent attaches it"
        )
    }

    fn has_xdp(&self, interface: &str) -> Result<bool> {
        Ok(pinned(&self.pins)?.iter().any(|pin| pin.link() == Some((interface, Hook::Xdp))))
    }

    /// None: XDP leaves it to traffic control.
    fn early(&mut self, frame: &[u8]) -> Result<Option<Said>> {
        self.verdict.put(0, &Verdict::default())?;
        let mut out = vec![0; FRAME];
        let ran = run_once(xdp(&mut self.ebpf)?, frame, &mut out, &[])?;
        out.truncate(ran.data_size_out as usize);
        let left = match ran.return_value {
            XDP_REDIRECT => Some(out),
            XDP_DROP => None,
            _ => return Ok(None),
        };
        Ok(Some(Said { hook: Hook::Xdp, verdict: self.verdict.get(0)?, left }))
    }

    /// None: the program leaves it to the kernel.
    fn classify(&mut self, hook: Hook, index: u32, frame: &[u8]) -> Result<Option<Said>> {
        self.verdict.put(0, &Verdict::default())?;
        let mut out = vec![0; FRAME];
        let ran = run_once(classifier(&mut self.ebpf, hook)?, frame, &mut out, &on_interface(index))?;
        out.truncate(ran.data_size_out as usize);
        let left = match ran.return_value {
            TC_REDIRECT => Some(out),
            TC_DROP => None,
            _ => return Ok(None),
        };
        Ok(Some(Said { hook, verdict: self.verdict.get(0)?, left }))
    }

    fn conclude(&mut self, link: &Link, came: &[u8], said: &Said) -> Result<Ran> {
        let fate = self.fate(said)?;
        Ok(self.told(said.hook, link, came, &said.verdict, fate))
    }

    fn told(&self, hook: Hook, link: &Link, came: &[u8], verdict: &Verdict, fate: Fate) -> Ran {
        let outer =
            frame::outer(came, self.port).filter(|_| matches!(hook, Hook::Tcx | Hook::Xdp | Hook::Plain));
        let sealed = outer.is_some() && frame::is_sealed(came, self.port);
        Ran {
            program: hook.program().to_owned(),
            interface: link.name.clone(),
            label: outer.and_then(|outer| Label::new(outer.label)),
            circuit: (verdict.circuit != 0).then_some(CircuitId(verdict.circuit)),
            rule: verdict.rule,
            connection: connection(verdict.connection),
            sealing: if sealed { Sealing::Sealed } else { Sealing::Clear },
            fate,
        }
    }

    fn fate(&mut self, said: &Said) -> Result<Fate> {
        let Some(frame) = &said.left else { return dropped(&said.verdict) };
        let link = links::find_index(&mut self.netlink, said.verdict.ifindex)?;
        let to_workload = is_delivery(said.hook, link.as_ref());
        let interface = link.map_or_else(|| format!("if{}", said.verdict.ifindex), |link| link.name);
        let Some(outer) = frame::outer(frame, self.port).filter(|_| !to_workload) else {
            return Ok(Fate::Delivered { interface });
        };
        Ok(Fate::Sent(Sent {
            interface,
            local: outer.source,
            remote: outer.destination,
            label: Label::new(outer.label).context("it would leave under label 0")?,
            way: match said.verdict.way {
                Verdict::WAY_PRIMARY => Some(Way::Primary),
                Verdict::WAY_BACKUP => Some(Way::Backup),
                _ => None,
            },
            frame: frame.clone(),
        }))
    }
}

/// What a workload sends may itself look like a tunnel's packet; a delivered one has lost its own. An underlay interface
/// may be named as ours are.
fn is_delivery(hook: Hook, to: Option<&Link>) -> bool {
    hook != Hook::Xdp && to.is_some_and(Link::is_ours)
}

/// Whether the kernel runs the program on an interface by a link; it keeps only the beginning of a program's name. Where it
/// knows no such links, it hangs in a filter.
fn has_tcx(link: &Link) -> bool {
    let Ok((_, programs)) = SchedClassifier::query_tcx(&link.name, TcAttachType::Ingress) else {
        return false;
    };
    programs.iter().any(|program| {
        !program.name().is_empty() && Hook::Tcx.program().as_bytes().starts_with(program.name())
    })
}

fn crafted(packet: &Packet, workload: &FabricAddress) -> Result<Vec<u8>> {
    craft::frame(packet, workload.mac()).ok_or_else(|| two_families(packet))
}

fn two_families(packet: &Packet) -> anyhow::Error {
    anyhow!("{} and {} are of two address families", packet.source, packet.destination)
}

/// What a frame for the agent begins with.
fn tag(frame: &[u8]) -> Result<Tag> {
    let (tag, _) = Tag::read_from_prefix(frame).map_err(|_| anyhow!("{} bytes hold no tag", frame.len()))?;
    Ok(tag)
}

fn dropped(verdict: &Verdict) -> Result<Fate> {
    let reason = Reason::from_number(verdict.reason).context("it was dropped without a reason")?;
    Ok(Fate::Dropped {
        reason: reason.name().to_owned(),
        text: reason.text().trim().to_owned(),
        room: (verdict.room != 0).then_some(verdict.room),
    })
}

fn connection(state: u8) -> Connection {
    match state {
        Verdict::CONNECTION_WOULD_OPEN => Connection::WouldOpen,
        Verdict::CONNECTION_OPENING => Connection::Opening,
        Verdict::CONNECTION_ESTABLISHED => Connection::Established,
        Verdict::CONNECTION_CLOSING => Connection::Closing,
        _ => Connection::None,
    }
}

fn classifier(ebpf: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier> {
    let program =
        ebpf.program_mut(hook.program()).with_context(|| format!("no program {}", hook.program()))?;
    Ok(program.try_into()?)
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    Ok(ebpf.program_mut(name::UNDERLAY_XDP).context("no program underlay_xdp")?.try_into()?)
}

/// A `__sk_buff` (`linux/bpf.h`) of which only `ifindex` is set, its eleventh word.
fn on_interface(index: u32) -> Vec<u8> {
    let mut context = vec![0; 44];
    context[40..].copy_from_slice(&index.to_ne_bytes());
    context
}

fn run_once<P>(program: &P, frame: &[u8], out: &mut [u8], context: &[u8]) -> Result<TestRunResult>
where
    P: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>,
{
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(out),
        ctx_in: (!context.is_empty()).then_some(context),
        ..TestRunOptions::new()
    };
    Ok(program.test_run(options)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::link::{InfoKind, LinkAttribute as Attribute, LinkInfo, LinkMessage};

    fn veth(name: &str, group: u32) -> Link {
        let mut message = LinkMessage::default();
        message.attributes.push(Attribute::IfName(name.to_owned()));
        message.attributes.push(Attribute::Group(group));
        message.attributes.push(Attribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]));
        Link::of(&message)
    }

    #[test]
    fn an_underlay_that_is_named_as_ours_are_is_no_workload() {
        let (workload, underlay) = (veth("fw64400001", links::GROUP), veth("fw64400001", 0));
        assert!(is_delivery(Hook::Tcx, Some(&workload)));
        assert!(!is_delivery(Hook::Tcx, Some(&underlay)), "somebody else's of that name");
        assert!(!is_delivery(Hook::Eni, Some(&veth("fw0", 0))));
        assert!(!is_delivery(Hook::Xdp, Some(&workload)), "XDP only passes on");
        assert!(!is_delivery(Hook::Eni, None));
    }
}
