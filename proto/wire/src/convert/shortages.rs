//! Links that are expected to be short.
use super::fields::needed;
use super::units::{bandwidth, loss, nanos_of};
use super::{Malformed, Result};
use crate::v1;
use proto_model::request::Request;
use proto_model::shortage::{Line, Shortage};
use std::time::Duration;

impl TryFrom<v1::ListShortagesRequest> for Request {
    type Error = Malformed;
    /// Ranges are the core's to refuse.
    fn try_from(request: v1::ListShortagesRequest) -> Result<Self> {
        let usual = Line::default();
        let share = |field, ppm, usual| if ppm == 0 { Ok(usual) } else { loss(field, ppm) };
        Ok(Self::ListShortages(Line {
            within: if request.within == 0 { usual.within } else { Duration::from_nanos(request.within) },
            share: share("share", request.share, usual.share)?,
            chance: share("chance", request.chance, usual.chance)?,
        }))
    }
}

impl From<Line> for v1::ListShortagesRequest {
    fn from(line: Line) -> Self {
        Self { within: nanos_of(line.within), share: line.share.ppm(), chance: line.chance.ppm() }
    }
}

impl TryFrom<v1::Shortage> for Shortage {
    type Error = Malformed;
    fn try_from(short: v1::Shortage) -> Result<Self> {
        Ok(Self {
            link: needed("link", short.link)?,
            capacity: bandwidth("capacity", short.capacity)?,
            reserved: bandwidth("reserved", short.reserved)?,
            load: bandwidth("load", short.load)?,
            forecast: needed("forecast", short.forecast)?,
            chance: loss("chance", short.chance)?,
        })
    }
}

impl From<Shortage> for v1::Shortage {
    fn from(short: Shortage) -> Self {
        Self {
            link: Some(short.link.into()),
            capacity: short.capacity.bits_per_second(),
            reserved: short.reserved.bits_per_second(),
            load: short.load.bits_per_second(),
            forecast: Some(short.forecast.into()),
            chance: short.chance.ppm(),
        }
    }
}
