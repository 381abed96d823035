//! Remembers what was answered by the key of the request, so that a repetition makes nothing twice.
use super::Fabric;
use crate::deadlines::Deadline;
use crate::guarantee;
use crate::record::{IdempotencyRecord, Record, RecordKey, Together};
use proto_model::request::{CircuitRequest, Response};
use proto_model::together::{PlaceRequest, Placement};
use proto_model::{CircuitId, Refusal, Timestamp};

const MAX_KEY: usize = 128;

impl Fabric {
    /// The answer to an earlier request with the same key.
    pub(super) fn answered_before(
        &self,
        key: &str,
        request: &CircuitRequest,
    ) -> Result<Option<Response>, Refusal> {
        check_key(key)?;
        let Some(record) = self.keys.get(key) else { return Ok(None) };
        if record.request != *request || record.together.is_some() {
            let what = format!("the key was used for {} with another content", record.circuit);
            return Err(Refusal::invalid("idempotency_key", what).hint("use a new key for a new request"));
        }
        let Some(circuit) = self.circuit(record.circuit) else {
            let what = format!("{}, which was made with this key, has been deleted since", record.circuit);
            return Err(Refusal::precondition(what).hint("use a new key for a new circuit"));
        };
        Ok(Some(Response::Circuit(guarantee::view(circuit, &self.topology, &self.nodes))))
    }

    pub(super) fn remember(
        &mut self,
        key: String,
        request: CircuitRequest,
        circuit: CircuitId,
        now: Timestamp,
    ) {
        self.keep_key(IdempotencyRecord { key, request, circuit, at: now, together: None });
    }

    fn keep_key(&mut self, record: IdempotencyRecord) {
        let (key, now) = (record.key.clone(), record.at);
        while self.keys.len() >= self.settings.limits.idempotency_keys.max(1) {
            let Some((_, oldest)) = self.keys_by_age.first().cloned() else { break };
            self.forget_key(&oldest);
        }
        self.step.put(Record::Idempotency(record.clone()));
        self.deadlines.set(Deadline::Idempotency(key.clone()), now.plus(self.settings.timing.idempotency));
        self.keys_by_age.insert((now, key.clone()));
        self.keys.insert(key, record);
    }

    pub(super) fn forget_key(&mut self, key: &str) {
        if let Some(record) = self.keys.remove(key) {
            self.keys_by_age.remove(&(record.at, key.to_owned()));
            self.deadlines.clear(&Deadline::Idempotency(key.to_owned()));
            self.step.delete(RecordKey::Idempotency(key.to_owned()));
        }
    }

    /// The same for several circuits.
    pub(super) fn placed_before(
        &self,
        key: &str,
        request: &PlaceRequest,
    ) -> Result<Option<Placement>, Refusal> {
        check_key(key)?;
        let Some(record) = self.keys.get(key) else { return Ok(None) };
        match &record.together {
            Some(known) if known.request == *request => Ok(Some(known.answer.clone())),
            Some(_) | None => {
                Err(Refusal::invalid("idempotency_key", "the key was used for another request")
                    .hint("use a new key for a new request"))
            }
        }
    }

    pub(super) fn remember_together(
        &mut self,
        key: String,
        request: PlaceRequest,
        answer: Placement,
        now: Timestamp,
    ) {
        let Some(first) = request.circuits.first().cloned() else { return };
        let circuit = answer.outcomes.iter().find_map(|outcome| outcome.circuit).unwrap_or(CircuitId(0));
        let together = Some(Together { request, answer });
        self.keep_key(IdempotencyRecord { key, request: first, circuit, at: now, together });
    }
}

fn check_key(key: &str) -> Result<(), Refusal> {
    if key.is_empty() || key.len() > MAX_KEY {
        let what = format!("the key has {} bytes, 1 to {MAX_KEY} are allowed", key.len());
        return Err(Refusal::invalid("idempotency_key", what));
    }
    Ok(())
}
