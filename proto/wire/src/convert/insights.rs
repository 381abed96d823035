//! What a decision leaves open, and how paths were and will be.
use super::circuits::circuit_ref;
use super::fields::{clipped, each, inner, list, needed, optional, required, sentence};
use super::units::{finite, latency, loss, nanos_of, span};
use super::{Malformed, Result, limits};
use crate::v1;
use crate::v1::insight as wire;
use proto_model::Timestamp;
use proto_model::circuit::Path;
use proto_model::insight::{
    Change, Flip, Happened, Insight, Line, LinkOutlook, Origin, Past, PathOutlook, Point, Role, Series,
    Subject,
};
use proto_model::request::Request;
use proto_model::topology::{Forecast, Quantity};
use std::time::Duration;

impl TryFrom<v1::Insight> for Insight {
    type Error = Malformed;
    fn try_from(insight: v1::Insight) -> Result<Self> {
        Ok(Self {
            at: Timestamp(insight.at),
            flips: list("flips", limits::CANDIDATES, insight.flips)?,
            paths: list("paths", limits::CANDIDATES, insight.paths)?,
            links: list("links", limits::OUTLOOKS, insight.links)?,
            past: list("past", limits::PAST, insight.past)?,
        })
    }
}

impl From<Insight> for v1::Insight {
    fn from(insight: Insight) -> Self {
        Self {
            at: insight.at.0,
            flips: each(insight.flips),
            paths: each(insight.paths),
            links: each(insight.links),
            past: each(insight.past),
        }
    }
}

impl TryFrom<wire::Flip> for Flip {
    type Error = Malformed;
    fn try_from(flip: wire::Flip) -> Result<Self> {
        Ok(Self {
            candidate: index(flip.candidate)?,
            dearer: finite("dearer", flip.dearer)?,
            all: list("all", limits::SENTENCES, flip.all)?,
            any: list("any", limits::SENTENCES, flip.any)?,
            sentence: sentence("sentence", flip.sentence)?,
        })
    }
}

fn index(candidate: u32) -> Result<usize> {
    usize::try_from(candidate)
        .map_err(|_| Malformed::new("candidate", format!("{candidate} is no index of a candidate")))
}

fn number(candidate: usize) -> u32 {
    u32::try_from(candidate).unwrap_or(u32::MAX)
}

impl From<Flip> for wire::Flip {
    fn from(flip: Flip) -> Self {
        Self {
            candidate: number(flip.candidate),
            dearer: flip.dearer,
            all: each(flip.all),
            any: each(flip.any),
            sentence: clipped(flip.sentence),
        }
    }
}

impl TryFrom<wire::Change> for Change {
    type Error = Malformed;
    fn try_from(change: wire::Change) -> Result<Self> {
        Ok(Self {
            what: sentence("what", change.what)?,
            now: sentence("now", change.now)?,
            needed: sentence("needed", change.needed)?,
        })
    }
}

impl From<Change> for wire::Change {
    fn from(change: Change) -> Self {
        Self { what: clipped(change.what), now: clipped(change.now), needed: clipped(change.needed) }
    }
}

fn forecasts(field: &str, forecasts: Vec<v1::link::Forecast>) -> Result<Vec<Forecast>> {
    list(field, limits::SENTENCES, forecasts)
}

impl TryFrom<wire::PathOutlook> for PathOutlook {
    type Error = Malformed;
    fn try_from(path: wire::PathOutlook) -> Result<Self> {
        Ok(Self { candidate: index(path.candidate)?, forecasts: forecasts("forecasts", path.forecasts)? })
    }
}

impl From<PathOutlook> for wire::PathOutlook {
    fn from(path: PathOutlook) -> Self {
        Self { candidate: number(path.candidate), forecasts: each(path.forecasts) }
    }
}

impl TryFrom<wire::LinkOutlook> for LinkOutlook {
    type Error = Malformed;
    fn try_from(link: wire::LinkOutlook) -> Result<Self> {
        Ok(Self {
            rtt: link.rtt.map(|nanos| latency("rtt", nanos)).transpose()?,
            rtt_from: origin("rtt_from", link.rtt_from())?,
            loss: loss("loss", link.loss)?,
            loss_from: origin("loss_from", link.loss_from())?,
            link: needed("link", link.link)?,
            forecasts: forecasts("forecasts", link.forecasts)?,
        })
    }
}

impl From<LinkOutlook> for wire::LinkOutlook {
    fn from(link: LinkOutlook) -> Self {
        Self {
            link: Some(link.link.into()),
            rtt: link.rtt.map(|rtt| rtt.nanos()),
            rtt_from: origin_of(link.rtt_from).into(),
            loss: link.loss.ppm(),
            loss_from: origin_of(link.loss_from).into(),
            forecasts: each(link.forecasts),
        }
    }
}

fn origin(field: &str, origin: v1::Origin) -> Result<Origin> {
    match origin {
        v1::Origin::Configured => Ok(Origin::Configured),
        v1::Origin::Measured => Ok(Origin::Measured),
        v1::Origin::Forecast => Ok(Origin::Forecast),
        v1::Origin::Unknown => Ok(Origin::Unknown),
        v1::Origin::Unspecified => Err(Malformed::new(field, "it is missing or not known")),
    }
}

fn origin_of(origin: Origin) -> v1::Origin {
    match origin {
        Origin::Configured => v1::Origin::Configured,
        Origin::Measured => v1::Origin::Measured,
        Origin::Forecast => v1::Origin::Forecast,
        Origin::Unknown => v1::Origin::Unknown,
    }
}

impl TryFrom<wire::Past> for Past {
    type Error = Malformed;
    fn try_from(past: wire::Past) -> Result<Self> {
        use wire::What;
        let what = match past.what() {
            What::Placed => Happened::Placed,
            What::Moved => Happened::Moved,
            What::GivenUp => Happened::GivenUp,
            What::Promoted => Happened::Promoted,
            What::Switched => Happened::Switched,
            What::Returned => Happened::Returned,
            What::Suspended => Happened::Suspended,
            What::Unspecified => return Err(Malformed::new("what", "it is missing or not known")),
        };
        Ok(Self {
            at: Timestamp(past.at),
            what,
            from: optional("from", past.from)?,
            to: optional("to", past.to)?,
            why: sentence("why", past.why)?,
            of_from: forecasts("of_from", past.of_from)?,
            of_to: forecasts("of_to", past.of_to)?,
        })
    }
}

impl From<Past> for wire::Past {
    fn from(past: Past) -> Self {
        use wire::What;
        let what = match past.what {
            Happened::Placed => What::Placed,
            Happened::Moved => What::Moved,
            Happened::GivenUp => What::GivenUp,
            Happened::Promoted => What::Promoted,
            Happened::Switched => What::Switched,
            Happened::Returned => What::Returned,
            Happened::Suspended => What::Suspended,
        };
        Self {
            at: past.at.0,
            what: what.into(),
            from: past.from.map(v1::Path::from),
            to: past.to.map(v1::Path::from),
            why: clipped(past.why),
            of_from: each(past.of_from),
            of_to: each(past.of_to),
        }
    }
}

impl TryFrom<v1::SeriesRequest> for Request {
    type Error = Malformed;
    fn try_from(request: v1::SeriesRequest) -> Result<Self> {
        use v1::series_request::Subject as Wire;
        let quantity = quantity(request.quantity())?;
        let of = match required("subject", request.subject)? {
            Wire::Circuit(text) => Subject::Circuit(circuit_ref("circuit", &text)?),
            Wire::Link(link) => Subject::Link(inner("link", link)?),
            Wire::Paths(_) if quantity == Quantity::Load => {
                return Err(Malformed::new(
                    "quantity",
                    "the load is of a link or a circuit; of paths ask for round-trip time or loss",
                ));
            }
            Wire::Paths(paths) => Subject::Paths(joined(paths).map_err(|fault| fault.within("paths"))?),
        };
        let past = span("past", request.past, limits::SERIES_LEAST, limits::SERIES_MOST)?;
        Ok(Self::Series { of, quantity, past })
    }
}

fn joined(paths: v1::series_request::Paths) -> Result<Vec<Path>> {
    if paths.paths.is_empty() {
        let what = format!("there is none; 1 to {} paths are drawn together", limits::LINES);
        return Err(Malformed::new("paths", what));
    }
    let paths: Vec<Path> = list("paths", limits::LINES, paths.paths)?;
    for (index, path) in paths.iter().enumerate() {
        joins(path).map_err(|fault| fault.within(&format!("paths[{index}]")))?;
    }
    Ok(paths)
}

fn joins(path: &Path) -> Result<()> {
    if path.links.is_empty() {
        let what = format!("there is none; a path over time has 1 to {}", limits::HOPS);
        return Err(Malformed::new("links", what));
    }
    for (index, (pair, link)) in path.nodes.windows(2).zip(&path.links).enumerate() {
        let (a, b) = link.ends();
        if pair != [a.clone(), b.clone()] && pair != [b.clone(), a.clone()] {
            let what = format!("{link} does not join {} and {}, which stand there", pair[0], pair[1]);
            return Err(Malformed::new(format!("links[{index}]"), what));
        }
    }
    Ok(())
}

pub(super) fn series_request(of: Subject, quantity: Quantity, past: Duration) -> v1::SeriesRequest {
    use v1::series_request::Subject as Wire;
    let subject = match of {
        Subject::Circuit(circuit) => Wire::Circuit(circuit.to_string()),
        Subject::Link(link) => Wire::Link(link.into()),
        Subject::Paths(paths) => Wire::Paths(v1::series_request::Paths { paths: each(paths) }),
    };
    v1::SeriesRequest { subject: Some(subject), quantity: quantity_of(quantity).into(), past: nanos_of(past) }
}

pub(super) fn quantity(quantity: v1::link::Quantity) -> Result<Quantity> {
    use v1::link::Quantity as Wire;
    match quantity {
        Wire::Rtt => Ok(Quantity::Rtt),
        Wire::Loss => Ok(Quantity::Loss),
        Wire::Load => Ok(Quantity::Load),
        Wire::Unspecified => Err(Malformed::new("quantity", "it is missing or not known")),
    }
}

pub(super) fn quantity_of(quantity: Quantity) -> v1::link::Quantity {
    match quantity {
        Quantity::Rtt => v1::link::Quantity::Rtt,
        Quantity::Loss => v1::link::Quantity::Loss,
        Quantity::Load => v1::link::Quantity::Load,
    }
}

impl TryFrom<v1::Series> for Series {
    type Error = Malformed;
    fn try_from(series: v1::Series) -> Result<Self> {
        Ok(Self {
            quantity: quantity(series.quantity())?,
            at: Timestamp(series.at),
            step: Duration::from_nanos(series.step),
            bound: series.bound,
            lines: list("lines", limits::CANDIDATES, series.lines)?,
        })
    }
}

impl From<Series> for v1::Series {
    fn from(series: Series) -> Self {
        Self {
            quantity: quantity_of(series.quantity).into(),
            at: series.at.0,
            step: nanos_of(series.step),
            bound: series.bound,
            lines: each(series.lines),
        }
    }
}

impl TryFrom<v1::series::Line> for Line {
    type Error = Malformed;
    fn try_from(line: v1::series::Line) -> Result<Self> {
        use v1::series::Role as Wire;
        let role = match line.role() {
            Wire::Path => Role::Path,
            Wire::Backup => Role::Backup,
            Wire::Candidate => Role::Candidate,
            Wire::Link => Role::Link,
            Wire::Circuit => Role::Circuit,
            Wire::Forth => Role::Forth,
            Wire::Back => Role::Back,
            Wire::Both => Role::Both,
            Wire::Unspecified => return Err(Malformed::new("role", "it is missing or not known")),
        };
        Ok(Self {
            role,
            from: origin("from", line.from())?,
            path: needed("path", line.path)?,
            points: list("points", limits::POINTS, line.points)?,
            forecasts: forecasts("forecasts", line.forecasts)?,
        })
    }
}

impl From<Line> for v1::series::Line {
    fn from(line: Line) -> Self {
        use v1::series::Role as Wire;
        let role = match line.role {
            Role::Path => Wire::Path,
            Role::Backup => Wire::Backup,
            Role::Candidate => Wire::Candidate,
            Role::Link => Wire::Link,
            Role::Circuit => Wire::Circuit,
            Role::Forth => Wire::Forth,
            Role::Back => Wire::Back,
            Role::Both => Wire::Both,
        };
        Self {
            role: role.into(),
            path: Some(line.path.into()),
            from: origin_of(line.from).into(),
            points: each(line.points),
            forecasts: each(line.forecasts),
        }
    }
}

impl TryFrom<v1::series::Point> for Point {
    type Error = Malformed;
    fn try_from(point: v1::series::Point) -> Result<Self> {
        let v1::series::Point { at, least, mean, most } = point;
        Ok(Self { at: Timestamp(at), least, mean, most })
    }
}

impl From<Point> for v1::series::Point {
    fn from(point: Point) -> Self {
        let Point { at, least, mean, most } = point;
        Self { at: at.0, least, mean, most }
    }
}
