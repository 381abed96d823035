//! What happens, as it happens.
use super::{all_understood, circuit, understood};
use crate::args::fabric::{Drops, Watch};
use crate::fabric::Fabric;
use crate::failure::Failure;
use crate::out::Out;
use crate::show;
use crate::show::drops::{Circuits, Known};
use proto_model::circuit::Circuit;
use proto_model::report::DropEvent;
use proto_model::request::{CircuitRef, CircuitView, DropsView, Event};
use proto_model::{CircuitId, NodeName};
use proto_wire::v1;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Between two tries to reach a controller again.
const AGAIN: Duration = Duration::from_secs(1);

/// The circuits as they were last told, to show what turned. At most as many as the controller has.
type Seen = BTreeMap<CircuitId, Circuit>;

pub(super) async fn all(fabric: &mut Fabric, kinds: &Watch, out: Out) -> Result<(), Failure> {
    let ask = v1::WatchRequest { circuits: kinds.circuits, resources: kinds.resources, nodes: kinds.nodes };
    events(fabric, ask, None, out).await
}

pub(super) async fn circuits(
    fabric: &mut Fabric,
    only: Option<&CircuitRef>,
    out: Out,
) -> Result<(), Failure> {
    let only = match only {
        Some(circuit) => Some(circuit::get(fabric, circuit).await?.id),
        None => None,
    };
    events(fabric, v1::WatchRequest { circuits: true, resources: false, nodes: false }, only, out).await
}

/// For good, or until the one circuit that is watched is gone. When contact is lost, or the controller ends the stream
/// because it ends itself, another one is asked; what did not change meanwhile is not told again.
async fn events(
    fabric: &mut Fabric,
    ask: v1::WatchRequest,
    only: Option<u64>,
    out: Out,
) -> Result<(), Failure> {
    let mut seen = Seen::new();
    let mut first = true;
    loop {
        let told = stream(fabric, ask, only, (&mut seen, first), out).await;
        match told {
            Ok(Ended::Gone) => return Ok(()),
            Ok(Ended::ByController) => {}
            Err(failure) if first || !matches!(failure, Failure::Unreachable { .. }) => return Err(failure),
            Err(_) => {}
        }
        if std::mem::take(&mut first) {
            out.note("contact with the controller is lost; trying again until it is back (end with Ctrl-C)");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Why a stream came to its end.
enum Ended {
    ByController,
    /// What was watched is gone.
    Gone,
}

/// One stream. `first`: nothing was told before.
async fn stream(
    fabric: &mut Fabric,
    ask: v1::WatchRequest,
    only: Option<u64>,
    (seen, first): (&mut Seen, bool),
    out: Out,
) -> Result<Ended, Failure> {
    let mut stream = fabric.read(ask, async |mut client, ask| client.watch(ask).await).await?;
    // Circuits that were there before contact was lost, until the controller has told all that there is.
    let mut missing: Option<BTreeSet<CircuitId>> = (!first).then(|| seen.keys().copied().collect());
    loop {
        let event = match stream.message().await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(Ended::ByController),
            Err(status) => match fabric.failure(&status) {
                Failure::Unreachable { .. } => return Ok(Ended::ByController),
                failure => return Err(failure),
            },
        };
        if only.is_some_and(|id| !concerns(&event, id)) {
            continue;
        }
        let caught_up = matches!(event.event, Some(v1::event::Event::CaughtUp(_)));
        if let Some(v1::event::Event::Circuit(circuit)) = &event.event
            && let Some(missing) = &mut missing
        {
            missing.remove(&CircuitId(circuit.id));
        }
        let again = missing.is_some() && is_known(&event, seen)?;
        if caught_up {
            for id in missing.take().into_iter().flatten() {
                let gone =
                    v1::Event { event: Some(v1::event::Event::CircuitGone(id.0)), ..Default::default() };
                if tell(&gone, only, seen, out)? {
                    return Ok(Ended::Gone);
                }
            }
        }
        let was_told = again || caught_up && !first;
        if !was_told && tell(&event, only, seen, out)? {
            return Ok(Ended::Gone);
        }
    }
}

/// A circuit that is as it was last told.
fn is_known(event: &v1::Event, seen: &Seen) -> Result<bool, Failure> {
    let event: Option<Event> = understood(event.clone())?;
    let Some(Event::Circuit(view)) = event else { return Ok(false) };
    Ok(seen.get(&view.circuit.id) == Some(&view.circuit))
}

/// True: it was about the one circuit that is watched, which is gone.
fn tell(event: &v1::Event, only: Option<u64>, seen: &mut Seen, out: Out) -> Result<bool, Failure> {
    if let Some(text) = lines(event, seen)? {
        out.item("Event", event, || text)?;
    } else if out.json {
        out.item("Event", event, String::new)?;
    } else {
        out.note("that is all there is now; changes follow (end with Ctrl-C)");
    }
    Ok(only.is_some() && matches!(event.event, Some(v1::event::Event::CircuitGone(_))))
}

fn concerns(event: &v1::Event, id: u64) -> bool {
    match &event.event {
        Some(v1::event::Event::Circuit(circuit)) => circuit.id == id,
        Some(v1::event::Event::CircuitGone(gone)) => *gone == id,
        Some(v1::event::Event::CaughtUp(_)) => true,
        Some(
            v1::event::Event::Resource(_)
            | v1::event::Event::ResourceGone(_)
            | v1::event::Event::Node(_)
            | v1::event::Event::NodeGone(_),
        )
        | None => false,
    }
}

/// None: everything that was there at the start has been told.
fn lines(event: &v1::Event, seen: &mut Seen) -> Result<Option<String>, Failure> {
    let event: Option<Event> = understood(event.clone())?;
    Ok(event.map(|event| match event {
        Event::Circuit(view) => match seen.insert(view.circuit.id, view.circuit.clone()) {
            Some(before) => show::circuit::changes(&before, &view),
            None => show::circuit::line(&view),
        },
        Event::CircuitGone { id, left } => {
            seen.remove(&id);
            show::circuit::gone(id, &left)
        }
        Event::Resource(view) => show::resource::line(&view),
        Event::ResourceGone(id) => format!("resource {id} is gone"),
        Event::Node(node) => show::fabric::node_line(&node),
        Event::NodeGone(name) => format!("node {name} is gone"),
    }))
}

fn ended() -> Failure {
    Failure::Unreachable {
        tried: Vec::new(),
        hint: "the controller ended the stream; run the command again".into(),
    }
}

pub(super) async fn drops(fabric: &mut Fabric, wish: &Drops, out: Out) -> Result<(), Failure> {
    if wish.follow { follow(fabric, wish, out).await } else { counts(fabric, wish, out).await }
}

async fn counts(fabric: &mut Fabric, wish: &Drops, out: Out) -> Result<(), Failure> {
    let circuit = match &wish.circuit {
        Some(circuit) => Some(circuit::get(fabric, circuit).await?.id),
        None => None,
    };
    let mut answer = list(fabric, wish).await?;
    answer.drops.retain(|count| {
        let of_circuit = count.drop.as_ref().and_then(|drop| drop.circuit);
        // A controller of an older build tells of all hosts.
        wish.node.as_ref().is_none_or(|node| count.node == node.as_str())
            && (circuit.is_none() || of_circuit == circuit)
    });
    let drops: DropsView = understood(answer.clone())?;
    let circuits = if out.json { Circuits::new() } else { known(fabric).await };
    out.answer("ListDropsResponse", &answer, || show::drops::counts(&drops, &circuits))
}

async fn list(fabric: &mut Fabric, wish: &Drops) -> Result<v1::ListDropsResponse, Failure> {
    let ask = v1::ListDropsRequest { node: wish.node.as_ref().map(ToString::to_string).unwrap_or_default() };
    fabric.read(ask, async |mut client, ask| client.list_drops(ask).await).await
}

/// None when they cannot be had, since the drops say enough without.
async fn known(fabric: &mut Fabric) -> Circuits {
    let answer = fabric.read(v1::Empty {}, async |mut client, ask| client.list_circuits(ask).await).await;
    let circuits: Vec<CircuitView> =
        answer.ok().and_then(|a| all_understood(a.circuits).ok()).unwrap_or_default();
    let of = |view: CircuitView| {
        let circuit = view.circuit;
        let rules = circuit.rules.into_iter().map(|rule| (rule.id, rule.spec.to_string())).collect();
        (circuit.id, Known { name: circuit.spec.name, rules })
    };
    circuits.into_iter().map(of).collect()
}

async fn follow(fabric: &mut Fabric, wish: &Drops, out: Out) -> Result<(), Failure> {
    let ask = v1::WatchDropsRequest {
        circuit: wish.circuit.as_ref().map(ToString::to_string).unwrap_or_default(),
        node: wish.node.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    let mut stream = fabric.read(ask, async |mut client, ask| client.watch_drops(ask).await).await?;
    let circuits = if out.json { Circuits::new() } else { known(fabric).await };
    let absent = list(fabric, wish).await?.absent;
    if !absent.is_empty() {
        out.note(&format!("not connected, so nothing is told of their drops: {}", show::words(&absent)));
    }
    out.note("dropped packets as they happen, a sample of them (end with Ctrl-C)");
    while let Some(event) = stream.message().await.map_err(|status| fabric.failure(&status))? {
        if event.missed > 0 {
            out.note(&format!("{} events were missed here: this reader is too slow", event.missed));
        }
        let node: NodeName = event.node.parse().map_err(|why| Failure::usage(format!("node: {why}")))?;
        let Some(drop) = event.drop.clone() else { continue };
        let drop: DropEvent = understood(drop)?;
        out.item("NodeDropEvent", &event, || show::drops::line(&node, &drop, &circuits))?;
    }
    Err(ended())
}
