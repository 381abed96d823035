//! The packet generator of the benchmarks: an XDP program that writes every frame anew, and one that counts and drops what
//! comes out at the other end. Built beside the data plane, never shipped.
//!
//! Frames of `BPF_F_TEST_XDP_LIVE_FRAMES` come back with whatever the path did to them, so nothing may be left over from
//! the last round.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", expect(unsafe_code, reason = "frames and map values, by pointer"))]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod bpf {
    use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP};
    use aya_ebpf::btf_maps::{Array, PerCpuArray};
    use aya_ebpf::helpers::bpf_redirect;
    use aya_ebpf::macros::{btf_map, xdp};
    use aya_ebpf::programs::XdpContext;

    /// Words of a frame's head that are written; a VXLAN header over IPv4 ends two bytes into the seventh.
    const WORDS: usize = 8;
    /// Where the VNI and the byte after it are.
    const LABEL: usize = 46;

    #[repr(C)]
    pub(crate) struct Plan {
        head: [u64; WORDS],
        /// Labels 1 to this, in a scattered order.
        labels: u32,
        /// Where to send.
        ifindex: u32,
    }

    #[btf_map]
    static PLAN: Array<Plan, 1> = Array::new();
    #[btf_map]
    static STATE: PerCpuArray<u64, 1> = PerCpuArray::new();
    #[btf_map]
    static SUNK: PerCpuArray<u64, 1> = PerCpuArray::new();

    #[xdp]
    fn generate(ctx: XdpContext) -> u32 {
        let Some(plan) = PLAN.get(0) else { return XDP_ABORTED };
        let Some(state) = STATE.get_ptr_mut(0) else { return XDP_ABORTED };
        let data = ctx.data();
        if data + WORDS * 8 > ctx.data_end() {
            return XDP_ABORTED;
        }
        // SAFETY: within the bounds just checked; the machines that this runs on write unaligned words.
        unsafe {
            *state = (*state).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let scattered = (*state >> 33) as u32;
            let label = if plan.labels == 0 { 0 } else { scattered % plan.labels + 1 };
            for i in 0..WORDS {
                *((data + i * 8) as *mut u64) = plan.head[i];
            }
            *((data + LABEL) as *mut u32) = (label << 8).to_be();
            bpf_redirect(plan.ifindex, 0) as u32
        }
    }

    #[xdp]
    fn sink(_: XdpContext) -> u32 {
        if let Some(sunk) = SUNK.get_ptr_mut(0) {
            // SAFETY: this CPU's own counter.
            unsafe { *sunk += 1 };
        }
        XDP_DROP
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
