//! The kernel half: hooks, maps and packets.
mod door;
mod dry;
mod endpoint;
mod maps;
mod packet;
mod probe;
mod seal;
mod size;
mod tables;
mod trace;
mod transit;
mod underlay;
mod work;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use ebpf_abi::event::{HOOK_ENI, HOOK_SEAL, HOOK_UNDERLAY_TCX};
use ebpf_programs::bytes::Bytes;
use packet::{Frame, Skb};
use work::Work;

#[classifier]
fn eni_ingress(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    let Some(work) = Work::begin(HOOK_ENI, skb.ifindex(), skb.length()) else { return door::BROKEN };
    let result = endpoint::workload(&skb, work);
    door::tcx(&skb, result, &work.sight)
}

#[classifier]
fn underlay_ingress(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    let Some(work) = Work::begin(HOOK_UNDERLAY_TCX, skb.ifindex(), skb.length()) else { return door::BROKEN };
    let result = underlay::arrival(&skb, work);
    door::tcx(&skb, result, &work.sight)
}

#[classifier]
fn cipher_ingress(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    let Some(work) = Work::begin(HOOK_SEAL, skb.ifindex(), skb.length()) else { return door::BROKEN };
    let result = seal::encrypted(&skb, work);
    door::tcx(&skb, result, &work.sight)
}

#[classifier]
fn plain_ingress(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    let Some(work) = Work::begin(HOOK_SEAL, skb.ifindex(), skb.length()) else { return door::BROKEN };
    let result = seal::decrypted(&skb, work);
    door::tcx(&skb, result, &work.sight)
}

#[xdp(frags)]
fn underlay_xdp(ctx: XdpContext) -> u32 {
    let frame = Frame::new(ctx.ctx);
    match transit::arrival(&frame) {
        Ok(forward) => door::let_through(forward),
        Err(refusal) => refusal.verdict(&frame),
    }
}
