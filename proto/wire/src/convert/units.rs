//! Quantities: refused above their largest value instead of silently cut.
use super::fields::{count, inner, ranged, required};
use super::{Malformed, Result};
use crate::v1;
use proto_model::seal::KEYS;
use proto_model::{
    Bandwidth, FabricAddress, Horizon, Label, Latency, Loss, Price, Risk, SealKey, Timestamp, Until,
};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

pub(super) fn bandwidth(field: &str, bits: u64) -> Result<Bandwidth> {
    ranged(field, bits, 0, Bandwidth::MAX.bits_per_second(), " bit/s").map(Bandwidth::from_bits_per_second)
}

pub(super) fn latency(field: &str, nanos: u64) -> Result<Latency> {
    ranged(field, nanos, 0, Latency::MAX.nanos(), " ns").map(Latency::from_nanos)
}

pub(super) fn loss(field: &str, ppm: u32) -> Result<Loss> {
    ranged(field, ppm.into(), 0, Loss::ALL.ppm().into(), " ppm").map(Loss::from_ppm)
}

pub(super) fn risk(field: &str, ppm: u32) -> Result<Risk> {
    Risk::try_from(ppm).map_err(|why| Malformed::new(field, why))
}

/// Parts of a second are rounded up.
pub(super) fn horizon(field: &str, nanos: u64) -> Result<Horizon> {
    let seconds = u32::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(u32::MAX);
    Horizon::try_from(seconds).map_err(|why| Malformed::new(field, why))
}

pub(super) fn price(field: &str, micros: u64) -> Result<Price> {
    ranged(field, micros, 0, Price::MAX.micro_dollars_per_gb(), " µ$/GB")
        .map(Price::from_micro_dollars_per_gb)
}

pub(super) fn label(field: &str, value: u32) -> Result<Label> {
    Label::try_from(value).map_err(|why| Malformed::new(field, why))
}

pub(super) fn mtu(field: &str, value: u32, least: u16) -> Result<u16> {
    ranged(field, value.into(), least.into(), u16::MAX.into(), " bytes")
}

pub(super) fn span(field: &str, nanos: u64, least: Duration, most: Duration) -> Result<Duration> {
    ranged(field, nanos, nanos_of(least), nanos_of(most), " ns").map(Duration::from_nanos)
}

/// Spans that are longer than 584 years are cut.
pub(super) fn nanos_of(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// From a pair of fields of which at most one is set.
pub(super) fn until(field: &str, at: u64, after: u64) -> Result<Option<Until>> {
    match (at, after) {
        (0, 0) => Ok(None),
        (at, 0) => Ok(Some(Until::At(Timestamp(at)))),
        (0, after) => {
            span("lifetime", after, Duration::from_secs(1), Until::MOST).map(|span| Some(Until::After(span)))
        }
        (_, _) => Err(Malformed::new("lifetime", format!("is set, and {field} too; set one of them"))),
    }
}

/// When something begins: a time, or so long from now.
pub(super) fn start(at: u64, after: u64) -> Result<Option<Until>> {
    match (at, after) {
        (0, 0) => Ok(None),
        (at, 0) => Ok(Some(Until::At(Timestamp(at)))),
        (0, after) => {
            span("delay", after, Duration::from_secs(1), Until::MOST).map(|span| Some(Until::After(span)))
        }
        (_, _) => Err(Malformed::new("delay", "is set, and starts too; set one of them")),
    }
}

/// The two fields of an [`Until`].
pub(super) fn until_fields(until: Option<Until>) -> (u64, u64) {
    match until {
        None => (0, 0),
        Some(Until::At(at)) => (at.0, 0),
        Some(Until::After(span)) => (0, nanos_of(span)),
    }
}

/// Of what is in force: a time, never a span.
pub(super) fn ending(at: u64, after: u64) -> Result<Option<Timestamp>> {
    match after {
        0 => Ok((at != 0).then_some(Timestamp(at))),
        _ => Err(Malformed::new("lifetime", "is set; what is in force has a time instead")),
    }
}

/// Public keys of one host, each once.
pub(super) fn seal_keys(field: &str, keys: Vec<Vec<u8>>) -> Result<Vec<SealKey>> {
    count(field, KEYS, keys.len())?;
    let mut found: Vec<SealKey> = Vec::with_capacity(keys.len());
    for (i, key) in keys.into_iter().enumerate() {
        let at = format!("{field}[{i}]");
        let length = key.len();
        let bytes: [u8; 32] =
            key.try_into().map_err(|_| Malformed::new(&at, format!("has {length} bytes; a key has 32")))?;
        if found.contains(&SealKey(bytes)) {
            return Err(Malformed::new(at, "repeats the one before it"));
        }
        found.push(SealKey(bytes));
    }
    Ok(found)
}

pub(super) fn key_bytes(keys: &[SealKey]) -> Vec<Vec<u8>> {
    keys.iter().map(|key| key.0.to_vec()).collect()
}

pub(super) fn finite(field: &str, value: f64) -> Result<f64> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(Malformed::new(field, format!("{value} is not a finite number")))
    }
}

impl TryFrom<v1::FabricAddress> for FabricAddress {
    type Error = Malformed;
    fn try_from(address: v1::FabricAddress) -> Result<Self> {
        let bad = |field, text: &str, family| {
            Malformed::new(field, format!("\"{}\" is not an {family} address", super::fields::shown(text)))
        };
        let v4: Ipv4Addr = address.v4.parse().map_err(|_| bad("v4", &address.v4, "IPv4"))?;
        let v6: Ipv6Addr = address.v6.parse().map_err(|_| bad("v6", &address.v6, "IPv6"))?;
        if v6.octets()[12..] != v4.octets() {
            return Err(Malformed::new("v6", format!("{v6} does not end in the bytes of {v4}")));
        }
        Ok(Self { v4, v6 })
    }
}

impl From<FabricAddress> for v1::FabricAddress {
    fn from(address: FabricAddress) -> Self {
        Self { v4: address.v4.to_string(), v6: address.v6.to_string() }
    }
}

pub(super) fn fabric_address(field: &str, address: Option<v1::FabricAddress>) -> Result<FabricAddress> {
    inner(field, required(field, address)?)
}
