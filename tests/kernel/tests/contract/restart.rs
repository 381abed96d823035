//! Whatever an agent leaves behind when it goes, the next one finds as it was.
use crate::world::{clear, ip, ip_in, names, put_all, within};
use agent_core::kernel_state::{Eni, Entry, EntryKey, Kernel, KernelState, Step};
use proto_model::resource::Attachment;
use tests_sim::contract::everything;

fn state(entries: &[Entry]) -> KernelState {
    entries.iter().map(|entry| (entry.key(), entry.clone())).collect()
}

#[test]
fn a_new_agent_observes_what_the_old_one_put() {
    within(|world| {
        let at = world.make("web");
        let entries = everything(&at);
        put_all(&mut world.linux(), &entries);
        for _ in 0..3 {
            assert_eq!(world.linux().observe().expect("observed"), state(&entries));
        }
        clear(&mut world.linux());
        assert_eq!(world.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn a_restart_keeps_every_interface_index_and_replaces_programs_in_place() {
    within(|world| {
        let at = world.make("web");
        put_all(&mut world.linux(), &everything(&at));
        let links = || (ip("-o link show group 26231"), ip_in(&at, "-o link"));
        assert!(filters("fw64400001").contains("eni_ingress"), "{}", filters("fw64400001"));
        let (before, pins) = (links(), world.pinned());
        put_all(&mut world.linux(), &everything(&at));
        assert_eq!(links(), before);
        assert_eq!(sorted(world.pinned()), sorted(pins));
        assert_eq!(filters("fw64400001").matches("handle 0x1").count(), 1, "replaced, not added");
        clear(&mut world.linux());
    });
}

#[test]
fn flows_of_an_interface_that_went_while_no_agent_ran_can_be_removed() {
    within(|world| {
        let at = world.make("web");
        put_all(&mut world.linux(), &everything(&at));
        ip("link del fw64400001");
        let mut linux = world.linux();
        let seen = linux.observe().expect("observed");
        assert!(seen.keys().all(|key| !matches!(key, EntryKey::Eni(host) if host.as_str() == "fw64400001")));
        assert!(
            seen.keys().any(|key| matches!(key, EntryKey::Flow(host, _) if host.as_str().starts_with("if")))
        );
        clear(&mut linux);
        assert_eq!(world.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn half_an_interface_is_seen_repaired_and_removed() {
    within(|world| {
        let at = world.make("web");
        let wanted = state(&everything(&at));
        let eni = EntryKey::Eni(agent_core::kernel_state::HostSide::named("fw64400001"));
        // As the first request of a creation leaves it: marked by its group, without alias, program and addresses.
        ip("link add fw64400001 group 26231 type veth peer name half0");
        let mut linux = world.linux();
        let seen = linux.observe().expect("observed");
        assert!(seen.contains_key(&eni) && seen.get(&eni) != wanted.get(&eni));
        linux.perform(&Step::Put(wanted[&eni].clone())).expect("repaired");
        assert_eq!(linux.observe().expect("observed").get(&eni), wanted.get(&eni));
        clear(&mut linux);
        ip("link add fw64400001 group 26231 type veth peer name half0");
        clear(&mut linux);
        assert_eq!(world.leftovers(), Vec::<String>::new());
        assert!(!names(&ip("-o link")).contains(&"half0".to_owned()));
    });
}

#[test]
fn an_interface_that_lost_its_address_differs_from_what_is_wanted() {
    within(|world| {
        let at = world.make("web");
        let wanted = state(&everything(&at));
        let eni = EntryKey::Eni(agent_core::kernel_state::HostSide::named("fw64400001"));
        for damage in ["addr flush dev ctr1", "link set ctr1 down", "link set ctr1 mtu 1300"] {
            put_all(&mut world.linux(), &everything(&at));
            ip_in(&at, damage);
            let mut linux = world.linux();
            assert_ne!(linux.observe().expect("observed").get(&eni), wanted.get(&eni), "{damage}");
            put_all(&mut linux, &everything(&at));
            assert_eq!(linux.observe().expect("observed"), wanted, "{damage}");
        }
        clear(&mut world.linux());
    });
}

/// What the maps say, without interfaces and routes.
fn circuits(state: &KernelState) -> KernelState {
    let of_maps = |key: &EntryKey| !matches!(key, EntryKey::Eni(_) | EntryKey::Route(..));
    state.clone().into_iter().filter(|(key, _)| of_maps(key)).collect()
}

#[test]
fn an_interface_whose_namespace_lost_its_name_is_kept_and_the_failure_told() {
    within(|world| {
        let at = world.make("web");
        let wanted = state(&everything(&at));
        let eni = EntryKey::Eni(agent_core::kernel_state::HostSide::named("fw64400001"));
        put_all(&mut world.linux(), &everything(&at));
        let before = ip("-o link show fw64400001");
        let Attachment::Path(path) = &at else { panic!("a namespace by path") };
        let alive = std::fs::File::open(path).expect("the namespace");
        world.unmake(&at);
        let mut linux = world.linux();
        let seen = linux.observe().expect("observed");
        let (Entry::Eni(there), Entry::Eni(want)) = (&seen[&eni], &wanted[&eni]) else { panic!("an ENI") };
        assert_eq!(Eni { mtu: want.mtu, ..there.clone() }, *want, "it can be put in place");
        assert_eq!(circuits(&seen), circuits(&wanted));
        let refusal = linux.perform(&Step::Put(wanted[&eni].clone())).expect_err("out of reach");
        assert!(refusal.contains("does not exist"), "{refusal}");
        assert_eq!(ip("-o link show fw64400001"), before);
        assert_eq!(circuits(&linux.observe().expect("observed")), circuits(&wanted));
        clear(&mut linux);
        drop(alive);
        assert_eq!(world.leftovers(), Vec::<String>::new());
    });
}

#[test]
fn damage_is_repaired_in_place_with_everything_bound_to_it() {
    within(|world| {
        let at = world.make("web");
        let wanted = state(&everything(&at));
        let eni = EntryKey::Eni(agent_core::kernel_state::HostSide::named("fw64400001"));
        for damage in ["addr flush dev ctr1", "link set ctr1 down", "link set ctr1 arp on"] {
            put_all(&mut world.linux(), &everything(&at));
            let before = names(&ip("-o link"));
            ip_in(&at, damage);
            let mut linux = world.linux();
            let seen = linux.observe().expect("observed");
            let (Entry::Eni(there), Entry::Eni(want)) = (&seen[&eni], &wanted[&eni]) else {
                panic!("an ENI")
            };
            assert_eq!(Eni { mtu: want.mtu, ..there.clone() }, *want, "{damage}");
            assert_ne!(there, want, "{damage}");
            assert_eq!(circuits(&seen), circuits(&wanted), "{damage}");
            linux.perform(&Step::Put(wanted[&eni].clone())).expect("repaired");
            assert_eq!(linux.made_anew(), [], "{damage}");
            assert_eq!(names(&ip("-o link")), before);
        }
        clear(&mut world.linux());
    });
}

fn filters(interface: &str) -> String {
    let output =
        std::process::Command::new("tc").args(["filter", "show", "dev", interface, "ingress"]).output();
    String::from_utf8_lossy(&output.expect("tc runs").stdout).into_owned()
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}
