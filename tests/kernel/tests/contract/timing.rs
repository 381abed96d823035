//! temporary
use crate::world::within;
use agent_core::kernel_state::{Entry, Kernel, Step};
use agent_daemon::kernel::{Attach, Linux, Options};
use tests_sim::contract::everything;
#[test]
fn timing() {
    for attach in [Attach::Tcx, Attach::Clsact] {
        within(|world| {
            let at = world.make("web");
            let mut linux = Linux::open(&Options { attach, ..world.options() }).expect("opens");
            let entry = everything(&at)
                .into_iter()
                .find(|e| matches!(e, Entry::Eni(eni) if eni.attachment == at))
                .unwrap();
            let mut times = Vec::new();
            for _ in 0..20 {
                let t = std::time::Instant::now();
                linux.perform(&Step::Put(entry.clone())).expect("put");
                times.push(t.elapsed());
                linux.perform(&Step::Remove(entry.key())).expect("removed");
            }
            times.sort();
            println!("{attach:?} p50 {:?} max {:?}", times[10], times[19]);
        });
    }
}
