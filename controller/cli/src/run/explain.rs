//! Why a circuit runs where it runs; and drawings of how paths and links were and will be.
use super::{circuit, understood};
use crate::args::drawing::{Drawing, Explain, Sheet};
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
    let sheet = &wish.drawing.sheet;
    if sheet.is_wanted() {
        let subject = Subject::Circuit(wish.circuit.to_string());
        let series = series(fabric, subject, wish.drawing.quantity(), sheet).await?;
        draw(&series, &wish.circuit.to_string(), sheet, out)?;
        if sheet.chart {
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
        let subject = Subject::Link(link.clone().into());
        let one = series(fabric, subject, drawing.quantity(), &drawing.sheet).await?;
        match &mut all {
            Some(all) => all.lines.extend(one.lines),
            none => *none = Some(one),
        }
    }
    let title = links.first().map(|link| format!("{} – {}", link.ends().0, link.ends().1));
    match all {
        Some(all) => draw(&all, &title.unwrap_or_default(), &drawing.sheet, out),
        None => Ok(()),
    }
}

pub(super) async fn series(
    fabric: &mut Fabric,
    subject: Subject,
    quantity: Quantity,
    sheet: &Sheet,
) -> Result<v1::Series, Failure> {
    let quantity = match quantity {
        Quantity::Rtt => v1::link::Quantity::Rtt,
        Quantity::Loss => v1::link::Quantity::Loss,
        Quantity::Load => v1::link::Quantity::Load,
    };
    let past = u64::try_from(sheet.past().as_nanos()).unwrap_or(u64::MAX);
    let ask = v1::SeriesRequest { subject: Some(subject), quantity: quantity.into(), past };
    fabric.read(ask, async |mut client, ask| client.get_series(ask).await).await
}

pub(super) fn draw(answer: &v1::Series, title: &str, sheet: &Sheet, out: Out) -> Result<(), Failure> {
    let series: Series = understood(answer.clone())?;
    if let Some(file) = &sheet.svg {
        write(file, &show::picture::of(title, &series), out)?;
    }
    match sheet.chart {
        true => out.answer("Series", answer, || show::plot::here(&series)),
        false => Ok(()),
    }
}

fn write(path: &Path, text: &str, out: Out) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|why| Failure::usage(format!("{}: {why}", path.display())))?;
    out.note(&format!("drawn in {}", path.display()));
    Ok(())
}
