//! Well-formed values of the model, at random.
pub(crate) use crate::bounds::{bounds, intent};
use crate::ends::{moment, rules, until, wish};
use crate::speech::object_key;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;
use proto_model::circuit::{Circuit, CircuitSpec, CircuitState, Path};
use proto_model::desired::Side;
use proto_model::report::{Failure, Traffic};
use proto_model::request::{
    CircuitRef, CircuitRequest, CircuitView, Event, Left, LinkView, NodeView, Request, ResourceView,
    RuleChange, RuleEdit, StatusView,
};
use proto_model::resource::{Attachment, Form, Liveness, Metadata, Resource, Service, Status};
use proto_model::rule::{Action, Opener, Ports, Prefix, Protocol, RuleSpec};
use proto_model::topology::{Forecast, LinkId, LinkValues, NodeState, Quantity, Underlay};
use proto_model::{
    Bandwidth, CircuitId, CircuitName, FabricAddress, Generation, Label, Latency, Loss, Name, NodeName,
    Price, ResourceId, SealKey, ServiceName, Timestamp,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

pub(crate) fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9]([a-z0-9-]{0,12}[a-z0-9])?".prop_map(|text| text.parse().expect("a name by construction"))
}
pub(crate) fn node() -> impl Strategy<Value = NodeName> {
    name().prop_map(NodeName)
}
pub(crate) fn resource_id() -> impl Strategy<Value = ResourceId> {
    name().prop_map(ResourceId)
}
pub(crate) fn circuit_name() -> impl Strategy<Value = CircuitName> {
    "[d-z][a-z0-9]{0,20}".prop_map(|text| text.parse().expect("a name by construction"))
}
pub(crate) fn circuit_ref() -> impl Strategy<Value = CircuitRef> {
    prop_oneof![
        any::<u64>().prop_map(|id| CircuitRef::Id(CircuitId(id))),
        circuit_name().prop_map(CircuitRef::Name)
    ]
}
pub(crate) fn circuit_id() -> impl Strategy<Value = CircuitId> {
    any::<u64>().prop_map(CircuitId)
}
pub(crate) fn sentence() -> impl Strategy<Value = String> {
    "[\\PC&&[^\\u{2028}\\u{2029}]]{0,40}"
}
pub(crate) fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp)
}
pub(crate) fn bandwidth() -> impl Strategy<Value = Bandwidth> {
    (0..=Bandwidth::MAX.bits_per_second()).prop_map(Bandwidth::from_bits_per_second)
}
pub(crate) fn latency() -> impl Strategy<Value = Latency> {
    (0..=Latency::MAX.nanos()).prop_map(Latency::from_nanos)
}
pub(crate) fn price() -> impl Strategy<Value = Price> {
    (0..=Price::MAX.micro_dollars_per_gb()).prop_map(Price::from_micro_dollars_per_gb)
}
pub(crate) fn loss() -> impl Strategy<Value = Loss> {
    (0..=Loss::ALL.ppm()).prop_map(Loss::from_ppm)
}
pub(crate) fn label() -> impl Strategy<Value = Label> {
    (1..=Label::MAX).prop_map(|value| Label::new(value).expect("in range"))
}
pub(crate) fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<Ipv4Addr>().prop_map(IpAddr::V4), any::<Ipv6Addr>().prop_map(IpAddr::V6)]
}
pub(crate) fn address_pair() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<(Ipv4Addr, Ipv4Addr)>().prop_map(|(a, b)| (a.into(), b.into())),
        any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(a, b)| (a.into(), b.into())),
    ]
}
pub(crate) fn fabric_address() -> impl Strategy<Value = FabricAddress> {
    any::<(Ipv4Addr, u64, u32)>().prop_map(|(v4, high, middle)| {
        let bits = u128::from(high) << 64 | u128::from(middle) << 32 | u128::from(v4.to_bits());
        FabricAddress { v4, v6: bits.into() }
    })
}
pub(crate) fn interface() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9.@-]{0,14}"
}
pub(crate) fn finite() -> impl Strategy<Value = f64> {
    -1e12..1e12
}

pub(crate) fn seal_keys(least: usize) -> impl Strategy<Value = Vec<SealKey>> {
    btree_set(any::<[u8; 32]>(), least..=2).prop_map(|keys| keys.into_iter().map(SealKey).collect())
}

pub(crate) fn prefix(v4: bool) -> impl Strategy<Value = Prefix> {
    (any::<u128>(), 0..=128_u8).prop_map(move |(bits, length)| match v4 {
        true => Prefix::new(Ipv4Addr::from(bits as u32).into(), length % 33).expect("fits"),
        false => Prefix::new(Ipv6Addr::from(bits).into(), length).expect("fits"),
    })
}

pub(crate) fn rule_spec() -> impl Strategy<Value = RuleSpec> {
    let protocol = prop_oneof![
        Just(Protocol::Any),
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Icmp),
        any::<u8>().prop_filter("has a name", |n| ![1, 6, 17, 58].contains(n)).prop_map(Protocol::Number),
    ];
    let prefixes = any::<bool>().prop_flat_map(|v4| (of(prefix(v4)), of(prefix(v4))));
    let opener = prop_oneof![Just(Opener::Forward), Just(Opener::Reverse), Just(Opener::Both)];
    (any::<(bool, u16, u16, bool)>(), protocol, opener, prefixes).prop_map(
        |((allow, one, other, all), protocol, opener, (source, destination))| RuleSpec {
            action: if allow { Action::Allow } else { Action::Deny },
            opener,
            protocol,
            ports: match protocol {
                Protocol::Tcp | Protocol::Udp if !all => Ports { from: one.min(other), to: one.max(other) },
                Protocol::Icmp if !all => Ports { from: one.min(other) % 256, to: 255 },
                _ => Ports::ALL,
            },
            source,
            destination,
            until: None,
        },
    )
}

pub(crate) fn rule_change() -> impl Strategy<Value = RuleChange> {
    let edit = prop_oneof![
        (vec(wish(), 1..5), of(1..=u32::MAX)).prop_map(|(rules, before)| RuleEdit::Add { rules, before }),
        vec(1..=u32::MAX, 1..5).prop_map(|ids| RuleEdit::Remove { ids }),
        vec(wish(), 0..5).prop_map(|rules| RuleEdit::Replace { rules }),
    ];
    (circuit_ref(), of(any::<u32>()), edit, of(1..=86_400u64)).prop_map(
        |(circuit, expected_version, edit, within)| RuleChange {
            circuit,
            expected_version,
            edit,
            confirm_within: within.map(Duration::from_secs),
        },
    )
}

pub(crate) fn attachment() -> impl Strategy<Value = Attachment> {
    prop_oneof![
        "/[a-z0-9/._-]{0,40}".prop_map(Attachment::Path),
        "[a-z0-9_-]{1,20}".prop_map(Attachment::Named),
        (1..=4_194_304_u32).prop_map(Attachment::Process),
        Just(Attachment::Host),
        any::<IpAddr>().prop_map(Attachment::External),
    ]
}

pub(crate) fn metadata() -> impl Strategy<Value = Metadata> {
    let form = prop_oneof![
        Just(Form::VirtualMachine),
        Just(Form::Container),
        Just(Form::Serverless),
        Just(Form::Host)
    ];
    let service = (name(), any::<bool>(), 1..=u16::MAX).prop_map(|(name, tcp, port)| Service {
        name: ServiceName(name),
        protocol: if tcp { Protocol::Tcp } else { Protocol::Udp },
        port,
    });
    let services = vec(service, 0..4).prop_map(|services| {
        let mut once: Vec<Service> = Vec::new();
        services.into_iter().for_each(|service| {
            if !once.contains(&service) {
                once.push(service)
            }
        });
        once
    });
    let lists = (vec(address(), 0..4), btree_map(name(), sentence(), 0..4), services);
    (form, node(), attachment(), of(interface()), lists).prop_map(
        |(form, node, attachment, interface, (addresses, labels, services))| Metadata {
            form,
            node,
            attachment,
            interface,
            addresses,
            labels,
            services,
        },
    )
}

pub(crate) fn lease() -> impl Strategy<Value = Option<Duration>> {
    of((1_000_000_000..=30 * 86_400_000_000_000_u64).prop_map(Duration::from_nanos))
}

pub(crate) fn resource() -> impl Strategy<Value = Resource> {
    let status =
        prop_oneof![Just(Status::Up), Just(Status::Degraded), Just(Status::Draining), Just(Status::Down)];
    let times = (timestamp(), timestamp());
    (resource_id(), metadata(), vec(intent(), 0..3), status, fabric_address(), lease(), times).prop_map(
        |(id, metadata, intents, status, address, lease, (registered, renewed))| Resource {
            id,
            metadata,
            intents,
            status,
            address,
            lease,
            registered,
            renewed,
        },
    )
}

pub(crate) fn resource_view() -> impl Strategy<Value = ResourceView> {
    let liveness = prop_oneof![Just(Liveness::Alive), Just(Liveness::Expired), Just(Liveness::NodeLost)];
    ((resource(), liveness, vec(circuit_id(), 0..4)), sentence())
        .prop_map(|((resource, liveness, circuits), trouble)| ResourceView {
            resource,
            liveness,
            circuits,
            trouble,
        })
        .boxed()
}

pub(crate) fn link_id() -> impl Strategy<Value = LinkId> {
    (node(), node(), name()).prop_filter_map("one node", |(a, b, network)| LinkId::new(a, b, network))
}

pub(crate) fn path() -> impl Strategy<Value = Path> {
    (vec(link_id(), 0..5), node()).prop_map(|(links, first)| {
        let nodes = std::iter::once(first).chain(links.iter().map(|link| link.ends().1.clone())).collect();
        Path { nodes, links }
    })
}

pub(crate) fn pinned() -> impl Strategy<Value = Option<Vec<NodeName>>> {
    of(btree_set(node(), 1..5).prop_map(|nodes| nodes.into_iter().collect()))
}

pub(crate) fn circuit_request() -> impl Strategy<Value = CircuitRequest> {
    let ends = (resource_id(), resource_id()).prop_filter("two ends", |(a, b)| a != b);
    let rest = (pinned(), vec(wish(), 0..4), until(), until());
    (of(circuit_name()), ends, bounds(), any::<u8>(), rest)
        .prop_map(|(name, (source, destination), bounds, priority, (pinned_path, rules, until, starts))| {
            CircuitRequest { name, source, destination, bounds, priority, pinned_path, rules, until, starts }
        })
        .boxed()
}

pub(crate) fn traffic() -> impl Strategy<Value = Traffic> {
    any::<[u64; 4]>().prop_map(|[sent_packets, sent_bytes, received_packets, received_bytes]| Traffic {
        sent_packets,
        sent_bytes,
        received_packets,
        received_bytes,
    })
}

pub(crate) fn circuit_view() -> impl Strategy<Value = CircuitView> {
    let waiting = || vec(node(), 0..4);
    let state = prop_oneof![
        waiting().prop_map(|waiting| CircuitState::Building { waiting }),
        waiting().prop_map(|waiting| CircuitState::Opening { waiting }),
        Just(CircuitState::Active),
        sentence().prop_map(|why| CircuitState::Suspended { why }),
        waiting().prop_map(|waiting| CircuitState::Closing { waiting }),
        Just(CircuitState::Scheduled),
    ];
    let spec = (circuit_request(), circuit_name(), [of(moment()), of(moment())]).prop_map(
        |(request, name, [expires, starts])| CircuitSpec {
            expires,
            starts,
            name,
            source: request.source,
            destination: request.destination,
            bounds: request.bounds,
            priority: request.priority,
            pinned_path: request.pinned_path,
        },
    );
    let side = prop_oneof![Just(Side::Source), Just(Side::Destination)];
    let protection = (
        of(path()),
        any::<bool>(),
        vec(side, 0..=2),
        sentence(),
        vec(sentence(), 0..3),
        [sentence(), sentence(), sentence()],
    );
    let rest = (of(path()), of(1..=u16::MAX), rules(), any::<u32>(), sentence(), protection);
    let reported = (waiting(), traffic(), traffic());
    (circuit_id(), spec, state, rest, (timestamp(), timestamp()), reported)
        .prop_map(
            |(
                id,
                spec,
                state,
                (
                    path,
                    mtu,
                    rules,
                    rules_version,
                    detail,
                    (backup, backup_ready, on_backup, protection, external, [guarantee, silence, moved]),
                ),
                (created, since),
                (rules_pending, at_source, at_destination),
            )| {
                // The detail of a suspended circuit is why it is suspended.
                let detail =
                    if matches!(state, CircuitState::Suspended { .. }) { String::new() } else { detail };
                let circuit = Circuit {
                    id,
                    spec,
                    state,
                    path,
                    backup,
                    backup_ready,
                    on_backup,
                    protection,
                    external,
                    guarantee,
                    silence,
                    moved,
                    mtu,
                    rules,
                    rules_version,
                    confirm_by: Some(since).filter(|at| at.0 != 0),
                    created,
                    since,
                    detail,
                };
                CircuitView { circuit, rules_pending, at_source, at_destination }
            },
        )
        .boxed()
}

pub(crate) fn underlay() -> impl Strategy<Value = Underlay> {
    let outer = address().prop_filter("of one host", |a| !a.is_unspecified() && !a.is_multicast());
    (interface(), name(), vec(outer, 0..4), 576..=u16::MAX, of(bandwidth()), any::<bool>()).prop_map(
        |(interface, network, addresses, mtu, speed, shape)| Underlay {
            interface,
            network,
            addresses,
            mtu,
            speed,
            shape,
        },
    )
}

pub(crate) fn failure() -> impl Strategy<Value = Failure> {
    (object_key(), sentence()).prop_map(|(key, why)| Failure { key, why })
}

pub(crate) fn node_view() -> impl Strategy<Value = NodeView> {
    let state = prop_oneof![Just(NodeState::Expected), Just(NodeState::Connected), Just(NodeState::Lost)];
    let lists = (vec(underlay(), 0..3), vec(sentence(), 0..3), vec(failure(), 0..3), seal_keys(0));
    (node(), state, lists, (sentence(), sentence()), of(timestamp()), any::<(u64, u64, u32, bool)>())
        .prop_map(
            |(
                name,
                state,
                (underlays, datapath, failures, seal_keys),
                (version, kernel),
                seen,
                (desired, reported, policy_rules, policy_pending),
            )| {
                NodeView {
                    name,
                    state,
                    underlays,
                    datapath,
                    version,
                    kernel,
                    seen,
                    desired: Generation(desired),
                    reported: Generation(reported),
                    failures,
                    seal_keys,
                    policy_rules,
                    policy_pending,
                }
            },
        )
}

pub(crate) fn link_values() -> impl Strategy<Value = LinkValues> {
    (of(latency()), of(bandwidth()), loss(), price(), any::<(bool, bool, bool)>(), btree_set(name(), 0..4))
        .prop_map(|(rtt, capacity, loss, price, (encrypted, disabled, require_encryption), tags)| {
            LinkValues { rtt, capacity, loss, price, encrypted, require_encryption, tags, disabled }
        })
}

pub(crate) fn forecast() -> impl Strategy<Value = Forecast> {
    let quantity = prop_oneof![Just(Quantity::Rtt), Just(Quantity::Loss), Just(Quantity::Load)];
    (quantity, any::<[u64; 7]>(), any::<[u64; 3]>(), sentence(), any::<u32>(), any::<bool>()).prop_map(
        |(quantity, quantiles, [horizon, mean, error], model, samples, counts)| {
            let horizon = Duration::from_nanos(horizon);
            Forecast { quantity, horizon, mean, quantiles, error, model, samples, counts }
        },
    )
}

pub(crate) fn link_view() -> impl Strategy<Value = LinkView> {
    let measured = (vec((node(), crate::speech::measured()), 0..=2), vec(forecast(), 0..=3));
    let use_of = ([of(bandwidth()), of(bandwidth())], of(bandwidth()), bandwidth(), any::<bool>());
    let reserved = (of(bandwidth()), bandwidth());
    (link_id(), link_values(), reserved, any::<bool>(), sentence(), measured, use_of).prop_map(
        |(id, values, (capacity, reserved), usable, why, (measured, forecasts), in_use)| {
            let (load, available, others, others_expected) = in_use;
            LinkView {
                id,
                values,
                capacity,
                reserved,
                usable,
                why,
                measured,
                forecasts,
                load,
                available,
                others,
                others_expected,
            }
        },
    )
}

pub(crate) fn status_view() -> impl Strategy<Value = StatusView> {
    (sentence(), any::<[u32; 6]>(), timestamp()).prop_map(
        |(
            version,
            [nodes_connected, nodes, resources, circuits_active, circuits, circuits_silent],
            started,
        )| StatusView {
            version,
            nodes_connected,
            nodes,
            resources,
            circuits_active,
            circuits,
            circuits_silent,
            started,
        },
    )
}

pub(crate) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        circuit_view().prop_map(Event::Circuit),
        (circuit_id(), vec(node(), 0..3), vec(node(), 0..3))
            .prop_map(|(id, pending, absent)| Event::CircuitGone { id, left: Left { pending, absent } }),
        resource_view().prop_map(Event::Resource),
        resource_id().prop_map(Event::ResourceGone),
        node_view().prop_map(Event::Node),
        node().prop_map(Event::NodeGone),
    ]
}

/// Those that travel as messages of their own.
pub(crate) fn request() -> impl Strategy<Value = Request> {
    let status =
        prop_oneof![Just(Status::Up), Just(Status::Degraded), Just(Status::Draining), Just(Status::Down)];
    prop_oneof![
        (resource_id(), metadata(), vec(intent(), 0..3), lease()).prop_map(
            |(id, metadata, intents, lease)| Request::RegisterResource { id, metadata, intents, lease }
        ),
        (resource_id(), status).prop_map(|(id, status)| Request::UpdateResourceStatus { id, status }),
        (resource_id(), any::<bool>()).prop_map(|(id, force)| Request::RemoveResource { id, force }),
        (resource_id(), vec(intent(), 0..3))
            .prop_map(|(source, intents)| Request::DiscoverResources { source: Some(source), intents }),
        (circuit_request(), of("[ -~]{1,128}"))
            .prop_map(|(circuit, idempotency_key)| Request::CreateCircuit { circuit, idempotency_key }),
        circuit_request().prop_map(|circuit| Request::PlanCircuit { circuit }),
        circuit_ref().prop_map(|circuit| Request::DeleteCircuit { circuit }),
        rule_change().prop_map(Request::UpdateFirewallRule),
        crate::ends::changes_of_ends(),
        crate::ends::policy_requests(),
        crate::insights::series_request(),
        node().prop_map(|node| Request::RemoveNode { node }),
        link_id().prop_map(|link| Request::ForgetLink { link }),
        of(node()).prop_map(|node| Request::ListDrops { node }),
        crate::shortages::line().prop_map(Request::ListShortages),
        (link_id(), link_values()).prop_map(|(link, values)| Request::SetLink { link, values }),
    ]
}
