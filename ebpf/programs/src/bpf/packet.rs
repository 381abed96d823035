//! The only unsafe door: every byte of a packet and of a map value goes through here, bounds checked.
use crate::bpf::dry;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L2_ETH,
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
    BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_REDIRECT,
    bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, xdp_action, xdp_md,
};
use aya_ebpf::helpers::{
    bpf_check_mtu, bpf_l4_csum_replace, bpf_loop, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer,
    bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_change_type, bpf_skb_load_bytes, bpf_skb_store_bytes,
    bpf_xdp_load_bytes,
};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;
use ebpf_abi::{Reason, share};
use ebpf_programs::bytes::Bytes;
use ebpf_programs::headers::Ethernet;
use ebpf_programs::segment::Options;
use ebpf_programs::too_big::Quote;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// 1 when the agent loads the programs to ask them, not to forward; see `dry.rs`. A constant for the verifier, which cuts
/// out what cannot be reached.
#[unsafe(no_mangle)]
static DRY: u32 = 0;

#[inline(always)]
pub(crate) fn dry() -> bool {
    // SAFETY: a static, read so that the compiler does not take it for the 0 that stands above.
    unsafe { ptr::read_volatile(&raw const DRY) != 0 }
}

/// Raw packet types (`linux/if_packet.h`).
const PACKET_HOST: u32 = 0;
const PACKET_OTHERHOST: u32 = 3;

/// A frame at a tcx hook. Its headers may lie in fragments of the buffer, so they are read by the kernel's own copy,
/// which leaves superpackets whole and needs no pull.
pub(crate) struct Skb(*mut __sk_buff);

impl Skb {
    pub(crate) const fn new(skb: *mut __sk_buff) -> Self {
        Self(skb)
    }

    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: the kernel hands the program a valid context; the verifier checks the field.
        unsafe { (*self.0).ifindex }
    }

    /// Whether a VLAN tag was taken out of the frame into its metadata.
    #[inline(always)]
    pub(crate) fn has_vlan_tag(&self) -> bool {
        // SAFETY: as `ifindex`.
        unsafe { (*self.0).vlan_present != 0 }
    }

    /// Whether the frame is addressed to another machine and only overheard.
    #[inline(always)]
    pub(crate) fn is_overheard(&self) -> bool {
        // SAFETY: as `ifindex`.
        unsafe { (*self.0).pkt_type == PACKET_OTHERHOST }
    }

    /// Bytes of payload per segment of a superpacket; 0 for a plain packet.
    #[inline(always)]
    pub(crate) fn segment(&self) -> u32 {
        // SAFETY: as `ifindex`.
        unsafe { (*self.0).gso_size }
    }

    /// The workload addressed the frame to its own MAC (its interface has no ARP), so the kernel took it for somebody
    /// else's; the namespace that it is handed to must not.
    #[inline(always)]
    pub(crate) fn claim(&self) {
        // SAFETY: plain helper call. It can only refuse types that a received frame does not have.
        unsafe { bpf_skb_change_type(self.0, PACKET_HOST) };
    }

    #[inline(always)]
    pub(crate) fn write<T: IntoBytes + Immutable>(&self, at: u32, header: &T) -> Result<(), Reason> {
        // SAFETY: the source is a live value of that size; the kernel checks the range in the frame.
        let result = unsafe {
            bpf_skb_store_bytes(self.0, at, ptr::from_ref(header).cast(), size_of::<T>() as u32, 0)
        };
        if result == 0 { Ok(()) } else { Err(Reason::HelperFailed) }
    }

    /// Reads into a place beside the stack, which has no room for long headers.
    #[inline(always)]
    pub(crate) fn fill<T: FromBytes>(&self, at: u32, place: &mut T) -> Result<(), Reason> {
        // SAFETY: the helper writes at most all of `place`; any bytes are a valid `T`.
        let result = unsafe {
            bpf_skb_load_bytes(self.0.cast(), at, ptr::from_mut(place).cast(), size_of::<T>() as u32)
        };
        if result == 0 { Ok(()) } else { Err(Reason::Truncated) }
    }

    /// The first bytes, as many as the frame has, into a place that holds no less than `N`; how many.
    #[inline(always)]
    pub(crate) fn copy<const N: usize>(&self, place: &mut [u8; N]) -> u32 {
        let length = at_most::<N>(Bytes::length(self));
        // SAFETY: the helper writes `length` bytes, at most all of `place`.
        let result = unsafe { bpf_skb_load_bytes(self.0.cast(), 0, place.as_mut_ptr().cast(), length) };
        if result == 0 { length } else { 0 }
    }

    /// Makes room for outer headers of this length between the MAC header and the IP header. The segment size stays as
    /// it is: the workload's MTU already leaves room for them.
    #[inline(always)]
    pub(crate) fn grow(&self, by: u32, family: u8) -> Result<(), Reason> {
        let layer3 = if family == 4 { BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 } else { BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 };
        let flags = u64::from(
            layer3 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH | BPF_F_ADJ_ROOM_FIXED_GSO,
        ) | aya_ebpf::bpf_f_adj_room_encap_l2(u64::from(Ethernet::LENGTH));
        self.adjust(by as i32, flags)
    }

    /// Takes outer headers of this length out again; `family` is the inner packet's.
    #[inline(always)]
    pub(crate) fn shrink(&self, by: u32, family: u8) -> Result<(), Reason> {
        let layer3 = if family == 4 { BPF_F_ADJ_ROOM_DECAP_L3_IPV4 } else { BPF_F_ADJ_ROOM_DECAP_L3_IPV6 };
        self.adjust(-(by as i32), u64::from(layer3 | BPF_F_ADJ_ROOM_FIXED_GSO))
    }

    #[inline(always)]
    fn adjust(&self, by: i32, flags: u64) -> Result<(), Reason> {
        // SAFETY: plain helper call; nothing here keeps pointers into the frame across it.
        let result = unsafe { bpf_skb_adjust_room(self.0, by, BPF_ADJ_ROOM_MAC, flags) };
        if result == 0 { Ok(()) } else { Err(Reason::HelperFailed) }
    }

    /// Makes room between the MAC header and the IP header of a plain packet.
    #[inline(always)]
    pub(crate) fn widen(&self, by: u32) -> Result<(), Reason> {
        self.adjust(by as i32, u64::from(BPF_F_ADJ_ROOM_FIXED_GSO))
    }

    /// Cuts the frame off behind so many bytes. A superpacket is a plain one after that.
    #[inline(always)]
    pub(crate) fn cut(&self, length: u32) -> Result<(), Reason> {
        // SAFETY: plain helper call; nothing here keeps pointers into the frame across it.
        let result = unsafe { bpf_skb_change_tail(self.0, length, 0) };
        if result == 0 { Ok(()) } else { Err(Reason::HelperFailed) }
    }

    /// Whether the interface exists and takes the frame once it is `longer` bytes longer. Superpackets always fit:
    /// their segments were sized by the workload's MTU.
    #[inline(always)]
    pub(crate) fn fits(&self, ifindex: u32, longer: i32) -> Result<(), Reason> {
        self.checked(ifindex, longer).map(|_| ())
    }

    /// Bytes of an IP packet that the interface takes; of the frame itself nothing is asked.
    #[inline(always)]
    pub(crate) fn room(&self, ifindex: u32) -> Result<u32, Reason> {
        // Less than nothing always fits: what is left to decide is the caller's.
        self.checked(ifindex, -(self.length() as i32))
    }

    /// The interface's MTU, if the frame fits.
    #[inline(always)]
    fn checked(&self, ifindex: u32, longer: i32) -> Result<u32, Reason> {
        const ENODEV: i64 = -19;
        let mut mtu = 0u32;
        // SAFETY: the helper writes one u32 into `mtu`.
        let result = unsafe { bpf_check_mtu(self.0.cast(), ifindex, &raw mut mtu, longer, 0) };
        match result {
            0 => Ok(mtu),
            ENODEV => Err(Reason::NoInterface),
            1.. => Err(Reason::TooBig),
            _ => Err(Reason::HelperFailed),
        }
    }

    /// Corrects the UDP checksum at `at` by the difference that a label swap made; `pseudo` for addresses.
    #[inline(always)]
    pub(crate) fn correct(&self, at: u32, difference: u32, pseudo: bool) -> Result<(), Reason> {
        let flags =
            u64::from(if pseudo { BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0 } else { BPF_F_MARK_MANGLED_0 });
        // SAFETY: plain helper call; size 0 means that `to` is a difference of checksums.
        let result = unsafe { bpf_l4_csum_replace(self.0, at, 0, u64::from(difference), flags) };
        if result == 0 { Ok(()) } else { Err(Reason::HelperFailed) }
    }

    /// Corrects the TCP checksum at `at` by the difference that a changed option made. Zero is a sum like any other there.
    #[inline(always)]
    pub(crate) fn correct_tcp(&self, at: u32, difference: u32) -> Result<(), Reason> {
        // SAFETY: as `correct`.
        let result = unsafe { bpf_l4_csum_replace(self.0, at, 0, u64::from(difference), 0) };
        if result == 0 { Ok(()) } else { Err(Reason::HelperFailed) }
    }

    /// All options of a TCP header.
    #[inline(always)]
    pub(crate) fn walk(&self, way: Options) -> Options {
        let mut under = Under { skb: Self(self.0), way };
        // SAFETY: the body has the signature that the helper wants, and `under` outlives the call.
        unsafe { bpf_loop(Options::MOST, option as *mut c_void, ptr::from_mut(&mut under).cast(), 0) };
        under.way
    }

    /// All blocks of what an error quotes.
    #[inline(always)]
    pub(crate) fn sum_up(&self, way: Quote) -> Quote {
        let mut under = Under { skb: Self(self.0), way };
        // SAFETY: as in `walk`.
        unsafe { bpf_loop(Quote::MOST, block as *mut c_void, ptr::from_mut(&mut under).cast(), 0) };
        under.way
    }

    /// The class in which it waits where the interface that it leaves by is shaped.
    #[inline(always)]
    pub(crate) fn classify(&self, class: u16) {
        // SAFETY: as `ifindex`; programs at tcx may write this field.
        unsafe { (*self.0).priority = share::priority(class) };
    }

    /// Out of an interface, the link layer being complete.
    #[inline(always)]
    pub(crate) fn send(&self, ifindex: u32) -> Result<i32, Reason> {
        dry::sent(ifindex);
        // SAFETY: plain helper call.
        redirected(unsafe { bpf_redirect(ifindex, 0) })
    }

    /// Out of an interface; the kernel resolves the neighbour.
    #[inline(always)]
    pub(crate) fn send_resolving(&self, ifindex: u32) -> Result<i32, Reason> {
        dry::sent(ifindex);
        // SAFETY: without parameters the helper takes the next hop from the frame's own IP header.
        redirected(unsafe { bpf_redirect_neigh(ifindex, ptr::null_mut(), 0, 0) })
    }

    /// Into the namespace at the other side of a veth pair.
    #[inline(always)]
    pub(crate) fn hand_over(&self, ifindex: u32) -> Result<i32, Reason> {
        dry::sent(ifindex);
        // SAFETY: plain helper call.
        redirected(unsafe { bpf_redirect_peer(ifindex, 0) })
    }
}

#[inline(always)]
fn redirected(verdict: i64) -> Result<i32, Reason> {
    if verdict == TC_ACT_REDIRECT as i64 { Ok(TC_ACT_REDIRECT as i32) } else { Err(Reason::HelperFailed) }
}

/// A packet and how far it has been looked at, as they are handed to a loop's body.
#[repr(C, align(8))]
struct Under<T> {
    skb: Skb,
    way: T,
}

/// One option; 1 ends the loop.
unsafe extern "C" fn option(_: u64, under: *mut Under<Options>) -> u64 {
    // SAFETY: the loop passes on the pointer that `walk` gave it.
    let Under { skb, way } = unsafe { &mut *under };
    u64::from(way.step(skb))
}

/// One block; 1 ends the loop.
unsafe extern "C" fn block(_: u64, under: *mut Under<Quote>) -> u64 {
    // SAFETY: the loop passes on the pointer that `sum_up` gave it.
    let Under { skb, way } = unsafe { &mut *under };
    u64::from(way.step(skb))
}

impl Bytes for Skb {
    #[inline(always)]
    fn read<T: FromBytes>(&self, at: u32) -> Option<T> {
        let mut header = Aligned(MaybeUninit::<T>::uninit());
        // SAFETY: the helper fills all of `header`, or fails; any bytes are a valid `T`.
        unsafe {
            let result =
                bpf_skb_load_bytes(self.0.cast(), at, header.0.as_mut_ptr().cast(), size_of::<T>() as u32);
            (result == 0).then(|| header.0.assume_init())
        }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: as `ifindex`.
        unsafe { (*self.0).len }
    }
}

/// On the stack, so that copies out of it go by words instead of bytes.
#[repr(C, align(8))]
struct Aligned<T>(MaybeUninit<T>);

/// A frame at the XDP hook: direct access, constant offsets only.
pub(crate) struct Frame(*mut xdp_md);

impl Frame {
    pub(crate) const fn new(frame: *mut xdp_md) -> Self {
        Self(frame)
    }

    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: the kernel hands the program a valid context; the verifier checks the field.
        unsafe { (*self.0).ingress_ifindex }
    }

    /// Bytes in the linear part, which on a plain frame is all of it.
    #[inline(always)]
    pub(crate) fn length(&self) -> u32 {
        // SAFETY: as `ifindex`.
        unsafe { (*self.0).data_end - (*self.0).data }
    }

    /// The first `N` bytes, none when the frame is shorter.
    #[inline(always)]
    pub(crate) fn head<const N: usize>(&self) -> Option<Head<N>> {
        // SAFETY: as `ifindex`.
        let (data, end) = unsafe { ((*self.0).data as usize, (*self.0).data_end as usize) };
        if data + N > end { None } else { Some(Head(data as *mut u8)) }
    }

    /// As [`Skb::copy`], also of a frame in several buffers.
    #[inline(always)]
    pub(crate) fn copy<const N: usize>(&self, place: &mut [u8; N]) -> u32 {
        let length = at_most::<N>(self.length());
        // SAFETY: the helper writes `length` bytes, at most all of `place`.
        let result = unsafe { bpf_xdp_load_bytes(self.0, 0, place.as_mut_ptr().cast(), length) };
        if result == 0 { length } else { 0 }
    }

    #[inline(always)]
    pub(crate) fn send(&self, ifindex: u32) -> Result<i32, Reason> {
        dry::sent(ifindex);
        // SAFETY: plain helper call.
        let verdict = unsafe { bpf_redirect(ifindex, 0) };
        if verdict == i64::from(xdp_action::XDP_REDIRECT) {
            Ok(xdp_action::XDP_REDIRECT as i32)
        } else {
            Err(Reason::HelperFailed)
        }
    }
}

/// `N` bytes of a frame whose presence has been checked. Offsets are constants, checked when this is compiled.
///
/// The kernel allows unaligned words in packets where the machine does, Rust does not; so words go through inline
/// assembly, not through a reference. Bytewise access costs XDP about a third of its speed.
#[derive(Clone, Copy)]
pub(crate) struct Head<const N: usize>(*mut u8);

macro_rules! word_access {
    ($load:ident, $store:ident, $int:ty, $size:literal) => {
        #[inline(always)]
        pub(crate) fn $load<const AT: usize>(self) -> $int {
            const { assert!(AT + size_of::<$int>() <= N) };
            let word: u64;
            // SAFETY: within the `N` bytes that `Frame::head` found.
            unsafe {
                core::arch::asm!(
                    concat!("{word} = *(", $size, " *)({base} + {at})"),
                    word = out(reg) word, base = in(reg) self.0, at = const AT,
                    options(nostack, preserves_flags, readonly)
                );
            }
            word as $int
        }

        #[inline(always)]
        pub(crate) fn $store<const AT: usize>(self, value: $int) {
            const { assert!(AT + size_of::<$int>() <= N) };
            // SAFETY: within the `N` bytes that `Frame::head` found.
            unsafe {
                core::arch::asm!(
                    concat!("*(", $size, " *)({base} + {at}) = {word}"),
                    word = in(reg) u64::from(value), base = in(reg) self.0, at = const AT,
                    options(nostack, preserves_flags)
                );
            }
        }
    };
}

impl<const N: usize> Head<N> {
    word_access!(load8, store8, u8, "u8");
    word_access!(load16, store16, u16, "u16");
    word_access!(load32, store32, u32, "u32");
    word_access!(load64, store64, u64, "u64");
}

/// From 1 to `N`, a power of two, in steps that the compiler does not see through: it would leave out what it knows to be
/// needless, and the verifier knows nothing of a difference of pointers (kernel 6.18: "R4 min value is negative", then
/// "invalid zero-sized read"). An empty frame has no first byte to copy either; the helper says so.
#[inline(always)]
fn at_most<const N: usize>(length: u32) -> u32 {
    const { assert!(N.is_power_of_two()) };
    let mut bounded = u64::from(if length > N as u32 { N as u32 } else { length });
    // SAFETY: arithmetic on one register.
    unsafe {
        core::arch::asm!("{length} += -1", "{length} &= {mask}", "{length} += 1",
            length = inout(reg) bounded, mask = const { N - 1 }, options(nostack, nomem, preserves_flags));
    }
    bounded as u32
}

/// A record of a ring buffer, written where it lies: it is too long for the stack.
#[inline(always)]
pub(crate) fn in_place<T: FromBytes>(record: &mut MaybeUninit<T>) -> &mut T {
    // SAFETY: the kernel's memory, of which any bytes are a valid `T`.
    unsafe { record.assume_init_mut() }
}

/// This CPU's scratch value, which no other program can touch while this one runs: hooks of one CPU do not nest.
#[inline(always)]
pub(crate) fn scratch<T>(found: Option<*mut T>) -> Option<&'static mut T> {
    // SAFETY: the kernel's pointer is valid until the program ends; nobody else has it (see above).
    found.map(|value| unsafe { &mut *value })
}

/// A map value that was found, by the pointer that the kernel gave.
pub(crate) struct Slot<T>(*mut T);

impl<T: Copy> Slot<T> {
    #[inline(always)]
    pub(crate) fn of(found: Option<*mut T>) -> Option<Self> {
        found.map(Self)
    }

    /// A copy, so that a change under way elsewhere cannot be seen twice in two shapes.
    #[inline(always)]
    pub(crate) fn load(&self) -> T {
        // SAFETY: a value of a map stays readable until the program ends.
        unsafe { *self.0 }
    }

    #[inline(always)]
    pub(crate) fn store(&self, value: &T) {
        // SAFETY: as `load`; two CPUs may write one value at once, and either result is good.
        unsafe { *self.0 = *value }
    }

    /// A counter of several CPUs that lies at the start of the value.
    #[inline(always)]
    pub(crate) fn shared(&self) -> Shared {
        const { assert!(size_of::<T>() >= 8 && align_of::<T>() == 8) };
        Shared(self.0.cast())
    }

    /// Read in place: for values whose writers put them where no packet looks before they point to them.
    #[inline(always)]
    pub(crate) fn view(&self) -> &T {
        // SAFETY: as `load`.
        unsafe { &*self.0 }
    }

    /// Changes in place: for values that only this CPU writes, or whose loss of one count is bearable.
    #[inline(always)]
    pub(crate) fn update(&self, change: impl FnOnce(&mut T)) {
        // SAFETY: as `load`.
        change(unsafe { &mut *self.0 });
    }
}

/// A word that several CPUs change at once.
pub(crate) struct Shared(*mut u64);

impl Shared {
    #[inline(always)]
    pub(crate) fn load(&self) -> u64 {
        // SAFETY: a value of a map stays readable until the program ends.
        unsafe { ptr::read_volatile(self.0) }
    }

    #[inline(always)]
    pub(crate) fn store(&self, value: u64) {
        // SAFETY: as `load`; values of these maps may be written by every program.
        unsafe { ptr::write_volatile(self.0, value) };
    }

    /// Inline, because the target's atomics in Rust stop at loads and stores.
    #[inline(always)]
    pub(crate) fn add(&self, more: u64) {
        // SAFETY: as `load`; one atomic instruction of the first instruction set.
        unsafe {
            core::arch::asm!(
                "lock *(u64 *)({base} + 0) += {more}",
                base = in(reg) self.0, more = in(reg) more,
                options(nostack, preserves_flags)
            );
        }
    }
}
