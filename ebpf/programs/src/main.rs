//! The BPF object: on the host an empty program, so that `cargo build --workspace` works everywhere.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod bpf {
    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }
    #[aya_ebpf::macros::xdp]
    pub fn underlay_xdp(_ctx: aya_ebpf::programs::XdpContext) -> u32 {
        2
    }
}
