//! Why a path was chosen: whose advice, what that brought so far, what each candidate costs, and what would change it.
use super::links::Forecast;
use super::records::{EXPERTS, Expert, Standing};

/// A decision and its reasons; candidates by their index in what the caller gave.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Choice {
    /// The one to take.
    pub candidate: usize,
    /// What the expert advised; another one than `candidate` when it is not better by the margin.
    pub wanted: usize,
    /// Whose advice the pair follows.
    pub expert: Expert,
    /// The forecast by which costs were compared.
    pub deciding: Forecast,
    /// By how much another path has to be better at this cost, from how wrong the pair's forecasts have been.
    pub margin: f32,
    /// Every expert's record with the pair, in the order of [`Expert::ALL`].
    pub standings: [Standing; EXPERTS],
    /// The candidate of each expert, in the same order.
    pub advised: [usize; EXPERTS],
    /// Each candidate's cost by each forecast, in the order of [`Forecast::ALL`]; infinite: unknown or unavailable (null as JSON).
    pub costs: Vec<[f32; Forecast::ALL.len()]>,
    /// What would change it, as the expert sees it.
    pub flip: Option<Flip>,
}

/// The candidate next to being taken, and how much less it would have to cost.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Flip {
    pub candidate: usize,
    pub by: f32,
}

impl Flip {
    /// `tempting` is the highest cost at which another path is taken.
    pub(super) fn of(
        chosen: usize,
        costs: &[[f32; Forecast::ALL.len()]],
        deciding: Forecast,
        tempting: f32,
    ) -> Option<Self> {
        let cost = |candidate: &usize| costs[*candidate][deciding as usize];
        let others = (0..costs.len()).filter(|candidate| *candidate != chosen && cost(candidate).is_finite());
        let next = others.min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
        let by = cost(&next) - tempting;
        by.is_finite().then_some(Self { candidate: next, by: by.max(0.0) })
    }
}

impl Choice {
    /// What the followed expert's path is forecast to cost.
    pub fn cost(&self) -> f32 {
        self.costs[self.candidate][self.deciding as usize]
    }

    /// Whether the pair stays although the expert advises another path.
    pub fn hesitates(&self) -> bool {
        self.candidate != self.wanted
    }

    /// The expert that would be followed next, and by how much its score is behind.
    pub fn runner_up(&self) -> Option<(Expert, f32)> {
        let own = self.standings[self.expert.index()].score;
        let others = self.standings.iter().filter(|standing| standing.expert != self.expert);
        let next = others.min_by(|a, b| a.score.total_cmp(&b.score))?;
        Some((next.expert, next.score - own))
    }

    /// Sentences for people; `unit` is that of the samples.
    pub fn sentences(&self, unit: &str) -> Vec<String> {
        let standing = self.standings[self.expert.index()];
        let mut said = vec![format!(
            "follows the {} expert: over about {:.0} steps its paths cost {} than the reference path (all pairs: {})",
            self.expert.word(),
            standing.evidence,
            compared(standing.own, unit),
            compared(standing.mesh, unit),
        )];
        if let Some((expert, behind)) = self.runner_up() {
            said.push(format!("the {} expert is behind by {behind:.2} {unit}", expert.word()));
        }
        if self.hesitates() {
            said.push(format!(
                "candidate {} would be better by less than the margin of {:.2} {unit}, which follows from how wrong the \
                 forecasts have been",
                self.wanted, self.margin
            ));
        }
        if let Some(Flip { candidate, by }) = self.flip {
            said.push(format!("candidate {candidate} would be taken if it cost {by:.2} {unit} less"));
        }
        said
    }
}

fn compared(excess: f32, unit: &str) -> String {
    let word = if excess > 0.0 { "more" } else { "less" };
    format!("{:.2} {unit} {word}", excess.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice() -> Choice {
        let standing = |expert: Expert, own: f32, score| Standing {
            expert,
            own,
            mesh: own / 2.0,
            evidence: 40.0,
            prior: 9.0,
            score,
        };
        let [reference, agile, steady, shrunk] = Expert::ALL;
        Choice {
            candidate: 0,
            wanted: 1,
            expert: shrunk,
            deciding: Forecast::Shrunk,
            margin: 2.5,
            standings: [
                standing(reference, 0.0, 3.0),
                standing(agile, 4.0, 7.0),
                standing(steady, 0.5, 3.5),
                standing(shrunk, -3.0, 0.0),
            ],
            advised: [0, 1, 1, 1],
            costs: vec![[100.0; 3], [98.0; 3]],
            flip: Some(Flip { candidate: 1, by: 0.4 }),
        }
    }

    #[test]
    fn a_decision_says_who_won_who_was_next_and_what_would_change_it() {
        let said = choice().sentences("ms");
        assert_eq!(
            said[0],
            "follows the shrunk expert: over about 40 steps its paths cost 3.00 ms less than the reference path (all \
             pairs: 1.50 ms less)"
        );
        assert_eq!(said[1], "the reference expert is behind by 3.00 ms");
        assert!(said[2].starts_with("candidate 1 would be better by less than the margin of 2.50 ms"));
        assert_eq!(said[3], "candidate 1 would be taken if it cost 0.40 ms less");
    }

    #[test]
    fn without_another_candidate_nothing_can_change_it() {
        assert_eq!(Flip::of(0, &[[5.0; 3]], Forecast::Agile, 4.0), None);
        let unknown = [[5.0; 3], [f32::INFINITY; 3]];
        assert_eq!(Flip::of(0, &unknown, Forecast::Agile, 4.0), None);
    }
}
