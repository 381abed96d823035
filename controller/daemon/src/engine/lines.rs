//! The lines to connected agents: each with a bounded queue; an agent that does not keep up is cut off and starts anew.
use controller_core::io::Session;
use proto_model::NodeName;
use proto_model::desired::Tell;
use std::collections::HashMap;
use tokio::sync::mpsc;
use tonic::Status;

/// Tells that wait for one agent.
pub const QUEUE: usize = 4096;

/// What goes out to an agent.
#[derive(Debug)]
pub enum Outgoing {
    Tell(Tell),
    HangUp(Status),
}

pub type Line = mpsc::Sender<Outgoing>;

#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: HashMap<Session, (NodeName, Line)>,
}

impl Lines {
    pub(super) fn open(&mut self, node: NodeName, session: Session, line: Line) {
        self.lines.insert(session, (node, line));
        self.count();
    }

    pub(super) fn close(&mut self, session: Session) {
        self.lines.remove(&session);
        self.count();
    }

    /// False when the line had to be cut: the agent comes back and is told the whole.
    pub(super) fn tell(&mut self, session: Session, tell: Tell) -> bool {
        let Some((node, line)) = self.lines.get(&session) else { return true };
        match line.try_send(Outgoing::Tell(tell)) {
            Ok(()) => true,
            // Its end is about to be reported by the one who reads from it.
            Err(mpsc::error::TrySendError::Closed(_)) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!(%node, queue = QUEUE, "the agent does not keep up; its session is ended");
                self.close(session);
                false
            }
        }
    }

    pub(super) fn hang_up(&mut self, node: &NodeName, session: Session, why: String) {
        if let Some((_, line)) = self.lines.remove(&session) {
            tracing::info!(%node, session = session.0, why, "session ended");
            // When the queue is full the line just ends, without the reason.
            let _ = line.try_send(Outgoing::HangUp(Status::permission_denied(why)));
        }
        self.count();
    }

    fn count(&self) {
        metrics::gauge!("foreweave_sessions").set(self.lines.len() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::Generation;

    fn tell() -> Tell {
        Tell::Whole { generation: Generation(1), objects: Vec::new() }
    }

    #[test]
    fn an_agent_that_does_not_listen_is_cut_off() {
        let mut lines = Lines::default();
        let (line, mut outgoing) = mpsc::channel(2);
        lines.open("a".parse().expect("name"), Session(1), line);
        assert!(lines.tell(Session(1), tell()));
        assert!(lines.tell(Session(1), tell()));
        assert!(!lines.tell(Session(1), tell()), "the queue is full");
        assert!(lines.tell(Session(1), tell()), "it is cut off once only");
        assert!(outgoing.try_recv().is_ok() && outgoing.try_recv().is_ok());
        assert_eq!(outgoing.try_recv().err(), Some(mpsc::error::TryRecvError::Disconnected));
    }
}
