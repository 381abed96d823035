//! Map entries of earlier layouts as those of today: one function per map and layout.
use ebpf_abi::flow::Flow;
use ebpf_abi::former::Flow1;

/// A flow from before there were second ways. It goes on as it was; the controller's desired state adds the rest.
pub fn flow(old: &Flow1) -> Flow {
    Flow {
        circuit: old.circuit,
        local: old.local,
        remote: old.remote,
        slot: old.slot,
        target: old.target,
        label: old.label,
        mac: old.mac,
        gateway: old.gateway,
        direction: old.direction,
        kind: old.kind,
        mtu: 0,
        group: 0,
        class: 0,
        backup_target: 0,
        backup_label: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_keeps_everything_that_it_had() {
        let old = Flow1 {
            circuit: 1,
            local: [2; 16],
            remote: [3; 16],
            slot: 4,
            target: 5,
            label: 6,
            mac: [7; 6],
            gateway: [8; 6],
            direction: 2,
            kind: Flow::PEER,
            reserved: [0; 6],
        };
        let new = flow(&old);
        assert_eq!((new.circuit, new.local, new.remote), (1, [2; 16], [3; 16]));
        assert_eq!((new.slot, new.target, new.label), (4, 5, 6));
        assert_eq!((new.mac, new.gateway, new.direction, new.kind), ([7; 6], [8; 6], 2, Flow::PEER));
        assert_eq!((new.mtu, new.group, new.backup_target, new.backup_label), (0, 0, 0, 0), "no second way");
        assert_eq!(new.class, 0);
    }
}
