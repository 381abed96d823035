//! Addresses as machine words: the BPF back end of LLVM has no unaligned access, and goes byte by byte through arrays of
//! bytes unless it is shown the words.
use ebpf_abi::Address;

/// The two halves in memory order.
#[inline(always)]
pub fn halves(address: &Address) -> [u64; 2] {
    zerocopy::transmute!(*address)
}

/// An address of its halves in memory order.
#[inline(always)]
pub fn join(halves: [u64; 2]) -> Address {
    zerocopy::transmute!(halves)
}

/// The four quarters in memory order.
#[inline(always)]
pub fn quarters(address: &Address) -> [u32; 4] {
    zerocopy::transmute!(*address)
}

#[inline(always)]
pub fn same(one: &Address, other: &Address) -> bool {
    let ([a, b], [c, d]) = (halves(one), halves(other));
    (a ^ c) | (b ^ d) == 0
}
