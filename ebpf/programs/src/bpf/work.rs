//! What a tcx program knows of the packet at hand, kept beside the stack: 512 bytes for a whole chain of calls do not hold
//! it (kernel 6.18: "combined stack size of 2 calls is 592").
use crate::bpf::door::Sight;
use crate::bpf::packet::scratch;
use crate::bpf::probe::Probe;
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use ebpf_abi::flow::Flow;
use ebpf_abi::label::LabelEntry;
use ebpf_programs::network::Network;
use ebpf_programs::transport::Transport;
use ebpf_programs::tunnel::Outer;

/// Fields are valid once the stage that fills them has run.
#[repr(C, align(8))]
pub(crate) struct Work {
    pub(crate) sight: Sight,
    pub(crate) network: Network,
    pub(crate) transport: Transport,
    /// With [`ebpf_abi::Reason::TooBig`]: bytes of the longest IP packet that would have passed.
    pub(crate) room: u32,
    pub(crate) outer: Outer,
    pub(crate) flow: Flow,
    pub(crate) entry: LabelEntry,
    pub(crate) probe: Probe,
}

#[btf_map]
static WORK: PerCpuArray<Work, 1> = PerCpuArray::new();

impl Work {
    /// This CPU's, with nothing known but where the packet came in.
    #[inline(always)]
    pub(crate) fn begin(hook: u8, ifindex: u32, length: u32) -> Option<&'static mut Self> {
        let work = scratch(WORK.get_ptr_mut(0))?;
        work.sight = Sight::of(hook, ifindex, length);
        Some(work)
    }
}
