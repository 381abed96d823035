//! What an agent and a sealer say to each other: JSON, one message per question and one per answer.
//!
//! `Hello`, its answer's `protocol`, and `End` mean the same in every protocol; whoever hears another number says
//! nothing else.
use super::Timing;
use super::keys::Keys;
use agent_core::kernel_state::Seal;
use serde::{Deserialize, Serialize};

/// Changes when a word that an earlier build knows means something else. New words need no new number: who does not
/// know one refuses it.
pub(super) const PROTOCOL: u32 = 1;

/// Circuits in one answer, at most.
pub(super) const PAGE: usize = 1_000;

/// File descriptors with one message, at most.
pub(super) const DESCRIPTORS: usize = 3;

/// Bytes of a message, at most. The longest has [`PAGE`] circuits of 27 bytes.
pub(super) const LONGEST: usize = 64 << 10;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    Hello,
    /// Close the interfaces, answer, end.
    End,
    /// With the interfaces [plain, cipher], and perhaps a line to a former sealer, which is then relieved: begin.
    Take {
        keys: Keys,
        timing: Timing,
    },
    /// Answered with the interfaces.
    Devices,
    /// Other keys of this host, or other times.
    Use {
        keys: Keys,
        timing: Timing,
    },
    Put(Seal),
    Remove {
        circuit: u64,
    },
    /// Circuits with numbers above this one; 0: all.
    List {
        above: u64,
    },
    Has {
        circuit: u64,
    },
    /// With sockets [plain, cipher]: from now on frames come from there instead of the interfaces, and sessions are not
    /// renewed. When both are closed, end.
    Yield,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    Hello(Hello),
    Done,
    Listed {
        circuits: Vec<Listed>,
        more: bool,
    },
    Has(bool),
    /// So many circuits are left.
    Left(usize),
    Refused(String),
}

/// Who a sealer is, and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    #[serde(default)]
    pub(crate) build: String,
    #[serde(default)]
    pub(crate) pid: u32,
    #[serde(default)]
    pub(crate) circuits: usize,
    /// Circuits whose ends have agreed on keys.
    #[serde(default)]
    pub(crate) sessions: usize,
    /// A former sealer still uses its sessions.
    #[serde(default)]
    pub(crate) relieving: bool,
}

/// A circuit, and whether it has a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed(pub(super) u64, pub(super) bool);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_protocol_understands_reads_the_same_for_ever() {
        assert_eq!(serde_json::to_string(&Ask::Hello).expect("written"), "\"Hello\"");
        assert_eq!(serde_json::to_string(&Ask::End).expect("written"), "\"End\"");
        let Said::Hello(later) = serde_json::from_str(
            "{\"Hello\":{\"protocol\":7,\"build\":\"2.0\",\"pid\":1,\"circuits\":2,\"sessions\":1,\"mood\":\"good\"}}",
        )
        .expect("read") else {
            panic!("a hello")
        };
        assert_eq!((later.protocol, later.relieving), (7, false));
    }

    #[test]
    fn the_longest_answer_fits_into_a_message() {
        let circuits = (0..PAGE as u64).map(|i| Listed(u64::MAX - i, false)).collect();
        let text = serde_json::to_vec(&Said::Listed { circuits, more: true }).expect("written");
        assert!(text.len() < LONGEST, "{} bytes", text.len());
    }

    #[test]
    fn keys_arrive_as_they_were_sent_and_are_not_shown() {
        let keys = Keys::generate().expect("random numbers");
        let ask = Ask::Use { keys: keys.clone(), timing: Timing::default() };
        let text = serde_json::to_string(&ask).expect("written");
        let Ask::Use { keys: read, timing } = serde_json::from_str(&text).expect("read") else {
            panic!("another word")
        };
        assert_eq!((read.public(), timing), (keys.public(), Timing::default()));
        let secret = text.split("\"key\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a key");
        assert!(!format!("{ask:?}").contains(secret));
    }
}
