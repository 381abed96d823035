//! Circuits that are asked for together: a file in, a table of what becomes of each out.
use super::circuit::{get, new_key, spinner};
use super::{files, understood};
use crate::args::circuit::Wish;
use crate::fabric::{Again, Fabric};
use crate::failure::Failure;
use crate::out::Out;
use crate::{show, wishes};
use proto_model::request::{CircuitRef, CircuitRequest};
use proto_model::together::{PlaceRequest, Placement};
use proto_model::{CircuitId, Kind, Refusal};
use proto_wire::v1;
use std::time::{Duration, Instant};

/// How often it is looked whether all are active.
const LOOK: Duration = Duration::from_millis(200);

/// Those of the file, or the one that was typed.
fn wanted(wish: &Wish) -> Result<Vec<CircuitRequest>, Failure> {
    match (&wish.file, wish.request()) {
        (Some(file), _) => {
            let text = files::text(file)?;
            wishes::circuits(&text).map_err(|why| Failure::usage(format!("{}: {why}", file.display())))
        }
        (None, Some(one)) => Ok(vec![one]),
        (None, None) => Err(Failure::usage("no circuit is named")),
    }
}

async fn ask(fabric: &mut Fabric, request: PlaceRequest) -> Result<v1::PlaceCircuitsResponse, Failure> {
    let ask = v1::PlaceCircuitsRequest::from(request);
    // A dry run changes nothing, and the key makes a repetition of the other harmless.
    fabric
        .ask(Again::Yes, Duration::ZERO, ask, async |mut client, ask| client.place_circuits(ask).await)
        .await
}

/// What `--move` would do for a circuit that is refused; none: nothing.
pub(super) async fn moves(fabric: &mut Fabric, circuit: CircuitRequest) -> Option<String> {
    let request =
        PlaceRequest { circuits: vec![circuit], dry_run: true, moves: false, idempotency_key: None };
    let placement: Placement = understood(ask(fabric, request).await.ok()?).ok()?;
    let moves: Vec<String> = placement.outcomes.first()?.moves.iter().map(ToString::to_string).collect();
    (!moves.is_empty()).then(|| format!("with --move it is made after moving {}", moves.join(" and ")))
}

pub(super) async fn plan(fabric: &mut Fabric, wish: &Wish, out: Out) -> Result<(), Failure> {
    let circuits = wanted(wish)?;
    let request = PlaceRequest { circuits, dry_run: true, moves: false, idempotency_key: None };
    let answer = ask(fabric, request).await?;
    let placement: Placement = understood(answer.clone())?;
    out.answer("PlaceCircuitsResponse", &answer, || show::together::placement(&placement, true))?;
    refused(&placement)
}

pub(super) async fn create(
    fabric: &mut Fabric,
    wish: &Wish,
    moves: bool,
    key: Option<&String>,
    wait: Duration,
    out: Out,
) -> Result<(), Failure> {
    let circuits = wanted(wish)?;
    let key = key.cloned().map_or_else(new_key, Ok)?;
    let spinner = spinner(out, &format!("placing {} circuits", circuits.len()));
    let request = PlaceRequest { circuits, dry_run: false, moves, idempotency_key: Some(key) };
    let answer = ask(fabric, request).await;
    let answer = answer.inspect_err(|_| spinner.finish_and_clear())?;
    let placement: Placement = understood(answer.clone())?;
    let late = built(fabric, &placement, wait).await;
    spinner.finish_and_clear();
    let late = late?;
    out.answer("PlaceCircuitsResponse", &answer, || show::together::placement(&placement, false))?;
    refused(&placement)?;
    match late.first() {
        Some((id, state)) if !wait.is_zero() => Err(Failure::Pending {
            what: format!(
                "{} circuits are not active after {}; {id} is {state}",
                late.len(),
                show::span(wait)
            ),
            hint: "foreweave circuit list shows them; foreweave node list shows what the hosts say".into(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Waits until all that were made are active or scheduled; returns those that are not.
async fn built(
    fabric: &mut Fabric,
    placement: &Placement,
    wait: Duration,
) -> Result<Vec<(CircuitId, &'static str)>, Failure> {
    let begun = Instant::now();
    let mut left: Vec<CircuitId> = placement.outcomes.iter().filter_map(|outcome| outcome.circuit).collect();
    loop {
        let mut late = Vec::new();
        for id in left {
            let state = get(fabric, &CircuitRef::Id(id)).await?.state();
            match state {
                v1::circuit::State::Active | v1::circuit::State::Scheduled => {}
                v1::circuit::State::Suspended => late.push((id, "suspended")),
                v1::circuit::State::Closing => late.push((id, "closing")),
                v1::circuit::State::Unspecified
                | v1::circuit::State::Building
                | v1::circuit::State::Opening => late.push((id, "building")),
            }
        }
        if late.is_empty() || begun.elapsed() >= wait {
            return Ok(late);
        }
        left = late.into_iter().map(|(id, _)| id).collect();
        tokio::time::sleep(LOOK).await;
    }
}

/// Whoever asked for several and did not get all shall know, a script too.
fn refused(placement: &Placement) -> Result<(), Failure> {
    let refused = placement.outcomes.iter().filter(|outcome| !outcome.refused.is_empty());
    let names: Vec<&str> = refused.map(|outcome| outcome.name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let what =
        format!("{} of {} circuits are refused: {}", names.len(), placement.outcomes.len(), names.join(", "));
    let movable =
        placement.outcomes.iter().any(|outcome| !outcome.refused.is_empty() && !outcome.moves.is_empty());
    let hint = if movable {
        "some fit if others move: foreweave circuit create with the same and --move"
    } else {
        ""
    };
    Err(Failure::Refused { refusal: Refusal::new(Kind::Exhausted, what).hint(hint), option: None })
}
