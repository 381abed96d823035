//! Says what this host lacks for the agent: each missing capability or feature by name, with the way to get it.
use crate::kernel::{Attach, ports, queues};
use crate::priority;
use crate::seal;
use aya::util::KernelVersion;
use caps::{CapSet, Capability};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub what: String,
    pub verdict: Verdict,
    /// How it is, as a sentence.
    pub says: String,
    /// What to do about it; empty when nothing needs doing.
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Good,
    /// Works, with something less.
    Limited,
    /// The agent cannot work without it.
    Missing,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.verdict {
            Verdict::Good => "ok     ",
            Verdict::Limited => "limited",
            Verdict::Missing => "MISSING",
        };
        write!(f, "{mark}  {}: {}", self.what, self.says)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

fn good(what: &str, says: String) -> Finding {
    Finding { what: what.to_owned(), verdict: Verdict::Good, says, remedy: String::new() }
}

fn lacks(what: &str, verdict: Verdict, says: String, remedy: &str) -> Finding {
    Finding { what: what.to_owned(), verdict, says, remedy: remedy.to_owned() }
}

/// Looks at everything.
pub fn examine(pins: &Path, port: u16) -> Vec<Finding> {
    let mut findings: Vec<Finding> = NEEDED.iter().map(capability).collect();
    findings.push(scheduling());
    findings.push(kernel());
    findings.push(bpffs(pins));
    findings.push(btf());
    findings.push(udp(port));
    findings
}

/// Whether these interfaces, which the agent may shape, can be. Without it circuits work, and reservations are only
/// accounted.
pub fn shaping(interfaces: &[String]) -> Vec<Finding> {
    let what = "shaping";
    if interfaces.is_empty() {
        return Vec::new();
    }
    if let Err(error) = queues::attempt() {
        let says = format!("HTB with bfifo cannot be used: {error:#}; reservations are only accounted");
        let remedy = "load sch_htb (CONFIG_NET_SCH_HTB, CONFIG_NET_SCH_FIFO), or leave `shape` out";
        return vec![lacks(what, Verdict::Limited, says, remedy)];
    }
    let look = |interface: &String| match queues::in_the_way(interface) {
        Ok(None) => good(what, format!("{interface} can be shaped with HTB")),
        Ok(Some(says)) => {
            lacks(what, Verdict::Limited, says, "reservations are only accounted there until then")
        }
        Err(error) => lacks(what, Verdict::Limited, format!("{error:#}"), "name an interface that is there"),
    };
    interfaces.iter().map(look).collect()
}

/// The process that encrypts circuits, if there is one: it outlives the agent.
pub fn sealer(state: &Path) -> Option<Finding> {
    let what = "sealer";
    match seal::look(state) {
        Ok(None) => None,
        Ok(Some(hello)) => {
            let seal::Hello { pid, build, circuits, sessions, relieving, .. } = hello;
            let former = if relieving { "; the former build's still uses its sessions" } else { "" };
            Some(good(
                what,
                format!(
                    "process {pid}, build {build}: {circuits} circuits, {sessions} with a session{former}"
                ),
            ))
        }
        Err(error) => {
            let says = format!("the process that encrypts does not answer: {error:#}");
            Some(lacks(what, Verdict::Limited, says, "restart the agent; it replaces it"))
        }
    }
}

/// Whether the agent can work at all.
pub fn can_work(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.verdict != Verdict::Missing)
}

/// What it is for, and what becomes of the agent without it.
const NEEDED: [(Capability, Verdict, &str, &str); 5] = [
    (Capability::CAP_BPF, Verdict::Missing, "loads programs and makes maps", "nothing works"),
    (Capability::CAP_NET_ADMIN, Verdict::Missing, "makes interfaces and attaches programs", "nothing works"),
    (Capability::CAP_PERFMON, Verdict::Missing, "lets the programs read packets by pointer", "nothing works"),
    (
        Capability::CAP_SYS_ADMIN,
        Verdict::Limited,
        "enters the network namespaces of workloads",
        "resources with Attachment Host work, others fail",
    ),
    (
        Capability::CAP_SYS_PTRACE,
        Verdict::Limited,
        "finds the network namespaces of other users' processes",
        "resources attached by process fail unless the process is the agent's own user's",
    ),
];

fn capability((capability, without, why, then): &(Capability, Verdict, &str, &str)) -> Finding {
    let name = capability.to_string();
    if caps::has_cap(None, CapSet::Effective, *capability).unwrap_or(false) {
        return good(&name, format!("present ({why})"));
    }
    let says = format!("not present; it {why}: {then}");
    lacks(&name, *without, says, PRIVILEGE)
}

const PRIVILEGE: &str = "run as root, or give it with AmbientCapabilities= in the unit file, or with \
                  setcap cap_bpf,cap_net_admin,cap_perfmon,cap_sys_admin,cap_sys_ptrace,cap_sys_nice=ep on the binary";

/// A resource limit (`LimitRTPRIO=`) does as well as the capability.
fn scheduling() -> Finding {
    let what = Capability::CAP_SYS_NICE.to_string();
    let why = "runs the thread that leaves dead paths before others";
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_NICE).unwrap_or(false) {
        return good(&what, format!("present ({why})"));
    }
    let limit = getrlimit(Resource::RLIMIT_RTPRIO).map_or(0, |(soft, _)| soft);
    if limit >= priority::REAL_TIME.into() {
        return good(&what, format!("not present, but real-time priority {limit} is allowed ({why})"));
    }
    let says = format!("not present; it {why}: a saturated host leaves them later");
    lacks(&what, Verdict::Limited, says, PRIVILEGE)
}

fn kernel() -> Finding {
    let release = release();
    if KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(6, 1, 0)) {
        let says =
            format!("{release} has no bpf_ktime_get_tai_ns (6.1 and later do): the data plane does not load");
        return lacks("kernel", Verdict::Missing, says, "upgrade the kernel to 6.6 or later");
    }
    match Attach::of_this_kernel() {
        Attach::Tcx => good("kernel", format!("{release}, has tcx")),
        Attach::Clsact => lacks(
            "kernel",
            Verdict::Limited,
            format!("{release}, has no tcx (6.6 and later do): programs are attached as clsact filters"),
            "upgrade the kernel when there is an opportunity",
        ),
    }
}

fn bpffs(pins: &Path) -> Finding {
    let what = "bpffs";
    let Some(there) = pins.ancestors().find(|path| path.exists()) else {
        return lacks(what, Verdict::Missing, format!("{} leads nowhere", pins.display()), "set `pins`");
    };
    let on_bpffs = statfs(there).is_ok_and(|kind| kind.filesystem_type() == BPF_FS_MAGIC);
    if !on_bpffs {
        return lacks(
            what,
            Verdict::Missing,
            format!("{} is not on a bpffs", pins.display()),
            "mount -t bpf bpf /sys/fs/bpf (`ip netns exec` hides it: use nsenter --net)",
        );
    }
    if access(there, AccessFlags::W_OK).is_err() {
        return lacks(
            what,
            Verdict::Missing,
            format!("{} is not writable", there.display()),
            "run as root, or give the agent's user a directory there",
        );
    }
    good(what, format!("{} is usable", pins.display()))
}

fn btf() -> Finding {
    let path = "/sys/kernel/btf/vmlinux";
    if Path::new(path).exists() {
        return good("BTF", "the kernel has type information".into());
    }
    lacks(
        "BTF",
        Verdict::Limited,
        format!("{path} is not there; the programs load without it"),
        "a kernel with CONFIG_DEBUG_INFO_BTF gives better messages",
    )
}

fn udp(port: u16) -> Finding {
    let what = format!("UDP port {port}");
    match ports::holders(port) {
        Ok(holders) if holders.is_empty() => good(&what, "nobody else uses it".into()),
        Ok(holders) => lacks(
            &what,
            Verdict::Missing,
            format!("{} uses it; its packets would be dropped as unknown_label", holders.join(", ")),
            "remove it, or set another `port` on all hosts of the fabric",
        ),
        Err(error) => lacks(
            &what,
            Verdict::Limited,
            format!("whether somebody else uses it could not be found out: {error:#}"),
            "run it in the host's network namespace",
        ),
    }
}

/// Release of the running kernel.
pub fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_else(|_| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_no_bpffs_is_named_with_the_remedy() {
        let finding = bpffs(Path::new("/proc/nowhere/at/all"));
        assert_eq!(finding.verdict, Verdict::Missing);
        assert!(finding.to_string().contains("mount -t bpf"), "{finding}");
    }

    #[test]
    fn every_finding_that_is_not_good_has_a_remedy() {
        for finding in examine(Path::new("/sys/fs/bpf/x"), 4789) {
            assert_eq!(finding.verdict == Verdict::Good, finding.remedy.is_empty(), "{finding}");
        }
    }

    #[test]
    fn shaping_is_looked_at_where_the_owner_allows_it() {
        assert_eq!(shaping(&[]), []);
        // As root, the second line is about the interface; else the attempt fails, which limits as well.
        let findings = shaping(&["none".to_owned()]);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].verdict, findings[0].remedy.is_empty()), (Verdict::Limited, false));
    }

    #[test]
    fn a_port_that_somebody_else_holds_stops_the_agent_and_is_named() {
        let bound = std::net::UdpSocket::bind("0.0.0.0:0").expect("bound");
        let port = bound.local_addr().expect("an address").port();
        let findings = examine(Path::new("/sys/fs/bpf/x"), port);
        assert!(!can_work(&findings));
        let told = findings.iter().find(|finding| finding.what == format!("UDP port {port}"));
        assert!(told.expect("a finding").remedy.contains("`port`"));
    }

    #[test]
    fn one_missing_thing_is_enough_to_stop() {
        let fine = good("a", String::new());
        let less = lacks("b", Verdict::Limited, String::new(), "c");
        assert!(can_work(&[fine.clone(), less.clone()]));
        assert!(!can_work(&[fine, Finding { verdict: Verdict::Missing, ..less }]));
    }
}
