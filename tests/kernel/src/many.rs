//! Many circuits at once: resources on two hosts, and a circuit between each pair of them.
use crate::lab::api::Client;
use anyhow::{Context, Result, bail};
use futures::StreamExt;
use indicatif::ProgressBar;
use proto_wire::v1;
use std::time::{Duration, Instant};

/// Requests under way at the same time.
pub const AT_ONCE: usize = 64;
/// Nanoseconds that the controller may take for one circuit.
pub const PATIENCE: u64 = 20_000_000_000;

/// Registers resources on hosts `a` and `b`, as many as so many pairs of them need.
///
/// # Errors
/// What the controller says.
pub async fn register(client: &mut Client, circuits: usize) -> Result<()> {
    for (kind, node) in [("web", "a"), ("db", "b")] {
        for index in 0..side(circuits) {
            client.register_resource(on_host(&format!("{kind}-{index}"), node)).await?;
        }
    }
    Ok(())
}

/// Creates one circuit per pair of what [`register`] registered, like `model` in all but its ends; how long until all
/// were accepted, and until all were active.
///
/// # Errors
/// What the controller says, or some are not active after 300 s.
pub async fn create(
    client: &mut Client,
    circuits: usize,
    model: &v1::CircuitSpec,
) -> Result<(Duration, Duration)> {
    let side = side(circuits);
    let bar = ProgressBar::new(circuits as u64);
    let spec = |index: usize| v1::CircuitSpec {
        source: format!("web-{}", index / side),
        destination: format!("db-{}", index % side),
        ..model.clone()
    };
    let begun = Instant::now();
    let connection = client.clone();
    let mut creating = futures::stream::iter((0..circuits).map(|index| {
        let mut client = connection.clone();
        let circuit = Some(spec(index));
        async move {
            let request = v1::CreateCircuitRequest { circuit, idempotency_key: String::new(), wait: 0 };
            client.create_circuit(request).await
        }
    }))
    .buffer_unordered(AT_ONCE);
    while let Some(created) = creating.next().await {
        created.context("create")?;
        bar.inc(1);
    }
    let accepted = begun.elapsed();
    bar.finish_and_clear();
    loop {
        let status = client.get_status(v1::Empty {}).await?.into_inner();
        if status.circuits_active as usize >= circuits {
            return Ok((accepted, begun.elapsed()));
        }
        if begun.elapsed() > Duration::from_secs(300) {
            bail!("{} of {circuits} circuits are active after 300 s", status.circuits_active);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Deletes every circuit, and returns when none is left.
///
/// # Errors
/// What the controller says.
pub async fn delete(client: &mut Client) -> Result<()> {
    let circuits = client.list_circuits(v1::Empty {}).await?.into_inner().circuits;
    let connection = client.clone();
    let mut deleting = futures::stream::iter(circuits.into_iter().map(|circuit| {
        let mut client = connection.clone();
        let circuit = circuit.spec.map(|spec| spec.name).unwrap_or_default();
        async move { client.delete_circuit(v1::DeleteCircuitRequest { circuit, wait: PATIENCE }).await }
    }))
    .buffer_unordered(AT_ONCE);
    while let Some(deleted) = deleting.next().await {
        deleted.context("delete")?;
    }
    Ok(())
}

/// Resources on each host.
fn side(circuits: usize) -> usize {
    (circuits as f64).sqrt().ceil() as usize
}

fn on_host(id: &str, node: &str) -> v1::RegisterResourceRequest {
    let metadata = v1::ResourceMetadata {
        form: v1::resource_metadata::Form::Host.into(),
        node: node.into(),
        attachment: Some(v1::Attachment { r#where: Some(v1::attachment::Where::Host(true)) }),
        ..v1::ResourceMetadata::default()
    };
    v1::RegisterResourceRequest {
        resource_id: id.into(),
        metadata: Some(metadata),
        intents: Vec::new(),
        lease: None,
    }
}
