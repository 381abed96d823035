//! What must hold at every moment, and what must hold when everything has come to rest.
use super::walk::{Fate, Map};
use super::{Life, World};
use agent_core::abi;
use agent_core::kernel_state::{Entry, EntryKey, Kernel, Step};
use ebpf_abi::Direction;
use ebpf_abi::flow::{Flow, FlowKey};
use ebpf_abi::label::LabelEntry;
use ebpf_abi::rules::RuleSetRef;
use proto_model::circuit::{Circuit, CircuitState};
use proto_model::desired::Side;
use proto_model::intent::Bounds;
use proto_model::report::Way;
use proto_model::request::{CircuitView, Request, Response};
use proto_model::resource::Status;
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, CircuitId, NodeName};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A packet: into which flow, by which way.
pub(super) type Sent = (FlowKey, Flow, Way);

impl World {
    /// After every event: no packet goes astray, no label delivers into another's interface, no agent sinned.
    pub(super) fn check_always(&self) {
        for (node, site) in &self.sites {
            let kernel = site.kernel();
            if let Some(sin) = kernel.sins.first() {
                self.fail(&format!("{node}: {sin}"));
            }
            for label in kernel.maps.labels.values().filter(|label| label.kind != LabelEntry::TRANSIT) {
                let Some(there) = kernel.interface(label.target) else { continue };
                if there.eni.address.v4.octets() != label.local_v4 {
                    self.fail(&format!(
                        "label {} at {node} delivers into {}",
                        label.label, there.eni.resource
                    ));
                }
            }
        }
        for (node, (_, flow, way), fate) in self.fates() {
            if let Fate::Astray(how) = fate {
                self.fail(&format!(
                    "a packet of c{} from {node} by its {way:?} goes astray: {how}",
                    flow.circuit
                ));
            }
        }
    }

    /// Where packets of every flow of every host would end, by each of its ways: any packet may be sent by either.
    pub(super) fn fates(&self) -> Vec<(NodeName, Sent, Fate)> {
        let kernels = self.sites.iter().map(|(node, site)| (node.clone(), site.kernel())).collect();
        let map = Map { kernels, addresses: &self.addresses, cut: &self.cut };
        let flows = map
            .kernels
            .iter()
            .flat_map(|(node, kernel)| kernel.maps.flows.iter().map(move |(k, f)| (node, k, f)));
        let ways = |flow: &Flow| match flow.group {
            0 => vec![Way::Primary],
            _ => vec![Way::Primary, Way::Backup],
        };
        let sent = flows
            .flat_map(|(node, key, flow)| ways(flow).into_iter().map(move |way| (node, (*key, *flow, way))));
        sent.map(|(node, sent)| (node.clone(), sent, map.send(node, &sent.0, &sent.1, sent.2))).collect()
    }

    /// A gate that was just opened leads somewhere, if the controller still wants it as it was told, and no host on
    /// the way was disturbed. The far end may learn of the second way a moment later: nothing is sent there before it
    /// answers, unless the first is dead.
    pub(super) fn check_step(&mut self, node: &NodeName, step: &Step) {
        let Step::Put(Entry::Flow(put)) = step else { return };
        if self.controller.is_none() {
            return;
        }
        let Some(circuit) = self.circuit(CircuitId(put.circuit)) else { return };
        let Some(path) = &circuit.path else { return };
        let open = matches!(circuit.state, CircuitState::Opening { .. } | CircuitState::Active);
        let told = path.nodes.iter().all(|node| self.is_current(node));
        if !open || !told || path.nodes.iter().any(|node| self.disturbed.contains(node)) {
            return;
        }
        let remote = abi::address(put.remote);
        let mine = |(at, (key, flow, way), _): &&(NodeName, Sent, Fate)| {
            at == node && key.remote == remote && flow.circuit == put.circuit && *way == Way::Primary
        };
        match self.fates().iter().find(mine) {
            Some((.., Fate::Delivered(_))) => {}
            Some((.., fate)) => {
                self.fail(&format!("{node} opened c{} towards a half-built path: {fate:?}", put.circuit))
            }
            None => self.fail(&format!("the flow that {node} put is not there")),
        }
    }

    /// What the controller says is active can be sent over, also when it says so right after its own death.
    pub(super) fn check_claims(&mut self) {
        let Ok(Response::Circuits(views)) = self.query(Request::ListCircuits) else {
            self.fail("circuits cannot be listed")
        };
        views.iter().for_each(|view| self.check_claim(view));
    }

    /// An active circuit has its flows in the kernels of both ends, and the rules that are called in force, if nobody
    /// disturbed them.
    pub(super) fn check_claim(&self, view: &CircuitView) {
        let circuit = &view.circuit;
        let Some(path) = circuit.path.as_ref().filter(|_| circuit.state == CircuitState::Active) else {
            return;
        };
        let ends = [path.nodes.first(), path.nodes.last()].into_iter().flatten();
        for (node, direction) in ends.zip([Direction::Forward, Direction::Reverse]) {
            let mine = |flow: &Flow| flow.circuit == circuit.id.0 && flow.direction == direction as u8;
            if !self.disturbed.contains(node) && !self.sites[node].kernel().maps.flows.values().any(mine) {
                self.fail(&format!("{} is called active, but {node} has no flow of it", circuit.id));
            }
            let version = circuit.rules_version;
            let rules = |set: &RuleSetRef| set.circuit == circuit.id.0 && set.version == version;
            let in_force = !view.rules_pending.contains(node);
            let sets = &self.sites[node].kernel().maps.rulesets;
            if in_force && !self.disturbed.contains(node) && !sets.values().any(rules) {
                self.fail(&format!(
                    "version {version} of {} is called in force, but not at {node}",
                    circuit.id
                ));
            }
        }
    }

    /// Whether an agent has what the controller wants of it now, as far as telling goes.
    fn is_current(&self, node: &NodeName) -> bool {
        let connection = self.sites[node].connection;
        let on_the_way = self
            .queue
            .values()
            .any(|event| matches!(event, super::Event::ToAgent { node: of, .. } if of == node));
        connection.is_some() && !on_the_way && matches!(self.sites[node].life, Life::Alive(_))
    }

    fn circuits(&mut self) -> Vec<Circuit> {
        match self.query(Request::ListCircuits) {
            Ok(Response::Circuits(views)) => views.into_iter().map(|view| view.circuit).collect(),
            other => self.fail(&format!("circuits cannot be listed: {other:?}")),
        }
    }

    /// Circuits that the controller says can be sent over.
    pub fn active(&mut self) -> Vec<Circuit> {
        self.circuits().into_iter().filter(|circuit| circuit.state == CircuitState::Active).collect()
    }

    fn circuit(&mut self, id: CircuitId) -> Option<Circuit> {
        self.circuits().into_iter().find(|circuit| circuit.id == id)
    }

    /// Everything is repaired and has had time: every promise is kept, and nothing else is there.
    pub fn check_at_rest(&mut self) {
        self.repair();
        self.run(Duration::from_secs(400));
        self.check_kernels();
        let circuits: BTreeMap<CircuitId, Circuit> = self.circuits().into_iter().map(|c| (c.id, c)).collect();
        self.check_promises(&circuits);
        self.check_packets(&circuits);
        self.check_links(&circuits);
        self.check_classes(&circuits);
        self.check_restart();
    }

    fn repair(&mut self) {
        self.calm_down();
        self.mood.requests = 0;
        let attachments: Vec<_> = self
            .topology
            .workloads
            .iter()
            .map(|w| (w.node.clone(), super::client::attachment(&w.name)))
            .collect();
        for (node, attachment) in attachments {
            if let Some(site) = self.sites.get_mut(&node) {
                site.kernel_mut().add_namespace(&attachment);
                site.kernel_mut().heal();
            }
        }
        // Refusals that are still to come are undone by then.
        self.run(Duration::from_secs(60));
        self.sites.values_mut().for_each(|site| site.kernel_mut().heal());
    }

    fn check_kernels(&mut self) {
        let nodes: Vec<NodeName> = self.sites.keys().cloned().collect();
        for node in nodes {
            let Some(host) = self.sites.get_mut(&node).and_then(super::Site::host) else {
                self.fail(&format!("the agent of {node} is not alive"));
            };
            let (want, have) = (host.node().want(), host.node().have());
            let observed = host.kernel.observe();
            if want != have || observed.as_ref() != Ok(&want) {
                let missing: Vec<&EntryKey> =
                    want.keys().filter(|key| have.get(key) != want.get(key)).collect();
                self.fail(&format!("{node} has not what it wants: {missing:?}"));
            }
        }
    }

    fn check_promises(&mut self, circuits: &BTreeMap<CircuitId, Circuit>) {
        let promises = self.client.circuits.clone();
        for (id, promise) in &promises {
            let Some(circuit) = circuits.get(id) else {
                self.fail(&format!("{id} was promised and is lost"));
            };
            let rules: Vec<_> = circuit.rules.iter().map(|rule| rule.spec.clone()).collect();
            if rules != promise.rules || circuit.rules_version < promise.version {
                self.fail(&format!(
                    "{id} has not the rules that were promised: {rules:?}, {:?}",
                    promise.rules
                ));
            }
            let up = [&promise.request.source, &promise.request.destination]
                .map(|end| matches!(self.client.resources.get(end), Some(Status::Up | Status::Degraded)));
            match &circuit.state {
                CircuitState::Active => {}
                CircuitState::Scheduled if circuit.spec.starts.is_some_and(|at| at > self.now) => {}
                CircuitState::Suspended { why } if why.is_empty() => {
                    self.fail(&format!("{id} is suspended without a reason"))
                }
                CircuitState::Suspended { why }
                    if up == [true, true] && promise.request.bounds == Bounds::default() =>
                {
                    self.fail(&format!("{id} is suspended although nothing hinders it: {why}"));
                }
                CircuitState::Suspended { .. } => {}
                state @ (CircuitState::Building { .. }
                | CircuitState::Opening { .. }
                | CircuitState::Closing { .. }
                | CircuitState::Scheduled) => {
                    self.fail(&format!("{id} is at rest, but {state:?}"));
                }
            }
        }
        if let Some(id) = self.client.gone.iter().find(|id| circuits.contains_key(id)) {
            self.fail(&format!("{id} was deleted and is still there"));
        }
        if let Some(id) = circuits.keys().find(|id| !promises.contains_key(id)) {
            self.fail(&format!("{id} is there and nobody was promised it"));
        }
    }

    /// Packets arrive exactly over active circuits: both ways, both families.
    fn check_packets(&mut self, circuits: &BTreeMap<CircuitId, Circuit>) {
        let mut arrived: BTreeSet<(CircuitId, Side, bool)> = BTreeSet::new();
        for (node, (_, flow, way), fate) in self.fates() {
            let id = CircuitId(flow.circuit);
            let Some(circuit) = circuits.get(&id).filter(|circuit| circuit.state == CircuitState::Active)
            else {
                self.fail(&format!("{node} has a flow of {id}, which is not active"));
            };
            let forward = flow.direction == Direction::Forward as u8;
            let (side, end) = match forward {
                true => (Side::Source, &circuit.spec.destination),
                false => (Side::Destination, &circuit.spec.source),
            };
            if fate != Fate::Delivered(end.to_string()) {
                self.fail(&format!(
                    "a packet of {id} from {node} by its {way:?} should reach {end}: {fate:?}"
                ));
            }
            arrived.insert((id, side, ebpf_abi::is_mapped(&flow.remote)));
        }
        let active = circuits.values().filter(|circuit| circuit.state == CircuitState::Active);
        for circuit in active.clone() {
            for side in [Side::Source, Side::Destination] {
                if !(arrived.contains(&(circuit.id, side, true))
                    && arrived.contains(&(circuit.id, side, false)))
                {
                    self.fail(&format!("{} is active, but its {side:?} cannot send", circuit.id));
                }
            }
        }
        let placed: BTreeMap<u64, u32> =
            active.map(|circuit| (circuit.id.0, circuit.rules_version)).collect();
        for (node, site) in &self.sites {
            let maps = &site.kernel().maps;
            if let Some(label) = maps.labels.values().find(|label| !placed.contains_key(&label.circuit)) {
                self.fail(&format!("{node} still has a label of c{}", label.circuit));
            }
            if let Some(set) =
                maps.rulesets.values().find(|set| placed.get(&set.circuit) != Some(&set.version))
            {
                self.fail(&format!("{node} has rules of c{} at version {}", set.circuit, set.version));
            }
        }
    }

    /// Every shaped interface has a class of the right rate for each circuit that leaves by it, by whichever way, and no
    /// other.
    fn check_classes(&self, circuits: &BTreeMap<CircuitId, Circuit>) {
        let mut needed = BTreeMap::<_, BTreeSet<(CircuitId, Side, u64)>>::new();
        for circuit in circuits.values().filter(|circuit| !circuit.spec.bounds.bandwidth.is_zero()) {
            let rate = circuit.spec.bounds.bandwidth.bits_per_second() / 8 * 8;
            for path in circuit.path.iter().chain(&circuit.backup) {
                for (at, link) in path.links.iter().enumerate() {
                    for (node, side) in [(at, Side::Source), (at + 1, Side::Destination)] {
                        let node = path.nodes[node].clone();
                        if let Some(interface) = self.shaped_interface(&node, link) {
                            needed.entry((node, interface)).or_default().insert((circuit.id, side, rate));
                        }
                    }
                }
            }
        }
        for (node, site) in &self.sites {
            for (interface, rates) in site.kernel().queues.rates() {
                let key = (node.clone(), interface.clone());
                let needed = needed.remove(&key).unwrap_or_default();
                let mut wanted: Vec<u64> = needed.iter().map(|(.., rate)| *rate).collect();
                wanted.sort_unstable();
                if rates != wanted {
                    self.fail(&format!(
                        "{interface} of {node} has classes of {rates:?}, needed are {needed:?}"
                    ));
                }
            }
        }
        if let Some(((node, interface), _)) = needed.first_key_value() {
            self.fail(&format!("{interface} of {node} has no queues"));
        }
    }

    fn shaped_interface(&self, node: &NodeName, link: &LinkId) -> Option<String> {
        let underlays = super::underlays(&self.topology, node);
        let at =
            underlays.into_iter().find(|underlay| underlay.network == *link.network() && underlay.shape)?;
        Some(at.interface)
    }

    /// What is reserved is what active circuits need, and what those would need that a single failure of a link
    /// or host would move here, after the worst of these failures; and never more than there is.
    fn check_links(&mut self, circuits: &BTreeMap<CircuitId, Circuit>) {
        let mut needed: BTreeMap<_, Bandwidth> = BTreeMap::new();
        for circuit in circuits.values() {
            for link in circuit.path.iter().flat_map(|path| &path.links) {
                let sum = needed.entry(link.clone()).or_default();
                *sum = sum.saturating_add(circuit.spec.bounds.bandwidth);
            }
        }
        for (link, moved) in worst_moves(circuits) {
            let sum = needed.entry(link).or_default();
            *sum = sum.saturating_add(moved);
        }
        let Ok(Response::Links(links)) = self.query(Request::ListLinks) else {
            self.fail("links cannot be listed")
        };
        for link in links {
            let need = needed.get(&link.id).copied().unwrap_or_default();
            if link.reserved != need || link.capacity.is_some_and(|capacity| link.reserved > capacity) {
                self.fail(&format!(
                    "{}: {} reserved, {need} needed, capacity {:?}",
                    link.id, link.reserved, link.capacity
                ));
            }
        }
    }

    /// Everybody starts anew, and no kernel notices.
    fn check_restart(&mut self) {
        let before: Vec<u64> = self.sites.values().map(|site| site.kernel().steps).collect();
        let nodes: Vec<NodeName> = self.sites.keys().cloned().collect();
        for node in nodes {
            self.hang_up(&node);
            if let Some(site) = self.sites.get_mut(&node) {
                match std::mem::replace(&mut site.life, Life::Between) {
                    Life::Alive(host) => site.life = Life::Dead(host.crash()),
                    other => site.life = other,
                }
            }
            self.revive(&node);
        }
        self.controller_dies("to see whether anybody notices");
        self.run(Duration::from_secs(200));
        let after: Vec<u64> = self.sites.values().map(|site| site.kernel().steps).collect();
        if before != after {
            self.fail(&format!("a restart without a change took steps: {before:?}, then {after:?}"));
        }
    }

    /// Everything is taken down, and nothing remains.
    pub fn check_end(&mut self) {
        let resources: Vec<_> = self.client.resources.keys().cloned().collect();
        for id in resources {
            if let Err(refusal) = self.query(Request::RemoveResource { id, force: true }) {
                self.fail(&format!("a resource cannot be removed: {refusal}"));
            }
        }
        self.run(Duration::from_secs(120));
        for (node, site) in &self.sites {
            // Hosts are still there, and links between them are still measured.
            let of_links = |left: &String| left.starts_with("peer ") || left.starts_with("queues of ");
            let left: Vec<String> =
                site.kernel().leftovers().into_iter().filter(|left| !of_links(left)).collect();
            if !left.is_empty() {
                self.fail(&format!("{node} still has {left:?}"));
            }
        }
        if !self.circuits().is_empty() {
            self.fail("circuits are left");
        }
    }
}

/// By link: the most that the failure of one other link or one transit host would move there.
fn worst_moves(circuits: &BTreeMap<CircuitId, Circuit>) -> BTreeMap<LinkId, Bandwidth> {
    let mut moves: BTreeMap<(LinkId, String), Bandwidth> = BTreeMap::new();
    for circuit in circuits.values() {
        let (Some(primary), Some(backup)) = (&circuit.path, &circuit.backup) else { continue };
        let links = primary.links.iter().filter(|link| !backup.links.contains(link));
        let hosts = primary.nodes.iter().filter(|node| !backup.nodes.contains(node));
        let failures =
            links.map(|link| format!("link {link}")).chain(hosts.map(|node| format!("host {node}")));
        for failed in failures {
            for to in backup.links.iter().filter(|link| !primary.links.contains(link)) {
                let sum = moves.entry((to.clone(), failed.clone())).or_default();
                *sum = sum.saturating_add(circuit.spec.bounds.bandwidth);
            }
        }
    }
    let mut worst: BTreeMap<LinkId, Bandwidth> = BTreeMap::new();
    for ((to, _), sum) in moves {
        let most = worst.entry(to).or_default();
        *most = sum.max(*most);
    }
    worst
}
