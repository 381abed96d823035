//! Writes the inputs of the golden scenarios anew: `cargo run -p tests-sim --example record`, then `cargo xtask bless`.
use agent_core::io::Input as Agent;
use agent_core::kernel_state::{Entry, EntryKey, KernelState};
use agent_core::protect::Told;
use controller_core::io::{Input as Controller, Session, Ticket};
use proto_model::access::{Actor, Fingerprint, Role};
use proto_model::desired::{Change, Gate, Object};
use proto_model::intent::Bounds;
use proto_model::report::{Hello, Report, Say, Way};
use proto_model::request::{CircuitRef, CircuitRequest, Request};
use proto_model::resource::{Attachment, Form, Metadata};
use proto_model::topology::Underlay;
use proto_model::{Bandwidth, CircuitId, Generation, NodeName, Timestamp};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tests_sim::host::{Host, hello};
use tests_sim::kernel::PretendedKernel;
use tests_sim::objects::*;
use tests_sim::scenario::{At, Recording};

const START: Timestamp = Timestamp(1_800_000_000_000_000_000);

fn at<I>(millis: u64, input: I) -> At<I> {
    At { at: START.plus(Duration::from_millis(millis)), input }
}

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    for (claim, recording) in [
        ("a-circuit-end-is-built-and-then-opened", Recording::Agent(built_then_opened())),
        ("a-restarted-agent-touches-nothing", Recording::Agent(restarted())),
        ("a-missing-namespace-is-reported-and-tried-again", Recording::Agent(missing_namespace())),
        ("a-gap-asks-for-the-whole-once", Recording::Agent(gap())),
        ("a-turned-group-is-told-by-circuit", Recording::Agent(turned())),
        ("a-circuit-becomes-active-when-every-host-has-reported", Recording::Controller(becomes_active())),
        ("a-refused-bandwidth-comes-with-what-is-feasible", Recording::Controller(refused())),
    ] {
        let scenario = folder.join(claim);
        std::fs::create_dir_all(&scenario)?;
        let text = serde_json::to_string_pretty(&recording).map_err(std::io::Error::other)?;
        std::fs::write(scenario.join("input.json"), text + "\n")?;
        println!("{claim}");
    }
    Ok(())
}

fn begin(state: KernelState) -> Vec<At<Agent>> {
    vec![at(0, Agent::Observed(state)), at(1, Agent::Connected { session: 1, hello: hello() })]
}

fn closed() -> Vec<Object> {
    vec![Object::Eni(eni(1)), Object::Endpoint(end(1, 1, 9, 2, Gate::Closed)), rules(1, 1, &["allow tcp/80"])]
}

fn done(keys: &[EntryKey]) -> Agent {
    Agent::Performed(keys.iter().map(|key| (key.clone(), Ok(()))).collect())
}

/// What an agent asks its kernel for, batch by batch, when it is told these objects.
fn batches(objects: &[Object]) -> Vec<Vec<EntryKey>> {
    let mut node = agent_core::node::Node::new();
    node.handle(Agent::Observed(KernelState::new()), START);
    node.handle(Agent::Connected { session: 1, hello: hello() }, START);
    node.handle(Agent::Told { session: 1, tell: whole(1, objects) }, START);
    let mut batches = Vec::new();
    while let Some(output) = node.poll_output() {
        let keys: Vec<EntryKey> = agent_core::node::steps(&output).iter().map(|step| step.key()).collect();
        if !keys.is_empty() {
            node.handle(done(&keys), START);
            batches.push(keys);
        }
    }
    batches
}

fn built_then_opened() -> Vec<At<Agent>> {
    let mut inputs = begin(KernelState::new());
    inputs.push(at(2, Agent::Told { session: 1, tell: whole(1, &closed()) }));
    inputs.extend(batches(&closed()).iter().map(|keys| at(3, done(keys))));
    let open = vec![Change::Put(Object::Endpoint(end(1, 1, 9, 2, Gate::Open)))];
    inputs.push(at(20, Agent::Told { session: 1, tell: changes(1, open) }));
    let side = agent_core::kernel_state::HostSide::of(&address(1));
    let flows = [address(9).v4.into(), address(9).v6.into()].map(|to| EntryKey::Flow(side, to));
    inputs.push(at(21, done(&flows)));
    inputs
}

fn restarted() -> Vec<At<Agent>> {
    let mut kernel = PretendedKernel::new();
    kernel.add_namespace(&place(1));
    let mut host = Host::start(kernel, START);
    host.connect(1, START);
    host.tell(1, whole(1, &closed()), START);
    host.settle(START);
    host.resolve_all(START);
    host.settle(START);
    let mut inputs = begin(host.node().have());
    inputs.push(at(2, Agent::Told { session: 1, tell: whole(7, &closed()) }));
    inputs
}

fn missing_namespace() -> Vec<At<Agent>> {
    let mut inputs = begin(KernelState::new());
    inputs.push(at(2, Agent::Told { session: 1, tell: whole(1, &closed()) }));
    let first = batches(&closed()).swap_remove(0);
    let refuse = |key: EntryKey| match key {
        EntryKey::Eni(_) => (key, Err("there is no namespace /run/netns/ns1".to_owned())),
        other => (other, Ok(())),
    };
    let eni = Entry::Eni(agent_eni()).key();
    inputs.push(at(3, Agent::Performed(first.into_iter().map(refuse).collect())));
    inputs.push(at(104, Agent::Tick));
    inputs.push(at(105, Agent::Performed(vec![refuse(eni.clone())])));
    inputs.push(at(306, Agent::Tick));
    inputs.push(at(307, done(&[eni])));
    inputs.push(at(308, done(&batches(&closed())[1])));
    inputs
}

fn agent_eni() -> agent_core::kernel_state::Eni {
    let eni = eni(1);
    agent_core::kernel_state::Eni {
        host: agent_core::kernel_state::HostSide::of(&eni.address),
        resource: eni.resource.to_string(),
        attachment: eni.attachment,
        interface: eni.interface,
        address: eni.address,
        mtu: eni.mtu,
    }
}

fn gap() -> Vec<At<Agent>> {
    let mut inputs = begin(KernelState::new());
    let told = |from| Agent::Told { session: 1, tell: changes(from, Vec::new()) };
    inputs.push(at(2, Agent::Told { session: 1, tell: whole(1, &[]) }));
    inputs.extend([at(3, told(4)), at(4, told(5)), at(5, Agent::Told { session: 1, tell: whole(6, &[]) })]);
    inputs.push(at(6, told(6)));
    inputs
}

/// Two protected circuits on the same two paths; their path dies, and later they return to it.
fn turned() -> Vec<At<Agent>> {
    let ends = [(1, 8), (2, 9)].map(|(circuit, far)| protected(end(circuit, 1, far, 2, Gate::Open), 3));
    let mut objects = vec![Object::Eni(eni(1)), rules(1, 1, &[]), rules(2, 1, &[])];
    objects.extend(ends.map(Object::Endpoint));
    let mut inputs = begin(KernelState::new());
    inputs.push(at(2, Agent::Told { session: 1, tell: whole(1, &objects) }));
    inputs.extend(batches(&objects).iter().map(|keys| at(3, done(keys))));
    let turned = |millis, to, why: &str| {
        let moment = START.plus(Duration::from_millis(millis));
        let told = Told::Turned { group: 1, to, why: why.to_owned(), at: moment };
        at(millis + 1, Agent::Protector(told))
    };
    inputs.push(turned(100, Way::Backup, "5 probes in a row have no answer"));
    inputs.push(turned(40_000, Way::Primary, "the primary has been good for 30 s"));
    inputs
}

fn ask(millis: u64, ticket: u64, request: Request) -> At<Controller> {
    let actor = Actor { name: "ada".parse().expect("a name"), role: Role::Admin };
    at(millis, Controller::Ask { ticket: Ticket(ticket), actor, request })
}

fn node(number: u8) -> NodeName {
    format!("n{number}").parse().expect("a name")
}

fn says(millis: u64, number: u8, say: Say) -> At<Controller> {
    at(
        millis,
        Controller::AgentSaid {
            node: node(number),
            session: Session(u64::from(number)),
            key: Fingerprint::default(),
            say,
        },
    )
}

/// A node's generations are counted from the microsecond in which the controller learnt of it.
fn reports(millis: u64, number: u8, generation: u64, whole: bool) -> At<Controller> {
    let report = Report {
        generation: Generation(START.0 / 1_000 + generation),
        whole,
        failed: Vec::new(),
        recovered: Vec::new(),
    };
    says(millis, number, Say::Report(report))
}

/// Two hosts in one network of 100 Mbit/s, one workload on each.
fn two_hosts() -> Vec<At<Controller>> {
    let mut inputs = Vec::new();
    for number in [1, 2] {
        let hash = [number; 32];
        let expires = START.plus(Duration::from_secs(60));
        inputs.push(ask(
            0,
            10 + u64::from(number),
            Request::CreateToken { node: node(number), hash, expires },
        ));
        inputs.push(ask(
            1,
            20 + u64::from(number),
            Request::Enrol { node: node(number), hash, key: Fingerprint::default() },
        ));
        let underlay = Underlay {
            interface: "eth0".into(),
            network: "lan".parse().expect("a name"),
            addresses: vec![[192, 0, 2, number].into()],
            mtu: 1500,
            speed: Some(Bandwidth::mbit(100)),
            shape: false,
        };
        inputs.push(says(2, number, Say::Hello(Hello { underlays: vec![underlay], ..hello() })));
        inputs.push(reports(3, number, 1, true));
        let metadata = Metadata {
            form: Form::Container,
            node: node(number),
            attachment: Attachment::Named(format!("ns{number}")),
            interface: None,
            addresses: Vec::new(),
            labels: BTreeMap::new(),
            services: Vec::new(),
        };
        let register = Request::RegisterResource {
            id: resource(u32::from(number)),
            metadata,
            intents: Vec::new(),
            lease: None,
        };
        inputs.push(ask(4, 30 + u64::from(number), register));
    }
    inputs
}

fn create(mbit: u64) -> Request {
    let circuit = CircuitRequest {
        name: None,
        source: resource(1),
        destination: resource(2),
        bounds: Bounds { bandwidth: Bandwidth::mbit(mbit), ..Bounds::default() },
        priority: 0,
        pinned_path: None,
        rules: vec!["allow tcp/80".parse().expect("a rule")],
        until: None,
        starts: None,
    };
    Request::CreateCircuit { circuit, idempotency_key: Some("once".into()) }
}

fn becomes_active() -> Vec<At<Controller>> {
    let mut inputs = two_hosts();
    inputs.push(ask(10, 1, create(40)));
    inputs.push(ask(11, 2, create(40)));
    // The second generation was each other's link to measure.
    for generation in 3..=4 {
        for number in [1, 2] {
            inputs.push(reports(10 + generation * 10, number, generation, false));
        }
    }
    inputs.push(ask(60, 3, Request::GetCircuit { circuit: CircuitRef::Id(CircuitId(1)) }));
    inputs
}

fn refused() -> Vec<At<Controller>> {
    let mut inputs = two_hosts();
    inputs.push(ask(10, 1, create(500)));
    inputs
}
