//! Regret tables as values: what each policy cost on one series, for people and programs alike.
use super::policy::Kind;
use super::score::{Oracle, Score, play};
use super::table::{Protocol, Table};

/// The table of one series under one protocol; costs in milliseconds.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Regret {
    pub nodes: usize,
    /// Frames that were taken.
    pub steps: usize,
    /// Of these, the ones in which policies only learned.
    pub burn_in: usize,
    pub protocol: Protocol,
    /// Means of the best and of the direct paths over what was scored.
    pub oracle: f64,
    pub direct: f64,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Row {
    /// As it is asked for.
    pub policy: String,
    pub title: String,
    #[serde(flatten)]
    pub score: Score,
}

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
        burn_in: table.burn_in,
        protocol: protocol.clone(),
        oracle: direct.oracle,
        direct: direct.direct,
        rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choice::chance::noisy_mesh;
    use crate::replay::series::Series;

    #[test]
    fn a_table_has_a_row_for_each_policy_and_the_same_numbers_as_json() {
        let nodes = (0..6).map(|node| format!("n{node}")).collect();
        let protocol = Protocol::default();
        let table = Table::new(&Series { nodes, frames: noisy_mesh(6, 40, 2) }, &protocol).expect("a table");
        let mut steps = 0;
        let regret = compare(&table, &protocol, &[Kind::Direct, Kind::Ours], &mut |_, _| steps += 1);
        assert_eq!(steps, 2 * 39);
        let json = serde_json::to_value(&regret).expect("json");
        assert_eq!(json["rows"][1]["policy"], "ours");
        assert_eq!(json["rows"][1]["regret"], regret.rows[1].score.regret);
        assert_eq!(json["rows"][0]["mean"], json["direct"]);
        assert_eq!(json["protocol"]["nodes"], "all");
    }
}
