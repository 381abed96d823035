//! The controller of a world, and its store: it may die at any point, and is restored from what was durable.
use super::{Event, World};
use controller_core::fabric::{Fabric, Settings};
use controller_core::io::{Input, Output, Ticket, Write};
use proto_model::access::{Actor, Role};
use proto_model::request::{Event as News, Request, Response};
use proto_model::{NodeName, Refusal};

impl World {
    /// Handles one input. The controller may die at any point of it: before its writes are durable, or after, with
    /// only some of what it wanted to say said.
    pub(super) fn controller_handles(&mut self, input: Input) {
        let now = self.now;
        let Some(fabric) = &mut self.controller else { return };
        fabric.handle(input, now);
        let outputs: Vec<Output> = std::iter::from_fn(|| fabric.poll_output()).collect();
        let dies = self.chance.happens(self.mood.controller_dies_per_mille);
        if dies && self.chance.happens(300) {
            return self.controller_dies("before its writes were durable");
        }
        let mut said = outputs.len();
        if dies {
            said = usize::try_from(self.chance.below(outputs.len() as u64 + 1)).unwrap_or(0);
        }
        let (writes, rest): (Vec<_>, Vec<_>) =
            outputs.into_iter().partition(|o| matches!(o, Output::Write(_)));
        for output in writes.into_iter().chain(rest.into_iter().take(said)) {
            self.perform(output);
        }
        if dies {
            self.controller_dies("with words unsaid");
        }
    }

    pub(super) fn perform(&mut self, output: Output) {
        match output {
            Output::Write(Write::Put(record)) => {
                self.store.insert(record.key(), record);
            }
            Output::Write(Write::Delete(key)) => {
                self.store.remove(&key);
            }
            Output::Reply { ticket, answer } => {
                if let Ok(Response::Circuit(view)) = &answer {
                    self.check_claim(view);
                }
                self.soon(5, Event::Answer { ticket, answer });
            }
            Output::Tell { node, session, tell } => {
                if self.sites.get(&node).is_some_and(|site| site.connection == Some(session.0)) {
                    let event = Event::ToAgent { node, connection: session.0, tell };
                    self.send((session.0, false), event);
                }
            }
            Output::HangUp { node, session, .. } => {
                if self.sites.get(&node).is_some_and(|site| site.connection == Some(session.0)) {
                    self.hang_up(&node);
                }
            }
            Output::Announce(News::Circuit(view)) => self.check_claim(&view),
            Output::Announce(_) | Output::Drops { .. } | Output::Traced { .. } => {}
        }
    }

    pub(super) fn controller_dies(&mut self, when: &str) {
        self.note(|| format!("the controller dies {when}"));
        self.controller = None;
        let nodes: Vec<NodeName> = self.sites.keys().cloned().collect();
        for node in nodes {
            self.hang_up(&node);
        }
        self.queue.retain(|_, event| !matches!(event, Event::ControllerLost { .. }));
        self.soon(2_000, Event::Restore);
    }

    pub(super) fn restore(&mut self) {
        if self.controller.is_some() {
            return;
        }
        let records = self.store.values().cloned();
        let mut fabric = match Fabric::restore(Settings::default(), records, self.now) {
            Ok(fabric) => fabric,
            Err(why) => self.fail(&format!("the controller cannot be restored: {why}")),
        };
        let outputs: Vec<Output> = std::iter::from_fn(|| fabric.poll_output()).collect();
        self.controller = Some(fabric);
        outputs.into_iter().for_each(|output| self.perform(output));
        self.check_claims();
    }

    /// Asks the controller something at once, past the network.
    pub(super) fn query(&mut self, request: Request) -> Result<Response, Refusal> {
        let now = self.now;
        let fabric = self.controller.as_mut().expect("asked while the controller is there");
        let actor = Actor { name: "world".parse().expect("a name"), role: Role::Admin };
        let ticket = Ticket(u64::MAX);
        fabric.handle(Input::Ask { ticket, actor, request }, now);
        let outputs: Vec<Output> = std::iter::from_fn(|| fabric.poll_output()).collect();
        let mut answer = None;
        for output in outputs {
            match output {
                Output::Reply { answer: given, .. } => answer = Some(given),
                other => self.perform(other),
            }
        }
        answer.expect("each question has one answer")
    }
}
