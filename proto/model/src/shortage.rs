//! Links that are expected to be asked for more than they hold, so that more can be had before it is short.
use crate::topology::{Forecast, LinkId};
use crate::{Bandwidth, Loss};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What counts as short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// How far it is looked ahead.
    pub within: Duration,
    /// Share of a link's capacity above which it is short.
    pub share: Share,
    /// A link is listed when it will be above with at least this probability.
    pub chance: Share,
}

/// Parts per million, as losses are.
pub type Share = Loss;

impl Default for Line {
    fn default() -> Self {
        Self { within: *Self::WITHIN.end(), share: Share::from_ppm(900_000), chance: Share::from_ppm(50_000) }
    }
}

impl Line {
    pub const WITHIN: std::ops::RangeInclusive<Duration> =
        Duration::from_secs(600)..=Duration::from_secs(86_400);
    pub const SHARE: std::ops::RangeInclusive<u32> = 10_000..=1_000_000;
    pub const CHANCE: std::ops::RangeInclusive<u32> = 10_000..=500_000;
}

/// A link that is expected to be short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    pub link: LinkId,
    /// In each direction.
    pub capacity: Bandwidth,
    pub reserved: Bandwidth,
    /// What is carried there now.
    pub load: Bandwidth,
    /// Of the load, at the first horizon at which it is short.
    pub forecast: Forecast,
    /// Probability that the load is above the line then.
    pub chance: Share,
}
