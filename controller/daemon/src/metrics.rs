//! Prometheus metrics over HTTP, where the configuration asks for them.
use anyhow::{Context, Result};
use controller_core::fabric::Counts;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::net::SocketAddr;

/// Serves `http://ADDRESS/metrics`. Once per process.
pub fn serve(address: SocketAddr) -> Result<()> {
    let installed = PrometheusBuilder::new().with_http_listener(address).install();
    installed.with_context(|| format!("cannot serve metrics on {address}"))?;
    metrics::describe_histogram!("foreweave_engine_batch_events", "events decided before one commit");
    metrics::describe_histogram!("foreweave_store_commit_seconds", "time of one durable commit");
    metrics::describe_counter!("foreweave_store_writes_total", "records written or deleted");
    metrics::describe_counter!(
        "foreweave_refused_full_total",
        "API calls refused because the queue was full"
    );
    metrics::describe_counter!("foreweave_requests_total", "API calls by verb and outcome");
    metrics::describe_gauge!("foreweave_sessions", "connected agents");
    metrics::describe_gauge!(
        "foreweave_circuits",
        "placed circuits between two hosts, by protection: protected, on_backup, unprotected"
    );
    metrics::describe_gauge!(
        "foreweave_circuits_silent",
        "circuits of which every way crosses a link that answers no probe"
    );
    metrics::describe_counter!("foreweave_switches_total", "ends of circuits that turned, either way");
    metrics::describe_counter!("foreweave_moves_total", "circuits that left their path for a better one");
    Ok(())
}

/// How circuits stand with their second ways.
pub(crate) fn protection(counts: Counts) {
    let Counts { protected, on_backup, unprotected, silent, switches, moves } = counts;
    metrics::gauge!("foreweave_circuits_silent").set(silent as f64);
    for (word, number) in [("protected", protected), ("on_backup", on_backup), ("unprotected", unprotected)] {
        metrics::gauge!("foreweave_circuits", "protection" => word).set(number as f64);
    }
    metrics::counter!("foreweave_switches_total").absolute(switches);
    metrics::counter!("foreweave_moves_total").absolute(moves);
}
