//! What the agent tells Prometheus, when an address for it is configured.
use crate::seal::Hello;
use agent_core::node::Counts;
use agent_core::protect::Told;
use anyhow::{Context, Result};
use ebpf_abi::Reason;
use metrics_exporter_prometheus::PrometheusBuilder;
use proto_model::report::Way;
use proto_model::topology::{LinkId, Measured};
use std::net::SocketAddr;
use std::time::Duration;

/// Starts the exporter; without it every count below goes nowhere and costs next to nothing.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) fn export(address: SocketAddr) -> Result<()> {
    PrometheusBuilder::new()
        .with_http_listener(address)
        .install()
        .with_context(|| format!("cannot export metrics on {address}"))?;
    describe();
    Ok(())
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("foreweave_agent_slots", "Label slots in use: circuits that end here or pass through.");
    describe_counter!(
        "foreweave_agent_dropped_packets_total",
        "Packets dropped by the data plane, by reason."
    );
    describe_counter!("foreweave_agent_steps_total", "Steps performed on the kernel, by outcome.");
    describe_histogram!("foreweave_agent_batch_seconds", Unit::Seconds, "Time that a batch of steps took.");
    describe_histogram!("foreweave_agent_handle_seconds", Unit::Seconds, "Time to decide about one input.");
    describe_counter!(
        "foreweave_agent_sessions_ended_total",
        "Sessions with a controller that ended, or never began."
    );
    describe_histogram!(
        "foreweave_path_rtt_seconds",
        Unit::Seconds,
        "Round-trip times of probes in circuits' tunnels, without the far end's own time."
    );
    describe_gauge!("foreweave_link_rtt_seconds", Unit::Seconds, "Mean round-trip time of a link's probes.");
    describe_gauge!("foreweave_link_loss_ratio", "Lost part of a link's probes, by direction (0 to 1).");
    describe_counter!("foreweave_protection_switches_total", "Groups of circuits turned, by where to.");
    describe_gauge!("foreweave_groups_on_backup", "Groups of circuits that send by their second way.");
    describe_counter!("foreweave_stamp_answered_total", "STAMP requests answered from user space.");
    describe_counter!(
        "foreweave_stamp_refused_total",
        "STAMP requests not answered from user space, by why."
    );
    describe_counter!(
        "foreweave_agent_ended_total",
        "What ended by the host's own clock: ends of circuits and rules (expired), unconfirmed changes (reverted)."
    );
    describe_gauge!("foreweave_agent_sealed_circuits", "Circuits that the sealer of this host encrypts.");
    describe_gauge!("foreweave_agent_sealed_sessions", "Those of them whose ends have agreed on keys.");
    describe_gauge!("foreweave_agent_connected", "1 while a session with a controller is open.");
}

/// None: nothing is encrypted here.
pub(crate) fn sealed(sealer: Option<&Hello>) {
    let circuits = sealer.map_or(0, |sealer| sealer.circuits);
    let sessions = sealer.map_or(0, |sealer| sealer.sessions);
    metrics::gauge!("foreweave_agent_sealed_circuits").set(circuits as f64);
    metrics::gauge!("foreweave_agent_sealed_sessions").set(sessions as f64);
}

pub(crate) fn handled(took: Duration) {
    metrics::histogram!("foreweave_agent_handle_seconds").record(took.as_secs_f64());
}

pub(crate) fn performed(failed: usize, done: usize, took: Duration) {
    metrics::counter!("foreweave_agent_steps_total", "outcome" => "done").increment(done as u64);
    metrics::counter!("foreweave_agent_steps_total", "outcome" => "failed").increment(failed as u64);
    metrics::histogram!("foreweave_agent_batch_seconds").record(took.as_secs_f64());
}

pub(crate) fn ended(counts: Counts) {
    metrics::counter!("foreweave_agent_ended_total", "how" => "expired").absolute(counts.expired);
    metrics::counter!("foreweave_agent_ended_total", "how" => "reverted").absolute(counts.reverted);
}

pub(crate) fn connected(connected: bool) {
    metrics::gauge!("foreweave_agent_connected").set(if connected { 1.0 } else { 0.0 });
}

pub(crate) fn counted(slots: usize, reasons: &[(Reason, u64)]) {
    metrics::gauge!("foreweave_agent_slots").set(slots as f64);
    for (reason, packets) in reasons {
        metrics::counter!("foreweave_agent_dropped_packets_total", "reason" => reason.name())
            .absolute(*packets);
    }
}

/// The histogram itself, because finding it anew for ten thousand answers a second would cost more than the answers.
pub(crate) fn path_rtt() -> metrics::Histogram {
    metrics::histogram!("foreweave_path_rtt_seconds")
}

pub(crate) fn groups_on_backup(groups: usize) {
    metrics::gauge!("foreweave_groups_on_backup").set(groups as f64);
}

pub(crate) fn protector(told: &Told) {
    match told {
        Told::Turned { to, .. } => {
            let to = match to {
                Way::Primary => "primary",
                Way::Backup => "backup",
            };
            metrics::counter!("foreweave_protection_switches_total", "to" => to).increment(1);
        }
        Told::Measured(links) => links.iter().for_each(|(link, seen)| measured(link, seen)),
    }
}

fn measured(link: &LinkId, seen: &Measured) {
    let name = link.to_string();
    if seen.rtt_mean.nanos() > 0 {
        let seconds = Duration::from_nanos(seen.rtt_mean.nanos()).as_secs_f64();
        metrics::gauge!("foreweave_link_rtt_seconds", "link" => name.clone()).set(seconds);
    }
    for (direction, loss) in [("forward", seen.loss_forward), ("backward", seen.loss_backward)] {
        let ratio = f64::from(loss.ppm()) / 1e6;
        metrics::gauge!("foreweave_link_loss_ratio", "link" => name.clone(), "direction" => direction)
            .set(ratio);
    }
}

pub(crate) fn stamp_answered() {
    metrics::counter!("foreweave_stamp_answered_total").increment(1);
}

pub(crate) fn stamp_refused(why: &'static str) {
    metrics::counter!("foreweave_stamp_refused_total", "why" => why).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::{Latency, Loss, NodeName, Timestamp};

    fn rendered(work: impl FnOnce()) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, work);
        handle.render()
    }

    #[test]
    fn switches_are_counted_by_where_to() {
        let turned = |to| Told::Turned { group: 1, to, why: String::new(), at: Timestamp(1) };
        let text = rendered(|| {
            protector(&turned(Way::Backup));
            protector(&turned(Way::Backup));
            protector(&turned(Way::Primary));
            groups_on_backup(1);
        });
        assert!(text.contains("foreweave_protection_switches_total{to=\"backup\"} 2"), "{text}");
        assert!(text.contains("foreweave_protection_switches_total{to=\"primary\"} 1"), "{text}");
        assert!(text.contains("foreweave_groups_on_backup 1"), "{text}");
    }

    #[test]
    fn what_ended_by_itself_is_counted_by_how() {
        let text = rendered(|| ended(Counts { expired: 3, reverted: 1 }));
        assert!(text.contains("foreweave_agent_ended_total{how=\"expired\"} 3"), "{text}");
        assert!(text.contains("foreweave_agent_ended_total{how=\"reverted\"} 1"), "{text}");
    }

    #[test]
    fn links_are_told_in_seconds_and_ratios() {
        let name = |text: &str| text.parse::<NodeName>().expect("a name");
        let link = LinkId::new(name("a"), name("b"), "n".parse().expect("a name")).expect("two ends");
        let seen = Measured {
            rtt_mean: Latency::from_micros(2_500),
            loss_backward: Loss::from_ppm(250_000),
            ..Measured::default()
        };
        let text = rendered(|| protector(&Told::Measured(vec![(link.clone(), seen)])));
        assert!(text.contains(&format!("foreweave_link_rtt_seconds{{link=\"{link}\"}} 0.0025")), "{text}");
        let loss =
            |direction| format!("foreweave_link_loss_ratio{{link=\"{link}\",direction=\"{direction}\"}}");
        assert!(text.contains(&format!("{} 0\n", loss("forward"))), "{text}");
        assert!(text.contains(&format!("{} 0.25\n", loss("backward"))), "{text}");
    }
}
