//! A process that a resource was registered with, and others under its number.
use crate::world::{clear, ip, within};
use agent_core::kernel_state::{Eni, Entry, EntryKey, HostSide, Kernel, Step};
use proto_model::resource::Attachment;
use std::process::{Child, Command};
use tests_sim::contract::everything;

/// A process in a namespace of its own; killed, whatever happens to the test.
struct Workload(Child);

impl Workload {
    fn start() -> Self {
        let child = Command::new("unshare").args(["--net", "sleep", "600"]).spawn().expect("unshare runs");
        let own = std::fs::read_link("/proc/thread-self/ns/net").expect("the own namespace");
        let there = format!("/proc/{}/ns/net", child.id());
        while std::fs::read_link(&there).expect("its namespace") == own {
            std::thread::yield_now();
        }
        Self(child)
    }

    fn eni(&self) -> Step {
        let at = Attachment::Process(self.0.id());
        let entry = everything(&at).into_iter().find(|entry| matches!(entry, Entry::Eni(_))).expect("an ENI");
        Step::Put(entry)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const HOST: &str = "fw64400001";

fn key() -> EntryKey {
    EntryKey::Eni(HostSide::named(HOST))
}

/// What the kernel keeps of the process, made to be that of one which started at another time.
fn age(workload: &Workload) {
    let start = alias().split_once("since=").expect("a start").1.split(' ').next().expect("ticks").to_owned();
    let other = alias().replace(&format!("since={start}"), "since=1");
    let status = Command::new("ip").args(["link", "set", HOST, "alias", &other]).status().expect("ip runs");
    assert!(status.success() && alias().ends_with(&format!("since=1 pid:{}", workload.0.id())));
}

fn alias() -> String {
    let shown = ip(&format!("-o link show {HOST}"));
    shown.split_once("alias ").expect("an alias").1.trim().to_owned()
}

#[test]
fn another_process_under_the_same_number_does_not_get_the_identity() {
    within(|world| {
        let workload = Workload::start();
        let step = workload.eni();
        let Step::Put(Entry::Eni(wanted)) = &step else { panic!("an ENI") };
        world.linux().perform(&step).expect("made");
        let mut linux = world.linux();
        assert_eq!(linux.observe().expect("observed").get(&key()), Some(&Entry::Eni(wanted.clone())));
        age(&workload);
        let mut linux = world.linux();
        let seen = linux.observe().expect("observed");
        let Some(Entry::Eni(there)) = seen.get(&key()) else { panic!("it is kept") };
        assert_eq!(Eni { mtu: wanted.mtu, ..there.clone() }, *wanted);
        assert_ne!(there, wanted);
        let refusal = linux.perform(&step).expect_err("another process");
        assert!(refusal.contains("is another one now"), "{refusal}");
        assert!(alias().contains("since=1"), "it is as it was");
        // Also when the interface went with the namespace of the process that it was made for.
        ip(&format!("link del {HOST}"));
        assert!(linux.perform(&step).is_err());
        assert_eq!(world.leftovers(), Vec::<String>::new());
        // Registered again.
        linux.perform(&Step::Remove(key())).expect("removed");
        linux.perform(&step).expect("made for the process of today");
        clear(&mut linux);
        assert_eq!(world.leftovers(), Vec::<String>::new());
    });
}
