//! Regret tables as values: what each policy cost on one series, for people and programs alike.
use super::policy::Kind;
use super::score::{Oracle, Score, play};
use super::table::{Protocol, Table, as_seconds};
use crate::forecast::Quantity;
use crate::forecast::bank::Spec;
use crate::forecast::score;
use std::time::Duration;

/// The table of one series under one protocol; costs in milliseconds.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Regret {
    pub nodes: usize,
    /// Frames that were taken.
    pub steps: usize,
    /// Between two of them: how often paths are chosen.
    #[serde(serialize_with = "as_seconds")]
    pub step: Duration,
    /// Of the frames, the ones in which policies only learned.
    pub burn_in: usize,
    pub protocol: Protocol,
    /// Means of the best and of the direct paths over what was scored.
    pub oracle: f64,
    pub direct: f64,
    pub rows: Vec<Row>,
    /// How the bands of the links' forecasts held.
    pub bands: Vec<Band>,
}

/// Bands so many steps ahead: the share of the truth within those of 98, 90 and 50 %, in per cent.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Band {
    pub steps: usize,
    pub coverage: [f64; 3],
    /// Mean width of the 90 % band.
    pub width: f64,
    pub forecasts: u64,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Row {
    /// As it is asked for.
    pub policy: String,
    pub title: String,
    #[serde(flatten)]
    pub score: Score,
}

/// Steps ahead at which bands are judged.
const BANDS: [usize; 2] = [1, 12];

/// Plays all of them. `progress` is told who plays, and which step.
pub fn compare(
    table: &Table,
    protocol: &Protocol,
    policies: &[Kind],
    progress: &mut dyn FnMut(&Kind, usize),
) -> Regret {
    let oracle = Oracle::new(table);
    let mut play =
        |kind: &Kind| play(table, &oracle, &mut *kind.policy(table), &mut |step| progress(kind, step));
    let rows: Vec<Row> = policies
        .iter()
        .map(|kind| Row { policy: kind.to_string(), title: kind.title(), score: play(kind) })
        .collect();
    let direct = rows.first().map_or_else(|| play(&Kind::Direct), |row| row.score);
    Regret {
        nodes: table.nodes,
        steps: table.steps(),
        step: table.step,
        burn_in: table.burn_in,
        protocol: protocol.clone(),
        oracle: direct.oracle,
        direct: direct.direct,
        rows,
        bands: bands(table),
    }
}

/// The links' own forecasts, scored over the same steps as the choices.
fn bands(table: &Table) -> Vec<Band> {
    let spec = match table.step.as_secs() {
        0..10 => Spec::seconds(Quantity::Rtt),
        10..1_200 => Spec::minutes(Quantity::Rtt),
        _ => Spec::hours(Quantity::Rtt),
    };
    let links = score::Table { samples: &table.seen, truth: &table.truth, scored_from: table.burn_in + 1 };
    let scores = score::bank(links, spec, &BANDS).into_iter().filter(|score| score.forecasts > 0);
    let band = |score: score::Score| Band {
        steps: score.ahead,
        coverage: score.coverage.map(|share| 100.0 * share),
        width: score.width,
        forecasts: score.forecasts,
    };
    scores.map(band).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::chance::noisy_mesh;
    use crate::replay::series::Series;

    #[test]
    fn a_table_has_a_row_for_each_policy_and_the_same_numbers_as_json() {
        let nodes = (0..6).map(|node| format!("n{node}")).collect();
        let protocol = Protocol { step: Duration::from_secs(60), every: 2, ..Protocol::default() };
        let table = Table::new(&Series { nodes, step: None, frames: noisy_mesh(6, 80, 2) }, &protocol)
            .expect("a table");
        let mut steps = 0;
        let regret = compare(&table, &protocol, &[Kind::Direct, Kind::Ours], &mut |_, _| steps += 1);
        assert_eq!(steps, 2 * 39);
        let json = serde_json::to_value(&regret).expect("json");
        assert_eq!(json["rows"][1]["policy"], "ours");
        assert_eq!(json["rows"][1]["regret"], regret.rows[1].score.regret);
        assert_eq!(json["rows"][0]["mean"], json["direct"]);
        assert_eq!(json["bands"][0]["steps"], 1);
        assert!(regret.bands[0].coverage[1] > 70.0, "{:?}", regret.bands);
        assert_eq!(json["protocol"]["nodes"], "all");
        assert_eq!((&json["protocol"]["step"], &json["step"]), (&60.0.into(), &120.0.into()));
    }
}
