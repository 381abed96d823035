//! Why a circuit runs where it runs; and drawings of how paths and links were and will be.
use super::{circuit, understood};
use crate::args::drawing::{Drawing, Explain};
use crate::fabric::Fabric;
use crate::failure::Failure;
use crate::out::Out;
use crate::show;
use proto_model::insight::Series;
use proto_model::topology::{LinkId, Quantity};
use proto_wire::v1;
use proto_wire::v1::series_request::Subject;
use std::path::Path;

pub(super) async fn explain(fabric: &mut Fabric, wish: &Explain, out: Out) -> Result<(), Failure> {
    wish.drawing.check()?;
    if wish.drawing.is_wanted() {
        let subject = Subject::Circuit(wish.circuit.to_string());
        let series = series(fabric, subject, &wish.drawing).await?;
        draw(&series, &wish.circuit.to_string(), &wish.drawing, out)?;
        if wish.drawing.chart {
            return Ok(());
        }
    }
    let ask = v1::CircuitRequest { circuit: wish.circuit.to_string() };
    let answer = fabric.read(ask, async |mut client, ask| client.explain_circuit(ask).await).await?;
    circuit::decision(&answer, out)
}

/// Of all of them one after the other.
pub(super) async fn links(
    fabric: &mut Fabric,
    links: &[LinkId],
    drawing: &Drawing,
    out: Out,
) -> Result<(), Failure> {
    let mut all: Option<v1::Series> = None;
    for link in links {
        let one = series(fabric, Subject::Link(link.clone().into()), drawing).await?;
        match &mut all {
            Some(all) => all.lines.extend(one.lines),
            none => *none = Some(one),
        }
    }
    let title = links.first().map(|link| format!("{} – {}", link.ends().0, link.ends().1));
    match all {
        Some(all) => draw(&all, &title.unwrap_or_default(), drawing, out),
        None => Ok(()),
    }
}

async fn series(fabric: &mut Fabric, subject: Subject, drawing: &Drawing) -> Result<v1::Series, Failure> {
    let quantity = match drawing.quantity() {
        Quantity::Rtt => v1::link::Quantity::Rtt,
        Quantity::Loss => v1::link::Quantity::Loss,
        Quantity::Load => v1::link::Quantity::Load,
    };
    let past = u64::try_from(drawing.past().as_nanos()).unwrap_or(u64::MAX);
    let ask = v1::SeriesRequest { subject: Some(subject), quantity: quantity.into(), past };
    fabric.read(ask, async |mut client, ask| client.get_series(ask).await).await
}

fn draw(answer: &v1::Series, title: &str, drawing: &Drawing, out: Out) -> Result<(), Failure> {
    let series: Series = understood(answer.clone())?;
    if let Some(file) = &drawing.svg {
        write(file, &show::picture::of(title, &series), out)?;
    }
    match drawing.chart {
        true => out.answer("Series", answer, || show::plot::here(&series)),
        false => Ok(()),
    }
}

fn write(path: &Path, text: &str, out: Out) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|why| Failure::usage(format!("{}: {why}", path.display())))?;
    out.note(&format!("drawn in {}", path.display()));
    Ok(())
}
