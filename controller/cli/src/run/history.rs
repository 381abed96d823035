//! Writes what was measured of all links as a series that can be replayed.
use super::{all_understood, understood};
use crate::args::fabric::Export;
use crate::fabric::Fabric;
use crate::failure::Failure;
use crate::out::{self, Out};
use controller_core::replay::recording::Recording;
use proto_model::insight::Series;
use proto_model::request::LinkView;
use proto_wire::v1;
use std::time::Duration;

pub(super) async fn export(fabric: &mut Fabric, wish: &Export, out: Out) -> Result<(), Failure> {
    let answer = fabric.read(v1::Empty {}, async |mut client, ask| client.list_links(ask).await).await?;
    let links: Vec<LinkView> = all_understood(answer.links)?;
    let mut recording = Recording::default();
    let mut step = Duration::ZERO;
    for link in links {
        let ask = v1::SeriesRequest {
            subject: Some(v1::series_request::Subject::Link(link.id.clone().into())),
            quantity: v1::link::Quantity::Rtt.into(),
            past: wish.past.0.as_nanos() as u64,
        };
        let answer = fabric.read(ask, async |mut client, ask| client.get_series(ask).await).await?;
        if out.json {
            out.item("Series", &answer, String::new)?;
            continue;
        }
        let series: Series = understood(answer)?;
        step = series.step;
        recording.every(step);
        let (a, b) = link.id.ends();
        for point in series.lines.iter().flat_map(|line| &line.points) {
            let (number, rtt) = (point.at.0 / step.as_nanos() as u64, point.mean as f64 / 1e6);
            recording.add(number, a.as_str(), b.as_str(), rtt);
            recording.add(number, b.as_str(), a.as_str(), rtt);
        }
    }
    if out.json { Ok(()) } else { write(&recording, step, wish, out) }
}

fn write(recording: &Recording, step: Duration, wish: &Export, out: Out) -> Result<(), Failure> {
    let (nodes, steps) = (recording.nodes(), recording.steps());
    if steps == 0 {
        return Err(Failure::usage(format!("no round-trip time was measured in the last {}", wish.past)));
    }
    let file = wish.write.as_ref();
    match file {
        Some(file) => std::fs::write(file, recording.to_string())
            .map_err(|error| Failure::usage(format!("{} cannot be written: {error}", file.display())))?,
        None => out::bytes(recording.to_string().as_bytes())?,
    }
    let name = file.map_or_else(|| "FILE".into(), |file| file.display().to_string());
    out.note(&format!(
        "{steps} steps of {0} between {nodes} nodes, round-trip times in milliseconds; foreweave replay {name} compares policies on them",
        crate::text::Span(step)
    ));
    Ok(())
}
