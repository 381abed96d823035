//! Loads the programs against the pinned maps, attaches them, and replaces them in their links without losing a packet.
use super::filters::PRIORITY;
use super::maps;
use super::upgrade::{self, Upgrade};
use anyhow::{Context, Result, anyhow, bail};
use aya::maps::Map;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::sys::SyscallError;
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use ebpf_abi::maps::name;
use std::io;
use std::path::{Path, PathBuf};
use tracing::{debug, info};

/// The loaded programs. Dropping them detaches nothing: every link is pinned.
#[derive(Debug)]
pub(crate) struct Programs {
    ebpf: Ebpf,
    pins: PathBuf,
    attach: Attach,
}

/// How the program on an underlay interface hangs in its traffic control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// Links (kernel 6.6 and later).
    Tcx,
    /// Filters of a clsact queueing discipline.
    Clsact,
}

impl Attach {
    /// What this kernel offers.
    pub fn of_this_kernel() -> Self {
        match KernelVersion::current() {
            Ok(version) if version >= KernelVersion::new(6, 6, 0) => Self::Tcx,
            _ => Self::Clsact,
        }
    }
}

/// Where a program hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    /// The host side of an ENI: always a clsact filter. Attaching a tcx link waits for a whole grace period of RCU with
    /// the lock of all network configuration held (`tcx_entry_sync`; 13 ms of the 15 ms that an ENI took on 6.18), a
    /// filter does not. It stays with the interface, so it needs no pin, and it is replaced in one step as well.
    Eni,
    Tcx,
    Xdp,
    /// The TAP interfaces of encryption: filters, which go with them.
    Plain,
    Cipher,
}

impl Hook {
    /// Those whose links are pinned.
    const PINNED: [Self; 2] = [Self::Tcx, Self::Xdp];

    fn suffix(self) -> &'static str {
        match self {
            Self::Eni => "eni",
            Self::Plain => "plain",
            Self::Cipher => "cipher",
            Self::Tcx => "tcx",
            Self::Xdp => "xdp",
        }
    }
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Eni => name::ENI_INGRESS,
            Self::Plain => name::PLAIN_INGRESS,
            Self::Cipher => name::CIPHER_INGRESS,
            Self::Tcx => name::UNDERLAY_INGRESS,
            Self::Xdp => name::UNDERLAY_XDP,
        }
    }
}

/// Handle of our filters.
const HANDLE: TcHandle = TcHandle::new(0, 1);

impl Programs {
    /// Loads everything. Maps that are pinned are used, the others are made and pinned.
    ///
    /// # Errors
    /// What the kernel refused; for a program, with the verifier's words.
    pub(crate) fn load(object: &[u8], pins: &Path, attach: Attach) -> Result<Self> {
        std::fs::create_dir_all(pins)
            .with_context(|| format!("cannot make {}; is bpffs mounted there?", pins.display()))?;
        upgrade::refuse_newer(pins)?;
        upgrade::refuse_foreign(pins)?;
        maps::check_pins(pins)?;
        let upgrade = Upgrade::of(pins)?;
        let mut loader = EbpfLoader::new();
        // No program relocates against the kernel's types: reading its BTF would cost megabytes for nothing.
        loader.btf(None).verifier_log_level(VerifierLogLevel::DEBUG);
        for map in name::MAPS {
            loader.map_pin_path(map, upgrade.pin(map));
        }
        let ebpf = loader.load(object).context("the kernel refused the data plane's maps")?;
        upgrade.finish()?;
        let mut programs = Self { ebpf, pins: pins.to_owned(), attach };
        programs.classifier(Hook::Eni)?.load().context("the kernel refused eni_ingress")?;
        programs.classifier(Hook::Plain)?.load().context("the kernel refused plain_ingress")?;
        programs.classifier(Hook::Cipher)?.load().context("the kernel refused cipher_ingress")?;
        programs.classifier(Hook::Tcx)?.load().context("the kernel refused underlay_ingress")?;
        programs.xdp()?.load().context("the kernel refused underlay_xdp")?;
        // The maps that a newer build has no more.
        programs.sweep_maps()?;
        upgrade::mark(&mut programs.ebpf, pins)?;
        Ok(programs)
    }

    pub(crate) fn take_map(&mut self, name: &str) -> Result<Map> {
        self.ebpf.take_map(name).ok_or_else(|| anyhow!("the data plane has no map {name}"))
    }

    /// Whether those on underlay interfaces are filters, which no pin shows.
    pub(crate) fn has_filters_on_underlays(&self) -> bool {
        self.attach == Attach::Clsact
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.pins
    }

    fn classifier(&mut self, hook: Hook) -> Result<&mut SchedClassifier> {
        let name = hook.program();
        let program = self.ebpf.program_mut(name).ok_or_else(|| anyhow!("the data plane has no {name}"))?;
        program.try_into().with_context(|| format!("{name} is not a traffic control program"))
    }

    fn xdp(&mut self) -> Result<&mut Xdp> {
        let name = Hook::Xdp.program();
        let program = self.ebpf.program_mut(name).ok_or_else(|| anyhow!("the data plane has no {name}"))?;
        program.try_into().with_context(|| format!("{name} is not an XDP program"))
    }

    fn sweep_maps(&self) -> Result<()> {
        let known: Vec<PathBuf> = name::MAPS.iter().map(|map| maps::pin(&self.pins, map)).collect();
        for pin in pinned(&self.pins)? {
            let former = upgrade::is_marked(&self.pins, &pin.path);
            if pin.name.starts_with("map_") && !known.contains(&pin.path) && !former {
                info!(pin = %pin.path.display(), "map of another build removed");
                std::fs::remove_file(&pin.path)?;
            }
        }
        Ok(())
    }

    pub(crate) fn pin(&self, interface: &str, hook: Hook) -> PathBuf {
        self.pins.join(format!("link_{interface}_{}", hook.suffix()))
    }

    /// Attaches, or (where a link is pinned) replaces the program in one step.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn attach(&mut self, interface: &str, hook: Hook) -> Result<()> {
        let pin = self.pin(interface, hook);
        let outcome = match (hook, self.attach) {
            (Hook::Xdp, _) => self.attach_xdp(interface, &pin),
            (Hook::Tcx, Attach::Tcx) => self.attach_tcx(interface, &pin),
            (Hook::Eni | Hook::Plain | Hook::Cipher, _) | (Hook::Tcx, Attach::Clsact) => {
                self.attach_clsact(interface, hook)
            }
        };
        outcome.with_context(|| format!("attaching {} to {interface}", hook.program()))
    }

    fn attach_tcx(&mut self, interface: &str, pin: &Path) -> Result<()> {
        let program = self.classifier(Hook::Tcx)?;
        if let Some(old) = open_link(pin)? {
            let link = SchedClassifierLink::try_from(old)
                .map_err(|error| anyhow!("{} is not a tcx link ({error}); remove it", pin.display()))?;
            match program.attach_to_link(link) {
                Ok(id) => {
                    // Only our handle goes; the pin holds the link.
                    drop(program.take_link(id)?);
                    return Ok(());
                }
                Err(error) if is_severed(&error) => remove_pin(pin)?,
                Err(error) => return Err(error.into()),
            }
        }
        // Before others: what is not for the fabric goes on to them.
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program.attach_with_options(interface, TcAttachType::Ingress, order)?;
        let link = FdLink::try_from(program.take_link(id)?)?;
        link.pin(pin).with_context(|| format!("pinning {}", pin.display()))?;
        Ok(())
    }

    fn attach_clsact(&mut self, interface: &str, hook: Hook) -> Result<()> {
        // Refused when there is one already, which is fine.
        if let Err(error) = tc::qdisc_add_clsact(interface) {
            debug!(interface, %error, "clsact");
        }
        let program = self.classifier(hook)?;
        let old = SchedClassifierLink::attached(interface, TcAttachType::Ingress, PRIORITY, HANDLE, None)?;
        let id = match program.attach_to_link(old) {
            Ok(id) => id,
            Err(_) => {
                let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
                program.attach_with_options(
                    interface,
                    TcAttachType::Ingress,
                    TcAttachOptions::Netlink(options),
                )?
            }
        };
        // A filter stays when its maker goes; but aya would take it away on drop.
        std::mem::forget(program.take_link(id)?);
        Ok(())
    }

    fn attach_xdp(&mut self, interface: &str, pin: &Path) -> Result<()> {
        let program = self.xdp()?;
        if let Some(old) = open_link(pin)? {
            let link = aya::programs::xdp::XdpLink::try_from(old)
                .map_err(|error| anyhow!("{} is not an XDP link ({error}); remove it", pin.display()))?;
            match program.attach_to_link(link) {
                Ok(id) => {
                    drop(program.take_link(id)?);
                    return Ok(());
                }
                Err(error) if is_severed(&error) => remove_pin(pin)?,
                Err(error) => return Err(error.into()),
            }
        }
        let id = program.attach(interface, XdpMode::Driver)?;
        let link = FdLink::try_from(program.take_link(id)?)
            .map_err(|_| anyhow!("this kernel has no XDP links (5.9 and later have)"))?;
        link.pin(pin).with_context(|| format!("pinning {}", pin.display()))?;
        Ok(())
    }

    /// Whether a link on an underlay is pinned.
    pub(crate) fn is_attached(&self, interface: &str, hook: Hook) -> bool {
        self.pin(interface, hook).exists()
    }

    /// Detaches. The pin is all that holds the link.
    ///
    /// # Errors
    /// When the pin cannot be removed.
    pub(crate) fn detach(&self, interface: &str, hook: Hook) -> Result<()> {
        if self.attach == Attach::Clsact && hook == Hook::Tcx {
            detach_clsact(interface);
        }
        remove_pin(&self.pin(interface, hook))
    }
}

/// A filter has no pin that would take it along.
pub(crate) fn detach_clsact(interface: &str) {
    if let Ok(link) = SchedClassifierLink::attached(interface, TcAttachType::Ingress, PRIORITY, HANDLE, None)
    {
        // Dropping detaches; a filter that is not there makes no difference.
        drop(link);
    }
}

fn open_link(pin: &Path) -> Result<Option<FdLink>> {
    match PinnedLink::from_pin(pin) {
        Ok(link) => Ok(Some(link.into())),
        Err(LinkError::SyscallError(SyscallError { io_error, .. }))
            if io_error.kind() == io::ErrorKind::NotFound =>
        {
            Ok(None)
        }
        Err(error) => Err(anyhow!("{} cannot be opened as a link ({error}); remove it", pin.display())),
    }
}

/// A link whose interface is gone (`ENOLINK`): its pin is a leftover.
fn is_severed(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(SyscallError { io_error, .. })
        if io_error.raw_os_error() == Some(libc::ENOLINK))
}

fn remove_pin(pin: &Path) -> Result<()> {
    match std::fs::remove_file(pin) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("removing {}", pin.display())),
    }
}

/// A file in the directory of pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
}

impl Pin {
    pub(crate) fn is_ours(&self) -> bool {
        self.name.starts_with("map_") || self.link().is_some()
    }

    /// For a link: which interface and hook.
    pub(crate) fn link(&self) -> Option<(&str, Hook)> {
        let (interface, suffix) = self.name.strip_prefix("link_")?.rsplit_once('_')?;
        let hook = Hook::PINNED.into_iter().find(|hook| hook.suffix() == suffix)?;
        Some((interface, hook))
    }
}

/// Everything that is pinned; an absent directory has nothing.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn pinned(pins: &Path) -> Result<Vec<Pin>> {
    let entries = match std::fs::read_dir(pins) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => bail!("cannot read {}: {error}", pins.display()),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        found.push(Pin { path: entry.path(), name: entry.file_name().to_string_lossy().into_owned() });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_name_their_interface_and_hook() {
        let link = |name: &str| Pin { path: PathBuf::new(), name: name.to_owned() };
        assert_eq!(link("link_fw64400001_eni").link(), None, "a filter has no pin");
        assert_eq!(link("link_eth_0_tcx").link(), Some(("eth_0", Hook::Tcx)));
        assert_eq!(link("link_eth0_xdp").link(), Some(("eth0", Hook::Xdp)));
        assert_eq!(link("link_eth0_what").link(), None);
        assert_eq!(link("map_flows").link(), None);
    }
}
