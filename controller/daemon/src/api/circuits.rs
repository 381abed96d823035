//! Circuits and policies whose callers want to wait until the fabric has complied.
use super::{Answer, Api, odd};
use crate::engine::Until;
use proto_model::access::Actor;
use proto_model::circuit::CircuitState;
use proto_model::request::{CircuitRef, CircuitView, Left, PolicyView, Request as Ask};
use proto_model::rule::RuleSet;
use proto_model::{Kind, NodeName, Refusal};
use proto_wire::convert::requests::Awaited;
use proto_wire::convert::status_of;
use proto_wire::v1;
use std::time::Duration;
use tokio::sync::oneshot;
use tonic::Status;

impl Api {
    pub(super) async fn create(&self, actor: Actor, awaited: Awaited) -> Result<v1::Circuit, Status> {
        let Awaited { request, wait } = awaited;
        if wait.is_zero() {
            return view(self.ask(actor, request).await?).map(v1::Circuit::from);
        }
        let (done, active) = oneshot::channel();
        let answer = self.engine.ask_until(actor.clone(), request, Some(Until::Active(done))).await;
        let begun = view(answer.map_err(|refusal| status_of(&refusal))?)?;
        if matches!(begun.circuit.state, CircuitState::Active | CircuitState::Scheduled) {
            return Ok(begun.into());
        }
        match tokio::time::timeout(wait, active).await {
            Ok(Ok(view)) => Ok(view.into()),
            // Time is over, or the circuit was deleted meanwhile: as it is.
            Ok(Err(_)) | Err(_) => {
                let circuit = CircuitRef::Id(begun.circuit.id);
                view(self.ask(actor, Ask::GetCircuit { circuit }).await?).map(v1::Circuit::from)
            }
        }
    }

    pub(super) async fn change_rules(
        &self,
        actor: Actor,
        awaited: Awaited,
    ) -> Result<v1::RuleSetView, Status> {
        let Awaited { request, wait } = awaited;
        let (done, in_force) = oneshot::channel();
        let until = (!wait.is_zero()).then_some(Until::Rules(done));
        let answer = self.engine.ask_until(actor.clone(), request, until).await;
        let (set, pending, confirm_by) = rules(answer.map_err(|refusal| status_of(&refusal))?)?;
        let circuit = CircuitRef::Id(set.circuit);
        let pending = if wait.is_zero() || pending.is_empty() {
            pending
        } else {
            match tokio::time::timeout(wait, in_force).await {
                Ok(Ok(_)) => Vec::new(),
                // Time is over, or the circuit was deleted meanwhile.
                Ok(Err(_)) | Err(_) => {
                    view(self.ask(actor, Ask::GetCircuit { circuit }).await?)?.rules_pending
                }
            }
        };
        let pending = pending.iter().map(ToString::to_string).collect();
        Ok(v1::RuleSetView { pending, confirm_by, ..set.into() })
    }

    pub(super) async fn delete(
        &self,
        actor: Actor,
        awaited: Awaited,
    ) -> Result<v1::DeleteCircuitResponse, Status> {
        let Awaited { request, wait } = awaited;
        let left = match request {
            Ask::DeleteCircuit { circuit } if !wait.is_zero() => {
                self.delete_and_wait(actor, circuit, wait).await?
            }
            request => left(self.ask(actor, request).await?)?,
        };
        Ok(left.into())
    }

    async fn delete_and_wait(
        &self,
        actor: Actor,
        circuit: CircuitRef,
        wait: Duration,
    ) -> Result<Left, Status> {
        let found = view(self.ask(actor.clone(), Ask::GetCircuit { circuit }).await?)?;
        let id = found.circuit.id;
        let (done, mut gone) = oneshot::channel();
        let request = Ask::DeleteCircuit { circuit: CircuitRef::Id(id) };
        let answer = self.engine.ask_until(actor.clone(), request.clone(), Some(Until::Gone(id, done))).await;
        let begun = left(answer.map_err(|refusal| status_of(&refusal))?)?;
        match tokio::time::timeout(wait, &mut gone).await {
            Ok(Ok(left)) => Ok(left),
            // Time is over, or the controller stops: asked again, it says who is late.
            Ok(Err(_)) | Err(_) => {
                let answer = self.engine.ask(actor, request).await;
                late(answer, gone.try_recv().unwrap_or(begun))
            }
        }
    }
}

/// Whom a deletion still waits for by the answer to a second one, which finds nothing when the circuit vanished this very
/// moment; `known`: of whom it is known then that they have not reported it.
fn late(answer: Result<Answer, Refusal>, known: Left) -> Result<Left, Status> {
    match answer {
        Ok(answer) => left(answer),
        Err(refusal) if refusal.kind == Kind::NotFound => Ok(known),
        Err(refusal) => Err(status_of(&refusal)),
    }
}

impl Api {
    pub(super) async fn change_policy(
        &self,
        actor: Actor,
        awaited: Awaited,
    ) -> Result<v1::PolicyView, Status> {
        let Awaited { request, wait } = awaited;
        let (done, in_force) = oneshot::channel();
        let until = (!wait.is_zero()).then_some(Until::Policy(done));
        let answer = self.engine.ask_until(actor.clone(), request, until).await;
        let kept = policy(answer.map_err(|refusal| status_of(&refusal))?)?;
        if wait.is_zero() || !kept.pending {
            return Ok(kept.into());
        }
        // When the time is over, or the host was removed meanwhile: as it is.
        let _ = tokio::time::timeout(wait, in_force).await;
        policy(self.ask(actor, Ask::GetPolicy { node: kept.node }).await?).map(v1::PolicyView::from)
    }
}

fn policy(answer: Answer) -> Result<PolicyView, Status> {
    match answer {
        Answer::Policy(view) => Ok(view),
        other => Err(odd(&other)),
    }
}

fn view(answer: Answer) -> Result<CircuitView, Status> {
    match answer {
        Answer::Circuit(view) => Ok(view),
        other => Err(odd(&other)),
    }
}

/// At once, with whoever is still pending.
pub(super) fn rule_set(answer: Answer) -> Result<v1::RuleSetView, Status> {
    let (set, pending, confirm_by) = rules(answer)?;
    let pending = pending.iter().map(ToString::to_string).collect();
    Ok(v1::RuleSetView { pending, confirm_by, ..set.into() })
}

fn rules(answer: Answer) -> Result<(RuleSet, Vec<NodeName>, u64), Status> {
    match answer {
        Answer::Rules { circuit, version, rules, pending, confirm_by } => {
            let confirm_by = confirm_by.map_or(0, |at| at.0);
            Ok((RuleSet { circuit, version, rules, revert: None }, pending, confirm_by))
        }
        other => Err(odd(&other)),
    }
}

fn left(answer: Answer) -> Result<Left, Status> {
    match answer {
        Answer::Deleted(left) => Ok(left),
        other => Err(odd(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_circuit_that_is_not_found_has_vanished() {
        let host: NodeName = "edge-b".parse().expect("a name");
        let known = Left { pending: vec![host.clone()], absent: vec![host] };
        let not_found = Err(Refusal::not_found("there is no circuit c1"));
        assert_eq!(late(not_found, known.clone()).expect("vanished"), known);
        let full = Err(Refusal::new(Kind::Unavailable, "the controller is stopping"));
        let refused = late(full, known.clone()).expect_err("nothing is known");
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        let answered = Ok(Answer::Deleted(Left { pending: known.pending.clone(), absent: Vec::new() }));
        assert_eq!(late(answered, known.clone()).expect("late").absent, []);
    }
}
