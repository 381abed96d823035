//! Recorded behaviour: what happened to a core, and what it wished; replayed, compared, and blessed when it shall change.
use agent_core::node::Node;
use controller_core::fabric::{Fabric, Settings};
use proto_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What happened, to which core.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recording {
    Agent(Vec<At<agent_core::io::Input>>),
    Controller(Vec<At<controller_core::io::Input>>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct At<I> {
    pub at: Timestamp,
    pub input: I,
}

/// For each input, what was wished because of it.
pub type Wishes = Vec<Vec<Value>>;

impl Recording {
    /// Plays it to a new core.
    pub fn replay(self) -> Wishes {
        match self {
            Self::Agent(inputs) => {
                let mut node = Node::new();
                let play = |At { at, input }| {
                    node.handle(input, at);
                    std::iter::from_fn(|| node.poll_output()).map(|output| value(&output)).collect()
                };
                inputs.into_iter().map(play).collect()
            }
            Self::Controller(inputs) => {
                let start = inputs.first().map_or(Timestamp(0), |first| first.at);
                let mut fabric =
                    Fabric::restore(Settings::default(), [], start).expect("nothing is consistent");
                let play = |At { at, input }| {
                    fabric.handle(input, at);
                    std::iter::from_fn(|| fabric.poll_output()).map(|output| value(&output)).collect()
                };
                inputs.into_iter().map(play).collect()
            }
        }
    }
}

fn value(output: &impl Serialize) -> Value {
    serde_json::to_value(output).expect("every output can be text")
}
