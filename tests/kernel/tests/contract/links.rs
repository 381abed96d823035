//! What an ENI looks like from outside, and what the agent leaves alone.
use crate::world::{clear, inside, ip, ip_in, names, put_all, within};
use agent_core::kernel_state::{Eni, Entry, Kernel, Step};
use agent_daemon::kernel::Linux;
use proto_model::resource::Attachment;
use std::os::unix::fs::symlink;
use tests_sim::contract::everything;

/// The interface in the namespace.
fn web(at: &Attachment) -> Entry {
    let wanted = |entry: &Entry| matches!(entry, Entry::Eni(eni) if eni.attachment == *at);
    everything(at).into_iter().find(wanted).expect("an ENI there")
}

#[test]
fn foreign_interfaces_addresses_and_routes_stay_as_they_are() {
    within(|world| {
        let at = world.make("web");
        ip("link add fw64400001 type veth peer name other");
        ip("addr add 198.51.100.1/24 dev under0");
        ip("route add 203.0.113.0/24 via 192.0.2.9");
        ip_in(&at, "link set lo up");
        ip_in(&at, "link add eth0 type veth peer name eth1");
        let picture = || (ip("-o -d addr"), ip("route show table all"), ip("rule"), ip_in(&at, "-o addr"));
        let before = picture();
        let mut linux = world.linux();
        let refusal = linux.perform(&Step::Put(web(&at))).expect_err("the name is taken");
        assert!(refusal.contains("not the fabric's"), "{refusal}");
        assert!(linux.perform(&Step::Remove(web(&at).key())).is_err(), "it is not ours to remove");
        ip("link del fw64400001");
        put_all(&mut linux, &everything(&at));
        clear(&mut linux);
        ip("link add fw64400001 type veth peer name other");
        let strip = |text: &str| text.split_once("fw64400001").map_or(text, |(head, _)| head).len();
        assert_eq!((picture().1, picture().2, picture().3), (before.1, before.2, before.3));
        assert_eq!(strip(&picture().0), strip(&before.0));
    });
}

#[test]
fn an_eni_has_its_addresses_and_nothing_else() {
    within(|world| {
        let at = world.make("web");
        let mut linux = world.linux();
        put_all(&mut linux, &everything(&at));
        let inside = ip_in(&at, "-o addr show dev ctr1");
        assert!(inside.contains("100.64.0.1/32") && inside.contains("/128"), "{inside}");
        assert!(!inside.contains("fe80") && !inside.contains("tentative"), "no link-local address: {inside}");
        let link = ip_in(&at, "-o link show dev ctr1");
        assert!(
            link.contains("NOARP") && link.contains("mtu 1450") && link.contains("02:fb:64:40:00:01"),
            "{link}"
        );
        let host = ip("-o -d link show dev fw64400001");
        assert!(
            host.contains("NOARP") && host.contains("mtu 1450") && host.contains("02:fa:64:40:00:01"),
            "{host}"
        );
        assert!(host.contains("foreweave:contract-1"), "{host}");
        assert!(ip("-o addr show dev fw64400001").is_empty(), "the host side has no address");
        let routes = ip_in(&at, "route show proto 187") + &ip_in(&at, "-6 route show proto 187");
        assert!(routes.contains("100.64.0.9 dev ctr1") && routes.contains("dev ctr1"), "{routes}");
        clear(&mut linux);
    });
}

#[test]
fn ipv6_that_is_switched_off_is_switched_on_for_the_eni_alone() {
    within(|world| {
        let at = world.make("web");
        ip_in(&at, "link add eth0 type veth peer name eth1");
        switch_off(&at);
        let mut linux = world.linux();
        put_all(&mut linux, &everything(&at));
        assert!(ip_in(&at, "-6 -o addr show dev ctr1").contains("/128"));
        let own = disabled(&at, "eth0");
        assert_eq!((own.as_str(), disabled(&at, "ctr1").as_str()), ("1", "0"));
        clear(&mut linux);
    });
}

fn switch_off(at: &Attachment) {
    inside(at, "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $f; done");
}

fn disabled(at: &Attachment, interface: &str) -> String {
    inside(at, &format!("cat /proc/sys/net/ipv6/conf/{interface}/disable_ipv6")).trim().to_owned()
}

#[test]
fn an_interface_name_that_is_taken_inside_leaves_nothing_half_done() {
    within(|world| {
        let at = world.make("web");
        ip_in(&at, "link add ctr1 type veth peer name ctr9");
        let mut linux = world.linux();
        let refusal = linux.perform(&Step::Put(web(&at))).expect_err("the name is taken");
        assert!(refusal.contains("ctr1"), "{refusal}");
        assert_eq!(world.leftovers(), Vec::<String>::new());
        assert_eq!(names(&ip_in(&at, "-o link")), ["lo", "ctr9", "ctr1"]);
    });
}

#[test]
fn a_mtu_that_the_kernel_refuses_leaves_nothing_half_done() {
    within(|world| {
        let at = world.make("web");
        let mut linux = world.linux();
        let Entry::Eni(eni) = web(&at) else { panic!("an ENI") };
        let small = Entry::Eni(Eni { mtu: 20, ..eni });
        let refusal = linux.perform(&Step::Put(small)).expect_err("an MTU of 20 bytes");
        assert!(!refusal.is_empty());
        assert_eq!(world.leftovers(), Vec::<String>::new());
        assert!(linux.observe().expect("observed").is_empty());
    });
}

#[test]
fn an_interface_without_ipv6_carries_ipv4_and_is_whole() {
    within(|world| {
        let at = world.make("web");
        let mut linux = world.linux();
        let Entry::Eni(eni) = web(&at) else { panic!("an ENI") };
        // Below IPv6's least MTU the kernel gives an interface none, and refuses what it refuses with ipv6.disable=1.
        let small = Entry::Eni(Eni { mtu: 1_200, ..eni.clone() });
        let of_it = |entry: &Entry| matches!(entry, Entry::Route(route) if route.host == eni.host);
        let routes: Vec<Entry> = everything(&at).into_iter().filter(of_it).collect();
        put_all(&mut linux, std::slice::from_ref(&small));
        put_all(&mut linux, &routes);
        assert_eq!(ip_in(&at, "-6 -o addr show dev ctr1"), "");
        assert!(ip_in(&at, "-o addr show dev ctr1").contains("100.64.0.1/32"));
        let wanted: Vec<Entry> = std::iter::once(small).chain(routes).collect();
        let wanted: agent_core::kernel_state::KernelState =
            wanted.into_iter().map(|entry| (entry.key(), entry)).collect();
        for mut linux in [linux, world.linux()] {
            assert_eq!(linux.observe().expect("observed"), wanted);
        }
        clear(&mut world.linux());
    });
}

#[test]
fn a_foreign_pin_is_named_and_kept() {
    within(|world| {
        drop(world.linux());
        let (flows, hops) = (world.pins().join("map_flows"), world.pins().join("map_next_hops"));
        std::fs::remove_file(&flows).expect("removed");
        // Another map under this name: not one of this layout, and not of this name.
        std::fs::rename(&hops, &flows).expect("renamed");
        let refusal = format!("{:#}", Linux::open(&world.options()).map(|_| ()).expect_err("a foreign pin"));
        assert!(refusal.contains("map_flows") && refusal.contains("NEXT_HOPS"), "{refusal}");
        assert!(flows.exists(), "it is not ours to remove");
        std::fs::remove_file(&flows).expect("removed");
        symlink("/nowhere", &flows).expect("a link to nowhere");
        drop(Linux::open(&world.options()));
        std::fs::remove_file(&flows).ok();
    });
}

#[test]
fn a_pin_of_another_build_is_made_anew() {
    within(|world| {
        drop(world.linux());
        let pin = world.pins().join("map_locals");
        std::fs::remove_file(&pin).expect("removed");
        // Same name in the kernel, another size.
        let status = std::process::Command::new("bpftool")
            .args(["map", "create"])
            .arg(&pin)
            .args(["type", "hash", "key", "16", "value", "4", "entries", "7", "name", "LOCALS"])
            .status()
            .expect("bpftool runs");
        assert!(status.success());
        let mut linux = world.linux();
        assert!(linux.observe().expect("observed").is_empty());
        let shown = std::process::Command::new("bpftool").args(["map", "show", "pinned"]).arg(&pin).output();
        let shown = String::from_utf8_lossy(&shown.expect("bpftool runs").stdout).into_owned();
        assert!(shown.contains("max_entries 256"), "{shown}");
    });
}
