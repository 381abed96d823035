//! Circuits as clients ask for them: plan, create, delete, rules.
use super::Fabric;
use super::allocate::Chosen;
use super::ends::expiry;
use crate::circuit::{Circuit, Phase, Waiting};
use crate::guarantee;
use crate::past::Pasts;
use crate::protection::Protection;
use crate::rate::Rate;
use crate::record::Record;
use crate::registry::resources::takes_circuits;
use crate::{compile, intent, rules, silence};
use proto_model::circuit::{CircuitSpec, Path};
use proto_model::plan::{HostChange, Plan};
use proto_model::report::Traffic;
use proto_model::request::{CircuitRef, CircuitRequest, Response, RuleChange, RuleEdit};
use proto_model::resource::{Attachment, Status};
use proto_model::rule::Revert;
use proto_model::{CircuitId, Kind, Refusal, ResourceId, Timestamp, Until};
use std::collections::{BTreeMap, BTreeSet};

impl Fabric {
    pub(super) fn create_circuit(
        &mut self,
        request: CircuitRequest,
        key: Option<String>,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        if let Some(key) = &key
            && let Some(answer) = self.answered_before(key, &request)?
        {
            return Ok(answer);
        }
        let (spec, rules) = self.checked(&request, now).map_err(within_circuit)?;
        let limit = self.settings.limits.circuits;
        if self.circuits.len() >= limit {
            let what = format!("there are {limit} circuits, which is the bound");
            return Err(Refusal::new(Kind::Exhausted, what).hint("delete some, or raise limits.circuits"));
        }
        let from = spec.starts.unwrap_or(now);
        let chosen = self.in_its_time(&spec, from, |fabric| fabric.choose(&spec, &BTreeSet::new()));
        let chosen = chosen.map_err(within_circuit)?;
        let id = self.admit(spec, rules, chosen, now)?;
        if let Some(key) = key {
            self.remember(key, request, id, now);
        }
        self.show(id)
    }

    /// Builds a circuit, or promises it its path, if it starts later.
    pub(super) fn admit(
        &mut self,
        spec: CircuitSpec,
        rules: rules::Edited,
        chosen: Chosen,
        now: Timestamp,
    ) -> Result<CircuitId, Refusal> {
        let id = match spec.starts {
            Some(_) => {
                let id = self.next_id();
                self.add(id, spec, rules, chosen.plan, now);
                self.schedule(id, chosen.path.path, now);
                id
            }
            None => {
                let placed = self.allocate_both(&chosen, now)?;
                let id = self.next_id();
                self.add(id, spec, rules, chosen.plan, now);
                self.build(id, placed, now);
                id
            }
        };
        self.watch_ends(id);
        Ok(id)
    }

    pub(super) fn next_id(&mut self) -> CircuitId {
        self.counters.next_circuit += 1;
        self.step.put(Record::Counters(self.counters.clone()));
        CircuitId(self.counters.next_circuit)
    }

    pub(super) fn add(
        &mut self,
        id: CircuitId,
        spec: CircuitSpec,
        rules: rules::Edited,
        plan: Plan,
        now: Timestamp,
    ) {
        for end in [&spec.source, &spec.destination] {
            if let Some(member) = self.resources.get_mut(end) {
                member.circuits.insert(id);
            }
        }
        self.step.put(Record::Decision(id, plan.clone()));
        self.circuits.insert(Circuit {
            id,
            spec,
            phase: Phase::Suspended { why: String::new() },
            rules: rules.rules,
            rules_version: 1,
            next_rule: rules.next,
            revert: None,
            reverted: None,
            created: now,
            since: now,
            decision: Some(Box::new(plan)),
            trouble: BTreeMap::new(),
            lost_ends: BTreeMap::new(),
            rules_waiting: Waiting::new(),
            leaving: Waiting::new(),
            protection: Protection::default(),
            rate: Rate::default(),
            moving: None,
            moved: None,
            past: Pasts::default(),
            at_source: Traffic::default(),
            at_destination: Traffic::default(),
            noted: Default::default(),
        });
    }

    pub(super) fn show(&self, id: CircuitId) -> Result<Response, Refusal> {
        let circuit =
            self.circuit(id).ok_or_else(|| Refusal::not_found(format!("there is no circuit {id}")))?;
        Ok(Response::Circuit(guarantee::view(circuit, &self.topology, &self.nodes)))
    }

    pub(super) fn plan_circuit(
        &mut self,
        request: &CircuitRequest,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        let (spec, rules) = self.checked(request, now).map_err(within_circuit)?;
        let from = spec.starts.unwrap_or(now);
        let plan = self.in_its_time(&spec, from, |fabric| fabric.planned(&spec, &rules))?;
        Ok(Response::Plan(self.with_insight(plan, Vec::new(), now)))
    }

    fn planned(&self, spec: &CircuitSpec, rules: &rules::Edited) -> Result<Plan, Refusal> {
        let weights = self.weights(&spec.bounds);
        let (mut plan, chosen) = self.decide(spec, &BTreeSet::new(), |decision, ask| {
            let best = decision.chosen().map(|best| best.path.clone());
            let second = self.both(spec, decision, ask);
            let chosen = decision.chosen().cloned();
            (decision.plan(ask, &weights, ask.limit), chosen.zip(best).map(|chosen| (chosen, second)))
        })?;
        if let Some(((chosen, best), second)) = chosen {
            let backup = match second {
                Ok(second) => {
                    plan.protection = second.remark;
                    if chosen.path != best {
                        plan.protection = crate::route::pair::remark(&best);
                    }
                    Some(second.candidate)
                }
                Err(why) => {
                    plan.protection = why;
                    None
                }
            };
            let ways = [Some(&chosen.path), backup.as_ref().map(|backup| &backup.path)].into_iter().flatten();
            plan.warnings = ways.filter_map(|way| silence::warning(way, &self.topology)).collect();
            plan.warnings.extend(self.doubt(spec, &chosen.path));
            plan.backup.clone_from(&backup);
            let mtu = backup.as_ref().map_or(u16::MAX, |backup| backup.offer.mtu).min(chosen.offer.mtu);
            plan.hosts = self.host_changes(spec, &chosen.path, mtu, rules.rules.len());
            for more in backup.map(|backup| compile::backup_sentences(&backup.path)).unwrap_or_default() {
                match plan.hosts.iter_mut().find(|host| host.node == more.node) {
                    Some(host) => host.changes.extend(more.changes),
                    None => plan.hosts.push(more),
                }
            }
        }
        Ok(plan)
    }

    fn host_changes(&self, spec: &CircuitSpec, path: &Path, mtu: u16, rules: usize) -> Vec<HostChange> {
        let end = |id| {
            let member = self.resources.get(id)?;
            Some((&member.resource, self.resources.interface(&member.resource), member.has_interface()))
        };
        let Some((source, destination)) = end(&spec.source).zip(end(&spec.destination)) else {
            return Vec::new();
        };
        compile::sentences(path, mtu, [source, destination], rules, &self.topology)
    }

    /// Everything that can be said against a request before a path is sought.
    pub(super) fn checked(
        &self,
        request: &CircuitRequest,
        now: Timestamp,
    ) -> Result<(CircuitSpec, rules::Edited), Refusal> {
        if request.source == request.destination {
            let what = format!("{} is source and destination", request.source);
            return Err(Refusal::invalid("destination", what).hint("a circuit joins two resources"));
        }
        let mut spec = request.spec().map_err(|not| Refusal::invalid("name", not.to_string()))?;
        spec.starts = expiry(request.starts, "starts", now)?;
        if let (Some(starts), Some(Until::At(end))) = (spec.starts, request.until)
            && end <= starts
        {
            let what = format!("it would end at {end}, and start at {starts}");
            return Err(Refusal::invalid("expires", what).hint("name an end after the start, or none"));
        }
        spec.expires = expiry(request.until, "expires", spec.starts.unwrap_or(now))?;
        intent::check(&spec.bounds, "bounds")?;
        self.check_ends(&spec)?;
        self.check_hosts(&spec)?;
        let rules = rules::first(&request.rules, now)?;
        self.check_behind_policies(&spec, &rules.rules)?;
        self.check_free(&spec)?;
        Ok((spec, rules))
    }

    fn check_free(&self, spec: &CircuitSpec) -> Result<(), Refusal> {
        let taken = |field: &str, what: String, circuit: &Circuit| {
            let hint = format!("see `foreweave circuit show {}`", circuit.id);
            Err(Refusal { field: field.into(), ..Refusal::new(Kind::AlreadyExists, what).hint(hint) })
        };
        if let Some(holder) = self.circuits.holder_of_name(&spec.name) {
            return taken("name", format!("{} is called {} already", holder.id, spec.name), holder);
        }
        if let Some(holder) = self.circuits.holder_of_pair(&spec.source, &spec.destination) {
            let what = format!(
                "{} and {} have the circuit {} ({})",
                spec.source, spec.destination, holder.spec.name, holder.id
            );
            return taken("destination", what, holder);
        }
        Ok(())
    }

    /// What a plain VXLAN device cannot do.
    fn check_outside(&self, spec: &CircuitSpec) -> Result<(), Refusal> {
        if self.outside(spec).is_none() {
            return Ok(());
        }
        let is_outside = |id: &ResourceId| {
            let member = self.resources.get(id);
            member.is_some_and(|m| matches!(m.resource.metadata.attachment, Attachment::External(_)))
        };
        let refuse = |field: &str, what: String, hint: &str| {
            Err(Refusal { field: field.into(), ..Refusal::precondition(what).hint(hint) })
        };
        if is_outside(&spec.source) && is_outside(&spec.destination) {
            let what = format!("{} and {} are both plain VXLAN devices", spec.source, spec.destination);
            return refuse("destination", what, "one end must be a host with an agent: it has the firewall");
        }
        if spec.bounds.encrypted {
            let outside = if is_outside(&spec.source) { &spec.source } else { &spec.destination };
            let what = format!("{outside} is a plain VXLAN device: nobody there could encrypt");
            return refuse("bounds.encrypted", what, "run an agent there, or leave encryption out");
        }
        Ok(())
    }

    /// Both ends are there and may have circuits.
    pub(super) fn check_ends(&self, spec: &CircuitSpec) -> Result<(), Refusal> {
        self.check_outside(spec)?;
        for (id, field) in [(&spec.source, "source"), (&spec.destination, "destination")] {
            let Some(member) = self.resources.get(id) else { return Err(self.unknown_resource(id, field)) };
            let refuse = |what: String, hint: &str| {
                Err(Refusal { field: field.into(), ..Refusal::precondition(what).hint(hint) })
            };
            if member.expired {
                return refuse(
                    format!("the lease of {id} has run out"),
                    "it must renew it by a status update",
                );
            }
            let status = member.resource.status;
            let placed = self.circuits.holder_of_pair(&spec.source, &spec.destination).is_some();
            match status {
                Status::Draining if placed => {}
                _ if takes_circuits(status) => {}
                _ => return refuse(format!("{id} is {}", status_name(status)), "set its status to up first"),
            }
            let node = &member.resource.metadata.node;
            if !self.topology.is_connected(node) {
                return refuse(
                    format!("{node}, the host of {id}, is not connected"),
                    "see `foreweave node list`",
                );
            }
            let keyless = |node| self.nodes.get(node).is_none_or(|node| node.record.seal_keys.is_empty());
            if spec.bounds.encrypted && keyless(node) {
                return refuse(
                    super::agents::no_key(node),
                    "see `foreweave-agent check` there, or upgrade it",
                );
            }
        }
        Ok(())
    }

    /// Hosts that the request names.
    fn check_hosts(&self, spec: &CircuitSpec) -> Result<(), Refusal> {
        for (field, names) in [("bounds.via", &spec.bounds.via), ("bounds.avoid", &spec.bounds.avoid)] {
            if let Some(name) = names.iter().find(|name| !self.nodes.contains_key(*name)) {
                return Err(self.unknown_node(name, field));
            }
        }
        let host =
            |id: &ResourceId| self.resources.get(id).map(|member| member.resource.metadata.node.clone());
        let (Some(from), Some(to)) = (host(&spec.source), host(&spec.destination)) else { return Ok(()) };
        if let Some(end) = [&from, &to].into_iter().find(|end| spec.bounds.avoid.contains(*end)) {
            return Err(Refusal::invalid(
                "bounds.avoid",
                format!("{end} is the host of an end of the circuit"),
            ));
        }
        let Some(path) = &spec.pinned_path else { return Ok(()) };
        let refuse = |what: String| Err(Refusal::invalid("path", what));
        if path.len() > usize::from(crate::route::MAX_HOPS) + 1 {
            return refuse(format!(
                "{} hosts, at most {} are allowed",
                path.len(),
                crate::route::MAX_HOPS + 1
            ));
        }
        if path.first() != Some(&from) || path.last() != Some(&to) {
            return refuse(format!("it must start at {from} and end at {to}, where the resources are"));
        }
        for (at, name) in path.iter().enumerate() {
            if !self.nodes.contains_key(name) {
                return Err(self.unknown_node(name, "path"));
            }
            if path[..at].contains(name) {
                return refuse(format!("it crosses {name} twice"));
            }
            if !self.topology.is_connected(name) {
                let what = format!("{name} is not connected");
                return Err(Refusal { field: "path".into(), ..Refusal::precondition(what) });
            }
        }
        if let Some(hop) = spec.bounds.via.iter().find(|via| !path.contains(via)) {
            return Err(Refusal::invalid("bounds.via", format!("the path does not cross {hop}")));
        }
        if let Some(hop) = spec.bounds.avoid.iter().find(|avoid| path.contains(avoid)) {
            return Err(Refusal::invalid("bounds.avoid", format!("the path crosses {hop}")));
        }
        Ok(())
    }

    pub(super) fn find(&self, circuit: &CircuitRef) -> Result<&Circuit, Refusal> {
        let found = self.circuits.find(circuit).and_then(|id| self.circuits.get(id));
        found.ok_or_else(|| {
            let what = format!("there is no circuit {circuit}");
            Refusal {
                field: "circuit".into(),
                ..Refusal::not_found(what).hint("see `foreweave circuit list`")
            }
        })
    }

    pub(super) fn get_circuit(&self, circuit: &CircuitRef) -> Result<Response, Refusal> {
        Ok(Response::Circuit(guarantee::view(self.find(circuit)?, &self.topology, &self.nodes)))
    }

    pub(super) fn explain_circuit(&self, circuit: &CircuitRef, now: Timestamp) -> Result<Response, Refusal> {
        let circuit = self.find(circuit)?;
        match &circuit.decision {
            Some(plan) => {
                let plan = Plan { choice: self.shown_choice(circuit.id), ..Plan::clone(plan) };
                Ok(Response::Plan(self.with_insight(plan, circuit.past.list(), now)))
            }
            None => Err(Refusal::not_found(format!("no decision about {} is kept", circuit.id))),
        }
    }

    pub(super) fn delete_circuit(
        &mut self,
        circuit: &CircuitRef,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        let id = self.find(circuit)?.id;
        self.begin_to_close(id, now);
        let left = self.left_on(id);
        self.advance(id, now);
        Ok(Response::Deleted(left))
    }

    /// Lets go of it everywhere; it vanishes when all hosts in contact have reported.
    pub(super) fn close(&mut self, id: CircuitId, now: Timestamp) {
        self.begin_to_close(id, now);
        self.advance(id, now);
    }

    fn begin_to_close(&mut self, id: CircuitId, now: Timestamp) {
        let Some(circuit) = self.circuits.get(id).filter(|circuit| !circuit.phase.is_closing()) else {
            return;
        };
        let route = circuit.phase.route().cloned();
        self.choice.forget(id);
        let ends = [circuit.spec.source.clone(), circuit.spec.destination.clone()];
        self.unschedule(id, now);
        let mut nodes = self.clear(id, now);
        nodes.extend(self.left_on(id).pending);
        for end in &ends {
            if let Some(member) = self.resources.get_mut(end) {
                member.circuits.remove(&id);
            }
        }
        let connected: Vec<_> = nodes.into_iter().filter(|node| self.topology.is_connected(node)).collect();
        self.circuits.enter(id, Phase::Closing { route, waiting: Waiting::new() }, now);
        self.wait_for(id, connected);
        self.step.persist(id);
        self.step.announce_circuit(id);
    }

    pub(super) fn update_rules(&mut self, change: &RuleChange, now: Timestamp) -> Result<Response, Refusal> {
        let id = self.find(&change.circuit)?.id;
        self.check_unconfirmed(id, now)?;
        let circuit = self.find(&CircuitRef::Id(id))?;
        let (id, version) = (circuit.id, circuit.rules_version);
        if circuit.phase.is_closing() {
            return Err(Refusal::precondition(format!("{id} is being closed")));
        }
        if let Some(expected) = change.expected_version.filter(|expected| *expected != version) {
            let what = format!("the rules of {id} are at version {version}, not {expected}");
            return Err(Refusal { field: "expected_version".into(), ..Refusal::precondition(what) }
                .hint("somebody changed them; look at them again"));
        }
        let edited = rules::edit(&circuit.rules, circuit.next_rule, &change.edit, now)
            .map_err(|refusal| within(edit_field(&change.edit), refusal))?;
        let spec = &circuit.spec;
        self.check_behind_policies(spec, &edited.rules)
            .map_err(|refusal| within(edit_field(&change.edit), refusal))?;
        if edited.rules != circuit.rules {
            let back = |within| Revert { at: now.plus(within), rules: circuit.rules.clone() };
            let revert = change.confirm_within.map(back);
            self.replace_rules(id, edited, revert);
            self.watch_ends(id);
        }
        self.rules_of(id)
    }

    pub(super) fn replace_rules(&mut self, id: CircuitId, edited: rules::Edited, revert: Option<Revert>) {
        if let Some(circuit) = self.circuits.get_mut(id) {
            circuit.rules = edited.rules;
            circuit.next_rule = edited.next;
            circuit.rules_version += 1;
            circuit.revert = revert;
            circuit.reverted = None;
        }
        // A path that does not compile at the moment is placed anew soon, with these rules.
        let _ = self.want_objects(id);
        self.wait_for_rules(id);
        self.step.persist(id);
        self.step.announce_circuit(id);
    }
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Up => "up",
        Status::Degraded => "degraded",
        Status::Draining => "draining",
        Status::Down => "down",
    }
}

/// Names the field as the API does.
pub(super) fn within(message: &str, refusal: Refusal) -> Refusal {
    match refusal.field.is_empty() {
        true => refusal,
        false => Refusal { field: format!("{message}.{}", refusal.field), ..refusal },
    }
}

fn within_circuit(refusal: Refusal) -> Refusal {
    within("circuit", refusal)
}

fn edit_field(edit: &RuleEdit) -> &'static str {
    match edit {
        RuleEdit::Add { .. } => "add",
        RuleEdit::Remove { .. } => "remove",
        RuleEdit::Replace { .. } => "replace",
    }
}
