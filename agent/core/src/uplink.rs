//! Which session with the controller is the one, and which generation it has told.
use proto_model::Generation;
use proto_model::desired::{Change, Object, Tell};
use proto_model::query::{QueryId, Question};

#[derive(Debug, Default)]
pub(crate) struct Uplink {
    current: Option<Session>,
    /// Sessions up to this one are over.
    latest: Option<u64>,
}

#[derive(Debug)]
struct Session {
    number: u64,
    synced: Synced,
    /// The last generation reported in this session.
    reported: Option<Generation>,
}

#[derive(Debug, PartialEq, Eq)]
enum Synced {
    /// The whole comes by itself.
    NotYet,
    /// A gap was found; the whole has been asked for.
    Asked,
    At(Generation),
}

/// What to do with words of the controller.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    Whole(Vec<Object>),
    Changes(Vec<Change>),
    /// It changes nothing, so it does not matter what has been told.
    Question(QueryId, Question),
    /// Ask for the whole.
    Gap,
    /// Of an old session, or the whole has been asked for already.
    Nothing,
}

impl Uplink {
    /// False: an older session than one that was seen.
    pub(crate) fn connect(&mut self, number: u64) -> bool {
        if self.latest.is_some_and(|latest| number <= latest) {
            return false;
        }
        self.latest = Some(number);
        self.current = Some(Session { number, synced: Synced::NotYet, reported: None });
        true
    }

    pub(crate) fn disconnect(&mut self, number: u64) {
        if self.session() == Some(number) {
            self.current = None;
        }
    }

    pub(crate) fn session(&self) -> Option<u64> {
        self.current.as_ref().map(|session| session.number)
    }

    /// The session in which the whole has been told, and the generation it is at.
    pub(crate) fn synced(&self) -> Option<(u64, Generation)> {
        let session = self.current.as_ref()?;
        match session.synced {
            Synced::At(generation) => Some((session.number, generation)),
            Synced::NotYet | Synced::Asked => None,
        }
    }

    pub(crate) fn hear(&mut self, number: u64, tell: Tell) -> Heard {
        let Some(session) = self.current.as_mut().filter(|session| session.number == number) else {
            return Heard::Nothing;
        };
        match tell {
            Tell::Whole { generation, objects } => {
                session.synced = Synced::At(generation);
                Heard::Whole(objects)
            }
            Tell::Ask { query, question } => Heard::Question(query, question),
            Tell::Changes { from, to, changes } if session.synced == Synced::At(from) => {
                session.synced = Synced::At(to);
                Heard::Changes(changes)
            }
            Tell::Changes { .. } if session.synced == Synced::Asked => Heard::Nothing,
            Tell::Changes { .. } => {
                session.synced = Synced::Asked;
                Heard::Gap
            }
        }
    }

    pub(crate) fn reported(&self) -> Option<Generation> {
        self.current.as_ref()?.reported
    }

    pub(crate) fn set_reported(&mut self, generation: Generation) {
        if let Some(session) = &mut self.current {
            session.reported = Some(generation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(from: u64, to: u64) -> Tell {
        Tell::Changes { from: Generation(from), to: Generation(to), changes: Vec::new() }
    }

    fn whole(generation: u64) -> Tell {
        Tell::Whole { generation: Generation(generation), objects: Vec::new() }
    }

    #[test]
    fn a_gap_asks_for_the_whole_once() {
        let mut uplink = Uplink::default();
        assert!(uplink.connect(1));
        assert_eq!(uplink.hear(1, whole(5)), Heard::Whole(Vec::new()));
        assert_eq!(uplink.hear(1, changes(5, 6)), Heard::Changes(Vec::new()));
        assert_eq!(uplink.hear(1, changes(7, 8)), Heard::Gap);
        assert_eq!(uplink.hear(1, changes(8, 9)), Heard::Nothing);
        assert_eq!(uplink.hear(1, whole(9)), Heard::Whole(Vec::new()));
        assert_eq!(uplink.synced(), Some((1, Generation(9))));
    }

    #[test]
    fn changes_before_the_whole_of_a_session_are_a_gap() {
        let mut uplink = Uplink::default();
        uplink.connect(1);
        uplink.hear(1, whole(5));
        uplink.disconnect(1);
        assert!(uplink.connect(2));
        assert_eq!(uplink.hear(2, changes(5, 6)), Heard::Gap);
    }

    #[test]
    fn an_older_session_is_not_heard() {
        let mut uplink = Uplink::default();
        uplink.connect(2);
        assert!(!uplink.connect(1));
        assert_eq!(uplink.hear(1, whole(5)), Heard::Nothing);
        uplink.disconnect(1);
        assert_eq!(uplink.session(), Some(2));
    }
}
