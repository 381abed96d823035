//! The firewall's tables as kernel maps.
use crate::bpf::door::now;
use crate::bpf::dry::{self, dry};
use crate::bpf::maps::{CONNTRACK, FRAGMENTS, RULES, RULESETS};
use crate::bpf::packet::Slot;
use aya_ebpf::helpers::bpf_loop;
use core::ffi::c_void;
use core::ptr;
use ebpf_abi::conntrack::{Conn, ConnKey, Fragment, FragmentKey};
use ebpf_abi::rules::{PER_CIRCUIT, RuleSetRef};
use ebpf_programs::firewall::{Match, Tables};
use ebpf_programs::rules::Opening;

pub(crate) struct Kernel;

impl Tables for Kernel {
    type Slot = Slot<Conn>;

    #[inline(always)]
    fn now(&self) -> u64 {
        now()
    }

    #[inline(always)]
    fn rule_set(&self, circuit: u64) -> Option<RuleSetRef> {
        Slot::of(RULESETS.get_ptr_mut(&circuit)).map(|set| set.load())
    }

    #[inline(always)]
    fn first_match(&self, set: &RuleSetRef, opening: &Opening) -> Option<Match> {
        match scan(set, opening) {
            0 => None,
            found => {
                dry::ruled(found as u32);
                Some(Match { rule: found as u32, allow: found >> 32 == 2 })
            }
        }
    }

    #[inline(always)]
    fn connection(&self, key: &ConnKey) -> Option<Slot<Conn>> {
        Slot::of(CONNTRACK.get_ptr_mut(key))
    }

    #[inline(always)]
    fn load(&self, slot: &Slot<Conn>) -> Conn {
        let conn = slot.load();
        dry::belongs(&conn);
        conn
    }

    #[inline(always)]
    fn store(&self, slot: &Slot<Conn>, conn: &Conn) {
        if dry() {
            return;
        }
        slot.store(conn);
    }

    #[inline(always)]
    fn open(&self, key: &ConnKey, conn: &Conn) -> bool {
        if dry() {
            dry::would_open(conn.rule);
            return true;
        }
        CONNTRACK.insert(key, conn, 0).is_ok()
    }

    #[inline(always)]
    fn close(&self, key: &ConnKey) {
        if dry() {
            return;
        }
        // Gone already is as good.
        let _ = CONNTRACK.remove(key);
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        Slot::of(FRAGMENTS.get_ptr_mut(key)).map(|fragment| fragment.load())
    }

    #[inline(always)]
    fn remember(&self, key: &FragmentKey, fragment: &Fragment) -> bool {
        dry() || FRAGMENTS.insert(key, fragment, 0).is_ok()
    }

    #[inline(always)]
    fn forget(&self, key: &FragmentKey) {
        if dry() {
            return;
        }
        // Gone already is as good.
        let _ = FRAGMENTS.remove(key);
    }
}

/// A scan over the rows of one set, as it is handed to the loop's body.
#[repr(C, align(8))]
struct Scan {
    opening: Opening,
    start: u32,
    rule: u32,
    /// 0: nothing matched yet; 1: denied; 2: allowed.
    found: u32,
}

/// `bpf_loop` has the verifier look at the body once; a plain loop over 256 rows would be walked row by row (kernel
/// 6.18: over 20,000 instructions at each of the firewall's call sites).
///
/// Answers with the rule in the low half and, in the high half, 0 for no match, 1 for deny, 2 for allow.
#[inline(never)]
fn scan(set: &RuleSetRef, opening: &Opening) -> u64 {
    let mut scan = Scan { opening: *opening, start: set.start, rule: 0, found: 0 };
    let rows = if set.count > PER_CIRCUIT { PER_CIRCUIT } else { set.count };
    // SAFETY: the body has the signature that the helper wants, and `scan` outlives the call.
    unsafe { bpf_loop(rows, step as *mut c_void, ptr::from_mut(&mut scan).cast(), 0) };
    u64::from(scan.found) << 32 | u64::from(scan.rule)
}

/// One row; 1 ends the loop.
unsafe extern "C" fn step(index: u64, scan: *mut Scan) -> u64 {
    // SAFETY: the loop passes on the pointer that `scan` gave it.
    let scan = unsafe { &mut *scan };
    let Some(row) = Slot::of(RULES.get_ptr_mut(scan.start.wrapping_add(index as u32))) else { return 1 };
    let row = row.view();
    if !scan.opening.matches(row) {
        return 0;
    }
    scan.rule = row.id;
    scan.found = 1 + u32::from(row.allow == 1);
    1
}
