//! Circuits that are asked for together.
use super::fields::{bounded, byte, clipped, each, list, name, optional, sentence};
use super::units::bandwidth;
use super::{Malformed, Result, limits};
use crate::v1;
use proto_model::CircuitId;
use proto_model::request::Request;
use proto_model::together::{Class, MOST, Move, Outcome, PlaceRequest, Placement};

impl TryFrom<v1::PlaceCircuitsRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::PlaceCircuitsRequest) -> Result<Self> {
        let circuits = list("circuits", MOST, request.circuits)?;
        if circuits.is_empty() {
            return Err(Malformed::new(
                "circuits",
                format!("is empty; 1 to {MOST} circuits are placed together"),
            ));
        }
        let key = bounded("idempotency_key", request.idempotency_key, limits::IDEMPOTENCY_KEY_BYTES)?;
        Ok(Self::PlaceCircuits(PlaceRequest {
            circuits,
            dry_run: request.dry_run,
            moves: request.moves,
            idempotency_key: (!key.is_empty()).then_some(key),
        }))
    }
}

impl From<PlaceRequest> for v1::PlaceCircuitsRequest {
    fn from(request: PlaceRequest) -> Self {
        Self {
            circuits: each(request.circuits),
            dry_run: request.dry_run,
            moves: request.moves,
            idempotency_key: request.idempotency_key.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::PlaceCircuitsResponse> for Placement {
    type Error = Malformed;
    fn try_from(placement: v1::PlaceCircuitsResponse) -> Result<Self> {
        Ok(Self {
            classes: list("classes", 256, placement.classes)?,
            outcomes: list("outcomes", MOST, placement.outcomes)?,
        })
    }
}

impl From<Placement> for v1::PlaceCircuitsResponse {
    fn from(placement: Placement) -> Self {
        Self { classes: each(placement.classes), outcomes: each(placement.outcomes) }
    }
}

impl TryFrom<v1::place_circuits_response::Class> for Class {
    type Error = Malformed;
    fn try_from(class: v1::place_circuits_response::Class) -> Result<Self> {
        Ok(Self {
            priority: byte("priority", class.priority)?,
            wanted: bandwidth("wanted", class.wanted)?,
            placed: bandwidth("placed", class.placed)?,
            bound: bandwidth("bound", class.bound)?,
        })
    }
}

impl From<Class> for v1::place_circuits_response::Class {
    fn from(class: Class) -> Self {
        Self {
            priority: class.priority.into(),
            wanted: class.wanted.bits_per_second(),
            placed: class.placed.bits_per_second(),
            bound: class.bound.bits_per_second(),
        }
    }
}

impl TryFrom<v1::place_circuits_response::Outcome> for Outcome {
    type Error = Malformed;
    fn try_from(outcome: v1::place_circuits_response::Outcome) -> Result<Self> {
        Ok(Self {
            name: name("name", &outcome.name)?,
            source: name("source", &outcome.source)?,
            destination: name("destination", &outcome.destination)?,
            bandwidth: bandwidth("bandwidth", outcome.bandwidth)?,
            priority: byte("priority", outcome.priority)?,
            circuit: (outcome.circuit != 0).then_some(CircuitId(outcome.circuit)),
            path: optional("path", outcome.path)?,
            refused: sentence("refused", outcome.refused)?,
            hint: sentence("hint", outcome.hint)?,
            moves: list("moves", limits::HOSTS, outcome.moves)?,
        })
    }
}

impl From<Outcome> for v1::place_circuits_response::Outcome {
    fn from(outcome: Outcome) -> Self {
        Self {
            name: outcome.name.to_string(),
            source: outcome.source.to_string(),
            destination: outcome.destination.to_string(),
            bandwidth: outcome.bandwidth.bits_per_second(),
            priority: outcome.priority.into(),
            circuit: outcome.circuit.map_or(0, |id| id.0),
            path: outcome.path.map(v1::Path::from),
            refused: clipped(outcome.refused),
            hint: clipped(outcome.hint),
            moves: each(outcome.moves),
        }
    }
}

impl TryFrom<v1::place_circuits_response::Move> for Move {
    type Error = Malformed;
    fn try_from(moved: v1::place_circuits_response::Move) -> Result<Self> {
        Ok(Self {
            circuit: CircuitId(moved.circuit),
            name: name("name", &moved.name)?,
            from: super::fields::needed("from", moved.from)?,
            to: super::fields::needed("to", moved.to)?,
        })
    }
}

impl From<Move> for v1::place_circuits_response::Move {
    fn from(moved: Move) -> Self {
        Self {
            circuit: moved.circuit.0,
            name: moved.name.to_string(),
            from: Some(moved.from.into()),
            to: Some(moved.to.into()),
        }
    }
}
