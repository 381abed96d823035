//! Interfaces that change, break, vanish or get another owner.
use super::*;
use agent_core::kernel_state::HostSide;

#[test]
fn an_interface_in_need_of_repair_is_put_and_its_circuits_stay() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    let side = HostSide::of(&address(1));
    let mut kernel = host.crash();
    kernel.damage(side);
    let maps = kernel.maps.clone();
    kernel.fail(EntryKey::Eni(side), 1, "its namespace cannot be opened");
    let mut again = told(kernel, &some_objects());
    assert_eq!(again.settle(T0), 1, "the step that fails, and no other");
    let report = reports(&mut again).remove(0);
    assert_eq!(
        report.failed.iter().map(|f| f.key.clone()).collect::<Vec<_>>(),
        [ObjectKey::Eni(resource(1))]
    );
    assert_eq!(again.kernel.maps, maps, "its circuits go on");
    // After a failure all that is bound to it is written once more, in place.
    assert!(again.pass(later(60_000)) > 0, "repaired");
    assert_eq!(again.kernel.maps, maps);
    converged(&mut again);
}

#[test]
fn what_vanishes_before_a_controller_has_spoken_causes_no_step() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    let mut again = Host::start(host.crash(), T0);
    let side = HostSide::of(&address(1));
    assert!(again.kernel.remove_interface(&side));
    again.vanish(side, T0);
    assert_eq!((again.settle(T0), again.pass(later(60_000))), (0, 0));
}

#[test]
fn a_vanished_interface_is_made_again() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    host.take_said();
    let side = HostSide::of(&address(1));
    assert!(host.kernel.remove_interface(&side));
    host.vanish(side, T0);
    host.settle(T0);
    converged(&mut host);
    assert_eq!(reports(&mut host), []);
}

#[test]
fn an_interface_that_a_step_had_to_make_anew_gets_all_that_was_bound_to_it() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    host.take_said();
    for n in [1, 2] {
        // Nobody tells the agent; it only learns by changing the MTU of what is not there any more.
        assert!(host.kernel.remove_interface(&HostSide::of(&address(n))));
        let mut smaller = eni(n);
        smaller.mtu = 1_300;
        host.tell(1, changes(n.into(), vec![Change::Put(Object::Eni(smaller))]), T0);
        assert!(host.settle(T0) > 1);
        converged(&mut host);
    }
    assert!(reports(&mut host).iter().all(|report| report.failed.is_empty()));
}

#[test]
fn an_interface_that_vanishes_during_a_batch_is_made_again() {
    for at in 0..12 {
        let mut host = told(kernel(2), &some_objects());
        for _ in 0..at {
            host.step(T0);
        }
        let side = HostSide::of(&address(1));
        if host.kernel.remove_interface(&side) {
            host.vanish(side, T0);
        }
        host.settle(T0);
        host.pass(later(60_000));
        converged(&mut host);
    }
}

#[test]
fn an_interface_that_is_put_elsewhere_takes_its_circuits_with_it() {
    let mut host = told(kernel(3), &some_objects());
    host.settle(T0);
    let mut moved = eni(1);
    moved.attachment = place(3);
    host.tell(1, changes(1, vec![Change::Put(Object::Eni(moved))]), T0);
    host.settle(T0);
    converged(&mut host);
}

#[test]
fn a_new_mtu_is_one_step() {
    let mut host = told(kernel(2), &some_objects());
    host.settle(T0);
    let mut smaller = eni(1);
    smaller.mtu = 1_300;
    host.tell(1, changes(1, vec![Change::Put(Object::Eni(smaller))]), T0);
    assert_eq!(host.settle(T0), 1);
    converged(&mut host);
}

#[test]
fn an_address_that_changes_its_owner_never_mixes_them() {
    let mut host = told(kernel(4), &some_objects());
    host.settle(T0);
    let mut heir = eni(4);
    heir.address = address(1);
    host.tell(1, changes(1, vec![Change::Put(Object::Eni(heir.clone()))]), T0);
    host.settle(T0);
    let failed = reports(&mut host).pop().expect("a report").failed;
    assert_eq!(failed[0].why, "interface fw64400001 is taken by interface of r1");
    host.tell(1, changes(2, vec![Change::Remove(ObjectKey::Eni(resource(1)))]), T0);
    host.settle(T0);
    host.pass(later(1_000));
    let interfaces: Vec<String> = host.kernel.interfaces().map(|(_, i)| i.eni.resource.clone()).collect();
    assert_eq!(interfaces, ["r2", "r4"]);
    assert_eq!(host.kernel.sins, Vec::<String>::new());
    assert!(!host.kernel.maps.labels.contains_key(&1), "no label delivers into the heir");
}
