//! How many circuits per second one controller creates, with its durable store and agents that report at once.
//!
//! `cargo run --release -p controller-daemon --example creates -- [CIRCUITS] [CALLS_AT_ONE_TIME]`
use anyhow::{Context, Result};
use controller_daemon::{Config, Daemon};
use proto_wire::v1;
use proto_wire::v1::agents_client::AgentsClient;
use proto_wire::v1::enrolment_client::EnrolmentClient;
use proto_wire::v1::fabric_client::FabricClient;
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// Hosts in a row: the first and the last have the resources.
const HOSTS: [(&str, &[(&str, &str)]); 3] = [
    ("a", &[("left", "10.1.0.1")]),
    ("b", &[("left", "10.1.0.2"), ("right", "10.2.0.1")]),
    ("c", &[("right", "10.2.0.2")]),
];

#[derive(Deserialize)]
struct ClientFile {
    authority: String,
    certificate: String,
    key: String,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let circuits = arguments.next().transpose()?.unwrap_or(10_000);
    let calls = arguments.next().transpose()?.unwrap_or(128);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure(circuits, calls))
}

async fn measure(circuits: usize, calls: usize) -> Result<()> {
    let state = tempfile::tempdir()?;
    let daemon = Daemon::start(Config::for_loopback("bench".parse()?, state.path().to_owned())).await?;
    let admin: ClientFile = toml::from_str(&std::fs::read_to_string(daemon.admin())?)?;
    let url = format!("https://{}", daemon.addresses()[0]);
    let mut client = FabricClient::new(connect(&url, &admin).await?);
    for (name, underlays) in HOSTS {
        agent(&url, &admin, &mut client, name, underlays).await?;
    }
    let side = (circuits as f64).sqrt().ceil() as usize;
    for i in 0..side {
        for (kind, node) in [("from", "a"), ("to", "c")] {
            client.register_resource(resource(&format!("{kind}-{i}"), node)).await?;
        }
    }
    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let mut workers = Vec::new();
    for _ in 0..calls {
        let (mut client, next) = (client.clone(), Arc::clone(&next));
        workers.push(tokio::spawn(async move {
            let mut times = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= circuits {
                    return Ok::<_, tonic::Status>(times);
                }
                let begin = Instant::now();
                client.create_circuit(create(i / side, i % side)).await?;
                times.push(begin.elapsed());
            }
        }));
    }
    let mut times = Vec::new();
    for worker in workers {
        times.extend(worker.await??);
    }
    let created = begin.elapsed();
    while client.get_status(v1::Empty {}).await?.into_inner().circuits_active < circuits as u32 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let active = begin.elapsed();
    times.sort();
    let rate = |time: Duration| circuits as f64 / time.as_secs_f64();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("{circuits} circuits over 3 hosts, {calls} calls at one time");
    println!("  answered {:.0}/s, all active {:.0}/s", rate(created), rate(active));
    println!("  answer after p50 {:.1} ms, p99 {:.1} ms", at(0.5), at(0.99));
    let begin = Instant::now();
    daemon.stop().await?;
    let again = Daemon::start(Config::for_loopback("bench".parse()?, state.path().to_owned())).await?;
    let size = std::fs::metadata(state.path().join("store.redb"))?.len();
    println!(
        "  stop and start again {:.1} s, store {:.1} MB",
        begin.elapsed().as_secs_f64(),
        size as f64 / 1e6
    );
    again.stop().await
}

async fn connect(url: &str, file: &ClientFile) -> Result<Channel> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&file.authority));
    let tls =
        tls.identity(Identity::from_pem(&file.certificate, &file.key)).domain_name("controller.foreweave");
    Ok(Endpoint::from_shared(url.to_owned())?.tls_config(tls)?.connect().await?)
}

/// Enrols, connects, and reports every generation as reached.
async fn agent(
    url: &str,
    admin: &ClientFile,
    client: &mut FabricClient<Channel>,
    name: &str,
    underlays: &[(&str, &str)],
) -> Result<()> {
    let token = client
        .create_token(v1::CreateTokenRequest { node: name.into(), lifetime: 0 })
        .await?
        .into_inner()
        .token;
    let key = rcgen::KeyPair::generate()?;
    let signing_request = rcgen::CertificateParams::default().serialize_request(&key)?.der().to_vec();
    let request = v1::EnrolRequest { token, signing_request };
    let answer = EnrolmentClient::new(connect(url, admin).await?).enrol(request).await?.into_inner();
    let file = ClientFile {
        authority: answer.authority,
        certificate: answer.certificate_chain,
        key: key.serialize_pem(),
    };
    let mut session = AgentsClient::new(connect(url, &file).await?).max_decoding_message_size(256 << 20);
    let (say, said) = tokio::sync::mpsc::channel(64);
    let underlay = |(network, address): &(&str, &str)| v1::Underlay {
        interface: (*network).into(),
        network: (*network).into(),
        addresses: vec![(*address).into()],
        mtu: 1500,
        speed: Some(100_000_000_000),
        shape: false,
    };
    let hello = v1::Hello { underlays: underlays.iter().map(underlay).collect(), ..Default::default() };
    say.send(v1::Say { say: Some(v1::say::Say::Hello(hello)) }).await?;
    let mut told = session.session(ReceiverStream::new(said)).await?.into_inner();
    let whole = told.message().await?.context("the whole")?;
    say.send(report(&whole)).await?;
    tokio::spawn(async move {
        while let Ok(Some(tell)) = told.message().await {
            if say.send(report(&tell)).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn report(tell: &v1::Tell) -> v1::Say {
    let generation = match &tell.tell {
        Some(v1::tell::Tell::Whole(whole)) => whole.generation,
        Some(v1::tell::Tell::Changes(changes)) => changes.to,
        Some(v1::tell::Tell::Ask(_)) | None => 0,
    };
    v1::Say { say: Some(v1::say::Say::Report(v1::Report { generation, ..Default::default() })) }
}

fn resource(id: &str, node: &str) -> v1::RegisterResourceRequest {
    let attachment = v1::Attachment { r#where: Some(v1::attachment::Where::Named(id.into())) };
    let metadata =
        v1::ResourceMetadata { node: node.into(), attachment: Some(attachment), ..Default::default() };
    v1::RegisterResourceRequest { resource_id: id.into(), metadata: Some(metadata), ..Default::default() }
}

fn create(from: usize, to: usize) -> v1::CreateCircuitRequest {
    let allow = v1::Rule {
        action: v1::rule::Action::Allow.into(),
        protocol: v1::rule::Protocol::Tcp.into(),
        ports: Some(v1::rule::Ports { from: 5432, to: 5432 }),
        ..Default::default()
    };
    let circuit = v1::CircuitSpec {
        source: format!("from-{from}"),
        destination: format!("to-{to}"),
        bounds: Some(v1::Bounds { bandwidth: 1_000_000, ..Default::default() }),
        rules: vec![allow],
        ..Default::default()
    };
    v1::CreateCircuitRequest { circuit: Some(circuit), ..Default::default() }
}
