//! Prints what an agent's core needs for 10,000 circuits: `cargo run --release -p tests-sim --example memory`.
use agent_core::io::{Input, Output};
use agent_core::kernel_state::KernelState;
use agent_core::node::Node;
use proto_model::Timestamp;
use proto_model::desired::{Change, Gate, Object};
use tests_sim::host::hello;
use tests_sim::objects::*;

const CIRCUITS: u64 = 10_000;

/// Resident bytes of this process (Linux), in MB of 1,000,000 bytes; pages of 4 KiB.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * 4_096.0 / 1e6
}

fn main() {
    let now = Timestamp(1);
    let before = resident();
    let mut node = Node::new();
    node.handle(Input::Observed(KernelState::new()), now);
    node.handle(Input::Connected { session: 1, hello: hello() }, now);
    node.handle(Input::Told { session: 1, tell: whole(1, &[Object::Eni(eni(1))]) }, now);
    let mut steps = perform(&mut node, now);
    for circuit in 1..=CIRCUITS {
        let far = 100 + u32::try_from(circuit).unwrap_or(0);
        let end = Object::Endpoint(end(circuit, 1, far, 2 + (circuit % 8) as u8, Gate::Open));
        let rules = rules(circuit, 1, &["allow tcp/80", "allow tcp/443", "allow icmp both", "deny any"]);
        let news = vec![Change::Put(end), Change::Put(rules)];
        node.handle(Input::Told { session: 1, tell: changes(circuit, news) }, now);
        steps += perform(&mut node, now);
    }
    println!(
        "{CIRCUITS} circuits, {steps} steps: {:.1} MB more than before, {:.1} MB in all",
        resident() - before,
        resident()
    );
}

fn perform(node: &mut Node, now: Timestamp) -> usize {
    let mut steps = 0;
    while let Some(output) = node.poll_output() {
        if let Output::Perform(batch) = output {
            steps += batch.len();
            let results = batch.iter().map(|step| (step.key(), Ok(()))).collect();
            node.handle(Input::Performed(results), now);
        }
    }
    steps
}
