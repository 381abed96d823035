//! What a cap on the price of a path costs in round-trip time: every ordered pair of regions, direct or over one relay.
//!
//! Prices are in dollars per gigabyte, and a relay's path costs the sum of its two; so at most the cap's multiple of the
//! direct price is a bound like any intent's, and the path engine answers. Values are directed, and the engine's links are
//! not: for each ordered pair the links that a path of two can use are set to their values in its direction.
use crate::route::{Ask, decide};
use crate::topology::Topology;
use proto_model::intent::Bounds;
use proto_model::plan::Weights;
use proto_model::topology::{LinkId, LinkValues, Underlay};
use proto_model::{Latency, Name, NodeName, Price};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A pair's mesh has `regions²` links.
pub const MOST_REGIONS: usize = 500;
/// Over one relay.
const HOPS: u8 = 2;
/// Paths that one decision looks at: of equal round-trip times, the one with fewer hops is among them.
const LIMIT: usize = 4;
/// The network tier that is priced and measured on both sides.
const TIER: &str = "PREMIUM";
/// Only the round-trip time counts.
const WEIGHTS: Weights = Weights { rtt: 1.0, hop: 0.0, load: 0.0, loss: 0.0, price: 0.0, unknown: 0.0 };

/// Where a text is not what it should be; lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("{text}, line {line}: {what}")]
    Line { text: &'static str, line: usize, what: String },
    #[error("{0}")]
    Regions(String),
}

/// How dear a path may be, beside the direct one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cap {
    /// No relay.
    Direct,
    /// In hundredths of the direct price, inclusive; 100 at least.
    Hundredths(u32),
    None,
}

impl Cap {
    /// Those of the protocol.
    pub const ALL: [Self; 5] =
        [Self::Direct, Self::Hundredths(100), Self::Hundredths(125), Self::Hundredths(200), Self::None];
}

impl std::fmt::Display for Cap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Hundredths(cap) => write!(f, "≤ {} × the direct price", f64::from(*cap) / 100.0),
            Self::None => f.write_str("no cap"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub cap: Cap,
    /// Ordered pairs of regions.
    pub pairs: usize,
    /// Milliseconds.
    pub mean_rtt: f64,
    /// Pairs whose path crosses a relay.
    pub relayed: usize,
    /// Dollars per gigabyte.
    pub mean_price: f64,
}

/// Regions that are both priced and measured, with their values by ordered pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Market {
    regions: Vec<String>,
    /// By `from * regions + to`.
    values: Vec<Option<(Latency, Price)>>,
}

impl Market {
    /// `prices`: `src,dest,src_tier,dest_tier,cost`; `latencies`: `src_region,src_tier,dst_region,dst_tier,min_rtt,avg_rtt,…`
    /// in milliseconds. Rows of other tiers are left out.
    ///
    /// # Errors
    /// The first line that is no such row, or that no two regions have both.
    pub fn parse(prices: &str, latencies: &str) -> Result<Self, Malformed> {
        let prices = read("prices", prices, &["src", "dest", "src_tier", "dest_tier", "cost"], price)?;
        let columns = ["src_region", "dst_region", "src_tier", "dst_tier", "avg_rtt"];
        let latencies = read("latencies", latencies, &columns, latency)?;
        let priced = regions(&prices);
        let regions: Vec<String> =
            regions(&latencies).intersection(&priced).map(|name| (*name).into()).collect();
        if !(2..=MOST_REGIONS).contains(&regions.len()) {
            return Err(Malformed::Regions(format!(
                "{} regions are both priced and measured; 2 to {MOST_REGIONS} are needed",
                regions.len()
            )));
        }
        let value = |from: &String, to: &String| {
            let pair = (from.clone(), to.clone());
            Some((*latencies.get(&pair)?, *prices.get(&pair)?))
        };
        let values = regions.iter().flat_map(|from| regions.iter().map(move |to| value(from, to))).collect();
        Ok(Self { regions, values })
    }

    pub fn regions(&self) -> &[String] {
        &self.regions
    }

    /// One row for each cap.
    pub fn table(&self, caps: &[Cap]) -> Vec<Row> {
        let mut sums = vec![Sums::default(); caps.len()];
        let mut topology = self.mesh();
        for (from, to) in self.pairs() {
            let Some(direct) = self.value(from, to) else { continue };
            self.set(&mut topology, from, to);
            for (cap, sums) in caps.iter().zip(&mut sums) {
                sums.add(best(&topology, [node(from), node(to)], *cap, direct));
            }
        }
        caps.iter().zip(sums).map(|(cap, sums)| sums.row(*cap)).collect()
    }

    fn value(&self, from: usize, to: usize) -> Option<(Latency, Price)> {
        self.values[from * self.regions.len() + to]
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let regions = self.regions.len();
        (0..regions * regions)
            .map(move |pair| (pair / regions, pair % regions))
            .filter(|(from, to)| from != to)
    }

    fn mesh(&self) -> Topology {
        let mut topology = Topology::new(MOST_REGIONS * MOST_REGIONS);
        for region in 0..self.regions.len() {
            let underlay = Underlay {
                interface: "eth0".into(),
                network: network(),
                addresses: vec![[10, 0, (region >> 8) as u8, region as u8].into()],
                mtu: 1500,
                speed: None,
                shape: false,
            };
            topology.add_node(node(region));
            topology.set_underlays(&node(region), vec![underlay]);
            topology.set_connected(&node(region), true);
        }
        topology
    }

    /// The links that a path with one relay can use, with their values in its direction.
    fn set(&self, topology: &mut Topology, from: usize, to: usize) {
        let relays = (0..self.regions.len()).filter(|relay| ![from, to].contains(relay));
        let legs = relays.flat_map(|relay| [(from, relay), (relay, to)]);
        for (one, other) in legs.chain([(from, to)]) {
            let Some(id) = LinkId::new(node(one), node(other), network()) else { continue };
            let value = self.value(one, other);
            let values = LinkValues {
                rtt: value.map(|(rtt, _)| rtt),
                price: value.map(|(_, price)| price).unwrap_or_default(),
                disabled: value.is_none(),
                ..LinkValues::default()
            };
            topology.configure(id, values);
        }
    }
}

/// Round-trip time and price of the best path within the cap, and whether it crosses a relay.
fn best(
    topology: &Topology,
    ends: [NodeName; 2],
    cap: Cap,
    direct: (Latency, Price),
) -> (Latency, Price, bool) {
    let (hops, max_price) = match cap {
        Cap::Direct => (1, None),
        Cap::Hundredths(cap) => {
            let micros = direct.1.micro_dollars_per_gb() * u64::from(cap) / 100;
            (HOPS, Some(Price::from_micro_dollars_per_gb(micros)))
        }
        Cap::None => (HOPS, None),
    };
    let bounds = Bounds { max_hops: Some(hops), max_price, ..Bounds::default() };
    let ask = Ask {
        from: &ends[0],
        to: &ends[1],
        bounds: &bounds,
        pinned: None,
        shun: &BTreeSet::new(),
        limit: LIMIT,
    };
    let decision = decide(topology, &WEIGHTS, &ask);
    let path = decision.chosen();
    let found = path.and_then(|path| Some((path.offer.rtt?, path.offer.price, path.path.hops() > 1)));
    found.unwrap_or((direct.0, direct.1, false))
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    pairs: usize,
    nanos: u64,
    micro_dollars: u64,
    relayed: usize,
}

impl Sums {
    fn add(&mut self, (rtt, price, relayed): (Latency, Price, bool)) {
        self.pairs += 1;
        self.nanos += rtt.nanos();
        self.micro_dollars += price.micro_dollars_per_gb();
        self.relayed += usize::from(relayed);
    }

    fn row(self, cap: Cap) -> Row {
        let mean = |sum: u64| sum as f64 / 1e6 / self.pairs.max(1) as f64;
        Row {
            cap,
            pairs: self.pairs,
            mean_rtt: mean(self.nanos),
            relayed: self.relayed,
            mean_price: mean(self.micro_dollars),
        }
    }
}

fn node(region: usize) -> NodeName {
    let name = format!("r{region}").parse();
    name.unwrap_or_else(|_| unreachable!("a letter and digits are a name"))
}

fn network() -> Name {
    let name = "internet".parse();
    name.unwrap_or_else(|_| unreachable!("letters are a name"))
}

type Pairs<T> = BTreeMap<(String, String), T>;

/// Columns: source, destination, their tiers, and the value.
fn read<T>(
    text: &'static str,
    csv: &str,
    columns: &[&str; 5],
    value: fn(&str) -> Result<T, String>,
) -> Result<Pairs<T>, Malformed> {
    let wrong = |line: usize, what: String| Malformed::Line { text, line, what };
    let mut lines = csv.lines().enumerate().map(|(at, line)| (at + 1, line));
    let header: Vec<&str> = lines.next().map_or("", |(_, line)| line).split(',').map(str::trim).collect();
    let mut at = [0; 5];
    for (place, name) in at.iter_mut().zip(columns) {
        let found = header.iter().position(|column| column == name);
        *place = found.ok_or_else(|| wrong(1, format!("there is no column {name}")))?;
    }
    let mut pairs = Pairs::new();
    for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let few = || wrong(number, format!("{} cells, the header has {}", cells.len(), header.len()));
        let cell = |column: usize| cells.get(at[column]).copied().ok_or_else(few);
        if cell(2)? != TIER || cell(3)? != TIER {
            continue;
        }
        let value = value(cell(4)?).map_err(|what| wrong(number, what))?;
        pairs.insert((cell(0)?.to_owned(), cell(1)?.to_owned()), value);
    }
    Ok(pairs)
}

fn regions<T>(pairs: &Pairs<T>) -> BTreeSet<&str> {
    pairs.keys().flat_map(|(from, to)| [from.as_str(), to.as_str()]).collect()
}

fn price(text: &str) -> Result<Price, String> {
    let dollars = number(text, "a price in dollars per gigabyte")?;
    Ok(Price::from_micro_dollars_per_gb((dollars * 1e6).round() as u64))
}

fn latency(text: &str) -> Result<Latency, String> {
    let millis = number(text, "a round-trip time in milliseconds")?;
    Ok(Latency::from_nanos((millis * 1e6).round() as u64))
}

fn number(text: &str, what: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| format!("{text:?} is not {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: &str = "src,dest,src_tier,dest_tier,cost\n\
        a,b,PREMIUM,PREMIUM,0.02\n\
        b,a,PREMIUM,PREMIUM,0.02\n\
        a,c,PREMIUM,PREMIUM,0.01\n\
        c,a,PREMIUM,PREMIUM,0.04\n\
        b,c,PREMIUM,PREMIUM,0.03\n\
        c,b,PREMIUM,PREMIUM,0.015\n\
        a,d,PREMIUM,PREMIUM,0.01\n\
        a,b,STANDARD,STANDARD,0.0001\n";
    const LATENCIES: &str = "src_region,src_tier,dst_region,dst_tier,min_rtt,avg_rtt\n\
        a,PREMIUM,b,PREMIUM,0,100.5\n\
        b,PREMIUM,a,PREMIUM,0,90\n\
        a,PREMIUM,c,PREMIUM,0,20\n\
        c,PREMIUM,a,PREMIUM,0,30\n\
        b,PREMIUM,c,PREMIUM,0,25\n\
        c,PREMIUM,b,PREMIUM,0,35.25\n\
        a,STANDARD,b,STANDARD,0,1\n";

    fn market() -> Market {
        Market::parse(PRICES, LATENCIES).expect("well formed")
    }

    #[test]
    fn a_relay_is_taken_where_its_price_is_within_the_cap_and_each_direction_has_its_own_values() {
        let market = market();
        assert_eq!(market.regions(), ["a", "b", "c"], "d is priced and not measured");
        // a–b: over c 55.25 ms for 0.025, 1.25 times the direct price; b–a: over c 55 ms for 0.07, 3.5 times.
        let others = 20.0 + 30.0 + 25.0 + 35.25;
        let means = [100.5 + 90.0, 100.5 + 90.0, 55.25 + 90.0, 55.25 + 90.0, 55.25 + 55.0];
        let table = market.table(&Cap::ALL);
        for (row, sum) in table.iter().zip(means) {
            assert_eq!(
                (row.pairs, format!("{:.6}", row.mean_rtt)),
                (6, format!("{:.6}", (sum + others) / 6.0))
            );
        }
        assert_eq!(table.iter().map(|row| row.relayed).collect::<Vec<_>>(), [0, 0, 1, 1, 2]);
    }

    #[test]
    fn a_cap_is_inclusive_and_a_hair_less_is_not_enough() {
        let relayed = |cap| market().table(&[Cap::Hundredths(cap)])[0].relayed;
        assert_eq!([relayed(124), relayed(125), relayed(349), relayed(350)], [0, 1, 1, 2]);
    }

    #[test]
    fn the_engine_finds_what_a_look_at_every_relay_finds() {
        let (mut prices, mut latencies) =
            (PRICES.lines().next().expect("a header").to_owned(), String::new());
        latencies.push_str(LATENCIES.lines().next().expect("a header"));
        let value = |a: usize, b: usize, salt: usize| (a * 7 + b * 13 + a * b * 5 + salt) % 29 + 1;
        for (a, b) in (0..9).flat_map(|a| (0..9).map(move |b| (a, b))).filter(|(a, b)| a != b) {
            prices.push_str(&format!("\nn{a},n{b},PREMIUM,PREMIUM,0.{:03}", value(a, b, 3)));
            latencies.push_str(&format!("\nn{a},PREMIUM,n{b},PREMIUM,0,{}.5", value(a, b, 11) * 3));
        }
        let market = Market::parse(&prices, &latencies).expect("well formed");
        for cap in [100, 130, 200, 500] {
            let best = |(from, to): (usize, usize)| {
                let (rtt, price) = market.value(from, to).expect("measured");
                let relays = (0..9).filter(|relay| ![from, to].contains(relay)).filter_map(|relay| {
                    let (one, other) = (market.value(from, relay)?, market.value(relay, to)?);
                    let sum = one.1.saturating_add(other.1).micro_dollars_per_gb() * 100;
                    let fits = sum <= price.micro_dollars_per_gb() * cap;
                    fits.then(|| one.0.saturating_add(other.0))
                });
                relays.chain([rtt]).min().expect("the direct one").nanos()
            };
            let mean = market.pairs().map(best).sum::<u64>() as f64 / 1e6 / 72.0;
            assert_eq!(market.table(&[Cap::Hundredths(cap as u32)])[0].mean_rtt, mean);
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let refused = |prices: &str, latencies: &str| {
            Market::parse(prices, latencies).expect_err("refused").to_string()
        };
        assert_eq!(refused("src,dest\n", LATENCIES), "prices, line 1: there is no column src_tier");
        let negative = PRICES.replace("0.03", "-1");
        assert_eq!(
            refused(&negative, LATENCIES),
            "prices, line 6: \"-1\" is not a price in dollars per gigabyte"
        );
        let short = format!("{LATENCIES}a,PREMIUM\n");
        assert_eq!(refused(PRICES, &short), "latencies, line 9: 2 cells, the header has 6");
        let none = "src_region,src_tier,dst_region,dst_tier,min_rtt,avg_rtt\n";
        assert!(refused(PRICES, none).starts_with("0 regions are both priced and measured"));
    }
}
