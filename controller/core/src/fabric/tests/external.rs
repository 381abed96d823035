//! Circuits of which one end is a plain VXLAN device.
use crate::fabric::world::{World, name, request};
use proto_model::circuit::Circuit;
use proto_model::desired::{Endpoint, Leg, Object, ObjectKey, Side};
use proto_model::request::{CircuitRef, Request};
use proto_model::resource::Attachment;
use proto_model::{CircuitId, Kind};
use std::net::IpAddr;

/// Next to b, in the network that b shares with t1.
const DEVICE: [u8; 4] = [10, 1, 0, 77];

fn register(world: &mut World, id: &str, node: &str, at: IpAddr) {
    let mut metadata = World::metadata(node);
    metadata.attachment = Attachment::External(at);
    world
        .ask(Request::RegisterResource { id: name(id), metadata, intents: Vec::new(), lease: None })
        .expect("well-formed");
}

fn world() -> World {
    let mut world = World::diamond();
    register(&mut world, "printer", "b", DEVICE.into());
    world
}

fn circuit(world: &mut World, from: &str, to: &str) -> Circuit {
    let id = world.create(request(from, to)).expect("feasible").circuit.id;
    assert_eq!(world.state(id), "active");
    world.view(id).expect("there").circuit
}

fn end(world: &World, node: &str, id: CircuitId, side: Side) -> Endpoint {
    match &world.agents[&name(node)].objects[&ObjectKey::Endpoint(id, side)] {
        Object::Endpoint(end) => end.clone(),
        other => panic!("{other:?}"),
    }
}

/// The VNI in the command that makes the device.
fn vni(circuit: &Circuit) -> u32 {
    let text = circuit.external[0].split(" id ").nth(1).expect("an id");
    text.split(' ').next().and_then(|id| id.parse().ok()).expect("a number")
}

#[test]
fn the_host_next_to_it_swaps_to_one_number_both_ways() {
    for (from, to, near, side) in [
        ("web", "printer", Side::Source, Side::Destination),
        ("printer", "web", Side::Destination, Side::Source),
    ] {
        let mut world = world();
        let circuit = circuit(&mut world, from, to);
        let vni = vni(&circuit);
        let hops: Vec<_> = world.agents[&name("b")]
            .objects
            .values()
            .filter_map(|object| match object {
                Object::Hop(hop) => Some(hop.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(hops.len(), 2);
        let out = hops.iter().find(|hop| hop.from_side == near).expect("towards it");
        let back = hops.iter().find(|hop| hop.from_side == side).expect("from it");
        assert_eq!((out.send.remote, out.send.label.value()), (IpAddr::from(DEVICE), vni));
        assert_eq!((back.receive.from, back.receive.label.value()), (IpAddr::from(DEVICE), vni));
        assert_eq!(out.send.local, back.receive.local);
        let web = end(&world, "a", circuit.id, near);
        assert_eq!(web.mtu, 1_450);
        assert!(matches!(web.leg, Leg::Tunnel { backup: None, .. }));
        assert!(!world.agents[&name("b")].objects.contains_key(&ObjectKey::Endpoint(circuit.id, side)));
        assert!(circuit.backup.is_none() && circuit.protection.contains("answers no probes"));
    }
}

#[test]
fn beside_the_end_host_there_is_one_tunnel_and_no_label_to_swap() {
    let mut world = world();
    let circuit = circuit(&mut world, "db", "printer");
    let db = end(&world, "b", circuit.id, Side::Source);
    let Leg::Tunnel { send, receive, .. } = db.leg else { panic!("a tunnel") };
    assert_eq!((send.remote, send.label.value()), (DEVICE.into(), vni(&circuit)));
    assert_eq!((receive[0].from, receive[0].label), (DEVICE.into(), send.label));
    assert_eq!(circuit.mtu, Some(1_450));
}

#[test]
fn its_commands_name_what_the_fabric_uses() {
    let mut world = world();
    let circuit = circuit(&mut world, "db", "printer");
    let text = circuit.external.join("\n");
    assert!(text.contains("remote 10.1.0.2 dstport 4789") && text.contains("local 10.1.0.77"), "{text}");
    assert!(text.contains("mtu 1450"), "{text}");
}

#[test]
fn nothing_of_it_is_left_after_it_is_deleted_and_after_a_restart_it_is_the_same() {
    let mut world = world();
    let before = circuit(&mut world, "web", "printer");
    world.restart();
    let after = world.view(before.id).expect("there").circuit;
    assert_eq!((after.external, after.path), (before.external, before.path));
    world.ask(Request::DeleteCircuit { circuit: CircuitRef::Id(before.id) }).expect("there");
    for (node, agent) in &world.agents {
        let left = agent.objects.keys().filter(|key| !matches!(key, ObjectKey::Peer(_))).count();
        assert_eq!(left, 0, "on {node}");
    }
}

#[test]
fn two_of_them_and_encryption_are_refused_with_the_reason() {
    let mut world = world();
    register(&mut world, "scanner", "a", [10, 0, 0, 78].into());
    let refusal = world.create(request("scanner", "printer")).expect_err("no agent at all");
    assert_eq!(refusal.kind, Kind::Precondition);
    assert!(refusal.to_string().contains("both plain VXLAN devices"), "{refusal}");
    let mut sealed = request("web", "printer");
    sealed.bounds.encrypted = true;
    let refusal = world.create(sealed).expect_err("nobody encrypts");
    assert_eq!(refusal.field, "circuit.bounds.encrypted");
}

#[test]
fn an_address_that_no_neighbour_can_have_is_refused() {
    let mut world = world();
    for wrong in ["10.1.0.2", "0.0.0.0", "127.0.0.1", "224.0.0.1", "169.254.0.1", "fe80::1", "::1", "ff02::1"]
    {
        let mut metadata = World::metadata("b");
        metadata.attachment = Attachment::External(wrong.parse().expect("an address"));
        let ask = Request::RegisterResource { id: name("other"), metadata, intents: Vec::new(), lease: None };
        let refusal = world.ask(ask).expect_err(wrong);
        assert_eq!(refusal.field, "metadata.attachment", "{wrong}");
    }
}
