//! What the kernel refuses: who is told of what, and when it is tried again.
use super::*;
use proto_model::Bandwidth;
use proto_model::desired::Side;
use proto_model::topology::Underlay;
use tests_sim::host::hello;

#[test]
fn a_missing_namespace_is_the_root_cause_of_all_that_fails() {
    let mut host = told(kernel(1), &some_objects());
    host.settle(T0);
    let report = reports(&mut host).remove(0);
    let failed: Vec<ObjectKey> = report.failed.iter().map(|failure| failure.key.clone()).collect();
    let ends = [Side::Source, Side::Destination].map(|side| ObjectKey::Endpoint(CircuitId(2), side));
    assert_eq!(failed, [vec![ObjectKey::Eni(resource(2))], ends.to_vec()].concat());
    assert!(
        report.failed.iter().all(|failure| failure.why == "there is no namespace /run/netns/ns2"),
        "{report:?}"
    );
    host.kernel.add_namespace(&place(2));
    host.pass(later(1_000));
    converged(&mut host);
    let recovered: Vec<ObjectKey> =
        reports(&mut host).into_iter().flat_map(|report| report.recovered).collect();
    assert_eq!(recovered, failed);
}

#[test]
fn a_failing_step_is_tried_ever_more_seldom() {
    let mut host = Host::start(kernel(1), T0);
    host.kernel.fail(EntryKey::Rules(1), 1_000, "no memory");
    host.connect(1, T0);
    host.tell(1, whole(1, &[rules(1, 1, &["allow any"])]), T0);
    host.settle(T0);
    assert_eq!(host.pass(later(10_000)), 6, "after 0.1, 0.3, 0.7, 1.5, 3.1, 6.3 s");
    assert_eq!(host.pass(later(600_000)), 21, "and at last every 30 s");
    assert_eq!(reports(&mut host).len(), 1, "an unchanged failure is told once");
}

/// A host of which the agent may shape `eth0`, and a hop with a reservation.
fn reserved(kernel: PretendedKernel) -> Host {
    let mut host = Host::start(kernel, T0);
    let mut hello = hello();
    hello.underlays.push(Underlay {
        interface: "eth0".into(),
        network: "lan".parse().expect("a name"),
        addresses: vec![here()],
        mtu: 1_500,
        speed: Some(Bandwidth::mbit(100)),
        shape: true,
    });
    host.handle(Input::Connected { session: 1, hello }, T0);
    let Object::Hop(hop) = hop(3, 2, 50, 3, 60) else { panic!("a hop") };
    let hop = proto_model::desired::Hop { reserved: Bandwidth::mbit(40), ..hop };
    host.tell(1, whole(1, &[Object::Hop(hop)]), T0);
    host
}

#[test]
fn where_queues_cannot_be_made_a_reserved_circuit_works_and_only_they_are_reported() {
    let queues = EntryKey::Shaper("eth0".into());
    let class = EntryKey::Class("eth0".into(), 4);
    for refused in [queues.clone(), class.clone()] {
        let mut kernel = kernel(0);
        kernel.fail(refused.clone(), u32::MAX, "somebody else's root queue");
        let mut host = reserved(kernel);
        host.settle(T0);
        let report = reports(&mut host).pop().expect("a report");
        let failed: Vec<_> = report.failed.iter().map(|failed| (&failed.key, failed.why.as_str())).collect();
        assert_eq!(failed, [(&ObjectKey::Queues("eth0".into()), "somebody else's root queue")]);
        assert_eq!(report.generation, Generation(1));
        let have = host.kernel.observe().expect("can be read");
        assert!(have.contains_key(&EntryKey::Label(50)), "{have:?}");
        assert!(!have.contains_key(&class));
        host.kernel.heal();
        host.pass(later(60_000));
        converged(&mut host);
        assert!(host.node().have().contains_key(&class));
        let report = reports(&mut host).pop().expect("a report");
        assert_eq!(report.recovered, [ObjectKey::Queues("eth0".into())]);
    }
}
