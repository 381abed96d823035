//! Circuits: make, plan, look, take down.
use super::{all_understood, resource, understood};
use crate::args::circuit::{self as args, Circuit, Create, End, Wish};
use crate::fabric::{Again, Fabric};
use crate::failure::Failure;
use crate::out::Out;
use crate::show::{self, circuit::Ends};
use indicatif::{ProgressBar, ProgressStyle};
use proto_model::circuit::CircuitState;
use proto_model::plan::Plan;
use proto_model::request::{CircuitRef, CircuitRequest, CircuitView, Left, NodeView};
use proto_model::{Kind, NodeName, Refusal, Until};
use proto_wire::v1;
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) async fn circuit(fabric: &mut Fabric, command: &Circuit, out: Out) -> Result<(), Failure> {
    match command {
        Circuit::Create(wish) => create(fabric, wish, out).await,
        Circuit::Plan(asked) => plan(fabric, asked, out).await,
        Circuit::Explain(wish) => super::explain::explain(fabric, wish, out).await,
        Circuit::List => {
            let answer =
                fabric.read(v1::Empty {}, async |mut client, ask| client.list_circuits(ask).await).await?;
            let circuits: Vec<_> = all_understood(answer.circuits.clone())?;
            out.answer("ListCircuitsResponse", &answer, || show::circuit::list(&circuits))
        }
        Circuit::Show(named) => {
            let answer = get(fabric, &named.circuit).await?;
            let view: CircuitView = understood(answer.clone())?;
            let ends = ends(fabric, &view).await;
            let policies = if out.json { Vec::new() } else { policies(fabric, &view).await };
            out.answer("Circuit", &answer, || {
                let before = show::policy::before(&policies);
                format!("{}{before}", show::circuit::one(&view, ends, show::now()))
            })
        }
        Circuit::Extend { circuit, end, forever } => {
            if end.wish().is_none() && !forever {
                return Err(Failure::Usage {
                    what: "no end is named".into(),
                    hint: "say --for 2h, --until 2026-11-21T12:00:00Z or --forever".into(),
                });
            }
            extend(fabric, &circuit.circuit, end, out).await
        }
        Circuit::Watch { circuit } => super::watch::circuits(fabric, circuit.as_ref(), out).await,
        Circuit::Delete { circuit, wait } => delete(fabric, &circuit.circuit, wait.duration(), out).await,
    }
}

pub(super) async fn get(fabric: &mut Fabric, circuit: &CircuitRef) -> Result<v1::Circuit, Failure> {
    let ask = v1::CircuitRequest { circuit: circuit.to_string() };
    fabric.read(ask, async |mut client, ask| client.get_circuit(ask).await).await
}

async fn extend(fabric: &mut Fabric, circuit: &CircuitRef, end: &End, out: Out) -> Result<(), Failure> {
    let (expires, lifetime) = match end.wish() {
        None => (0, 0),
        Some(Until::At(at)) => (at.0, 0),
        Some(Until::After(span)) => (0, span.as_nanos() as u64),
    };
    let ask = v1::ExtendCircuitRequest { circuit: circuit.to_string(), expires, lifetime };
    let answer = fabric
        .ask(Again::Yes, Duration::ZERO, ask, async |mut client, ask| client.extend_circuit(ask).await)
        .await?;
    let view: CircuitView = understood(answer.clone())?;
    let ends = ends(fabric, &view).await;
    out.answer("Circuit", &answer, || show::circuit::one(&view, ends, show::now()))
}

async fn create(fabric: &mut Fabric, wish: &Create, out: Out) -> Result<(), Failure> {
    let wait = wish.wait.duration();
    let key = wish.idempotency_key.as_ref();
    if wish.moves || wish.wish.file.is_some() {
        return super::together::create(fabric, &wish.wish, wish.moves, key, wait, out).await;
    }
    let request = one_of(&wish.wish)?;
    let what = format!("building {} → {}", request.source, request.destination);
    let ask = v1::CreateCircuitRequest {
        circuit: Some(request.clone().into()),
        idempotency_key: wish.idempotency_key.clone().map_or_else(new_key, Ok)?,
        wait: wait.as_nanos() as u64,
    };
    let spinner = spinner(out, &what);
    // The key makes a repetition harmless: whatever broke, there will be one circuit.
    let answer =
        fabric.ask(Again::Yes, wait, ask, async |mut client, ask| client.create_circuit(ask).await).await;
    spinner.finish_and_clear();
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => return Err(with_moves(fabric, request, with_way_to_reasons(failure)).await),
    };
    let view: CircuitView = understood(answer.clone())?;
    let ends = ends(fabric, &view).await;
    out.answer("Circuit", &answer, || {
        format!("{}{}", show::circuit::one(&view, ends, show::now()), show::circuit::next(&view, ends))
    })?;
    if wait.is_zero() { Ok(()) } else { in_force(&view, wait) }
}

/// Of which both ends are named.
fn one_of(wish: &Wish) -> Result<CircuitRequest, Failure> {
    wish.request().ok_or_else(|| Failure::usage("no circuit is named: say SRC and DST, or --file"))
}

/// A refusal for lack of a path has more to tell than fits into a sentence.
fn with_way_to_reasons(failure: Failure) -> Failure {
    match failure {
        Failure::Refused { mut refusal, option } if is_for_lack_of_a_path(&refusal) => {
            let more = "foreweave circuit plan with the same options shows every path and its numbers";
            let known = std::mem::take(&mut refusal.hint);
            refusal.hint = if known.is_empty() { more.into() } else { format!("{known}; {more}") };
            Failure::Refused { refusal, option }
        }
        other => other,
    }
}

/// Which circuits would have to move for it, if that helps.
async fn with_moves(fabric: &mut Fabric, request: CircuitRequest, failure: Failure) -> Failure {
    let Failure::Refused { mut refusal, option } = failure else { return failure };
    if refusal.kind == Kind::Exhausted
        && is_for_lack_of_a_path(&refusal)
        && let Some(moves) = super::together::moves(fabric, request).await
    {
        refusal.hint = format!("{moves}; {}", refusal.hint);
    }
    Failure::Refused { refusal, option }
}

fn is_for_lack_of_a_path(refusal: &Refusal) -> bool {
    matches!(refusal.kind, Kind::Exhausted | Kind::Precondition)
        && (refusal.field.is_empty() || refusal.field.contains("bounds"))
}

/// Whoever waited for an active circuit and has none shall know.
fn in_force(view: &CircuitView, waited: Duration) -> Result<(), Failure> {
    let circuit = &view.circuit;
    let name = &circuit.spec.name;
    let what = match &circuit.state {
        CircuitState::Active | CircuitState::Scheduled => return Ok(()),
        CircuitState::Building { .. } | CircuitState::Opening { .. } | CircuitState::Closing { .. } => {
            format!(
                "{name} is still {} after {}: {}",
                circuit.state.name(),
                show::span(waited),
                show::circuit::detail(circuit)
            )
        }
        CircuitState::Suspended { .. } => {
            format!("{name} is suspended: {}", show::circuit::detail(circuit))
        }
    };
    Err(Failure::Pending {
        what,
        hint: format!(
            "foreweave node list shows what the hosts say; foreweave circuit watch {name} follows it"
        ),
    })
}

/// 128 bits of chance, so that two commands never share a key.
pub(super) fn new_key() -> Result<String, Failure> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::usage(format!("no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Turns on terminals only.
pub(super) fn spinner(out: Out, what: &str) -> ProgressBar {
    if out.json {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(80));
    spinner
}

/// Hosts of its ends whose policy stands before its rules, and how many rules that has; none when they cannot be had.
async fn policies(fabric: &mut Fabric, view: &CircuitView) -> Vec<(NodeName, u32)> {
    let answer = fabric.read(v1::Empty {}, async |mut client, ask| client.list_nodes(ask).await).await;
    let nodes: Vec<NodeView> = answer.ok().and_then(|a| all_understood(a.nodes).ok()).unwrap_or_default();
    let path =
        view.circuit.path.iter().flat_map(|path| path.nodes.first().into_iter().chain(path.nodes.last()));
    let ends: BTreeSet<_> = path.collect();
    let with = nodes.iter().filter(|node| node.policy_rules > 0 && ends.contains(&node.name));
    with.map(|node| (node.name.clone(), node.policy_rules)).collect()
}

async fn ends(fabric: &mut Fabric, view: &CircuitView) -> Ends {
    let spec = &view.circuit.spec;
    let source = resource::address(fabric, &spec.source).await;
    Ends { source, destination: resource::address(fabric, &spec.destination).await }
}

async fn plan(fabric: &mut Fabric, asked: &args::Plan, out: Out) -> Result<(), Failure> {
    let args::Plan { wish, sketch } = asked;
    sketch.check(wish.file.is_some())?;
    if wish.file.is_some() {
        return super::together::plan(fabric, wish, out).await;
    }
    let ask = v1::PlanCircuitRequest { circuit: Some(one_of(wish)?.into()) };
    let answer = fabric.read(ask, async |mut client, ask| client.plan_circuit(ask).await).await?;
    if sketch.sheet.is_wanted() {
        super::sketch::plan(fabric, asked, &answer, out).await?;
    }
    if !sketch.sheet.chart {
        decision(&answer, out)?;
    }
    refused(&answer)
}

/// A plan that found no way is an answer, and for a script a refusal.
pub(super) fn refused(answer: &v1::Plan) -> Result<(), Failure> {
    if answer.chosen.is_some() {
        return Ok(());
    }
    let what = if answer.refused.is_empty() { "no path satisfies the bounds" } else { &answer.refused };
    let feasible = answer.feasible.as_ref().map(|feasible| feasible.sentences.join("; ")).unwrap_or_default();
    let refusal = Refusal::precondition(what).hint(feasible);
    Err(Failure::Refused { refusal, option: None })
}

pub(super) fn decision(answer: &v1::Plan, out: Out) -> Result<(), Failure> {
    let plan: Plan = understood(answer.clone())?;
    out.answer("Plan", answer, || show::plan::plan(&plan))
}

async fn delete(fabric: &mut Fabric, circuit: &CircuitRef, wait: Duration, out: Out) -> Result<(), Failure> {
    let ask = v1::DeleteCircuitRequest { circuit: circuit.to_string(), wait: wait.as_nanos() as u64 };
    let spinner = spinner(out, &format!("taking {circuit} down"));
    let answer =
        fabric.ask(Again::No, wait, ask, async |mut client, ask| client.delete_circuit(ask).await).await;
    spinner.finish_and_clear();
    let mut answer = answer?;
    if answer.pending.is_empty() {
        answer.pending = closing(fabric, circuit).await?;
    }
    let left: Left = understood(answer.clone())?;
    out.answer("DeleteCircuitResponse", &answer, || deleted(circuit, &left))?;
    if wait.is_zero() { Ok(()) } else { gone(circuit, &left, wait) }
}

/// Hosts that a controller of an older build still waits for: it does not say so when it answers a deletion.
async fn closing(fabric: &mut Fabric, circuit: &CircuitRef) -> Result<Vec<String>, Failure> {
    match get(fabric, circuit).await {
        // Another one may have the name by now.
        Ok(found) if found.state() == v1::circuit::State::Closing => Ok(found.waiting),
        Ok(_) => Ok(Vec::new()),
        Err(Failure::Refused { refusal, .. }) if refusal.kind == Kind::NotFound => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

fn deleted(circuit: &CircuitRef, left: &Left) -> String {
    match left.pending.as_slice() {
        [] => format!("{circuit} is gone from every host"),
        pending if left.absent.len() == pending.len() => {
            format!("{circuit} is gone from every connected host")
        }
        _ => format!("{circuit} is being taken down"),
    }
}

/// Whoever waited until it is gone shall know where it is not.
fn gone(circuit: &CircuitRef, left: &Left, waited: Duration) -> Result<(), Failure> {
    if left.pending.is_empty() {
        return Ok(());
    }
    let late: Vec<_> = left.pending.iter().filter(|node| !left.absent.contains(node)).collect();
    let late = (!late.is_empty())
        .then(|| format!("{circuit} is still there after {} on {}", show::span(waited), show::words(&late)));
    let absent = (!left.absent.is_empty()).then(|| match left.absent.as_slice() {
        [one] => format!("pending on {one}: not connected; it is removed when its agent is back"),
        all => format!(
            "pending on {}: not connected; it is removed when their agents are back",
            show::words(all)
        ),
    });
    let what = late.into_iter().chain(absent).collect::<Vec<_>>().join("; ");
    Err(Failure::Pending { what, hint: "foreweave node list shows which hosts are connected".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circuit_that_is_not_gone_everywhere_is_exit_code_5_and_names_the_hosts() {
        let circuit: CircuitRef = "web-db".parse().expect("a name");
        let node = |text: &str| NodeName(text.parse().expect("a name"));
        let wait = Duration::from_secs(30);
        let everywhere = Left::default();
        assert_eq!(gone(&circuit, &everywhere, wait), Ok(()));
        assert_eq!(deleted(&circuit, &everywhere), "web-db is gone from every host");
        let absent = Left { pending: vec![node("edge-b")], absent: vec![node("edge-b")] };
        assert_eq!(deleted(&circuit, &absent), "web-db is gone from every connected host");
        let failure = gone(&circuit, &absent, wait).expect_err("pending");
        assert_eq!(failure.exit_code(), 5);
        assert_eq!(failure.what(), "pending on edge-b: not connected; it is removed when its agent is back");
        let slow = Left { pending: vec![node("edge-a"), node("edge-b")], absent: vec![node("edge-b")] };
        assert_eq!(deleted(&circuit, &slow), "web-db is being taken down");
        let what = gone(&circuit, &slow, wait).expect_err("pending").what();
        assert!(what.contains("still there after 30 s on edge-a; pending on edge-b"), "{what}");
    }
}
