//! What becomes of circuits that were asked for together, as people read it.
use super::table::{self, Tone, cell, plain};
use proto_model::together::{Class, Outcome, Placement};

/// `planned`: nothing was made.
pub fn placement(placement: &Placement, planned: bool) -> String {
    let Placement { classes, outcomes } = placement;
    let rows = outcomes.iter().map(|outcome| {
        let (state, tone, detail) = state(outcome, planned);
        vec![
            outcome.circuit.map_or_else(|| plain("–"), plain),
            plain(&outcome.name),
            plain(outcome.priority),
            plain(outcome.bandwidth),
            cell(state, tone),
            plain(detail),
        ]
    });
    let circuits = table::of(&["ID", "NAME", "PRIORITY", "BANDWIDTH", "", "PATH"], rows, "");
    let hints = outcomes.iter().filter(|outcome| !outcome.hint.is_empty());
    let hints: String = hints.map(|outcome| format!("{}: {}\n", outcome.name, outcome.hint)).collect();
    let gap = if hints.is_empty() { "" } else { "\n" };
    format!("{circuits}\n{}{gap}{hints}", self::classes(classes))
}

fn state(outcome: &Outcome, planned: bool) -> (&'static str, Tone, String) {
    match &outcome.path {
        Some(path) if planned => ("fits", Tone::Good, path.to_string()),
        Some(path) => ("placed", Tone::Good, path.to_string()),
        None if outcome.refused.is_empty() => {
            let moves: Vec<String> = outcome.moves.iter().map(ToString::to_string).collect();
            ("waits", Tone::Waiting, format!("until they have moved: {}", moves.join(", ")))
        }
        None => ("refused", Tone::Bad, outcome.refused.clone()),
    }
}

fn classes(classes: &[Class]) -> String {
    let rows = classes.iter().map(|class| {
        let tone = if class.placed == class.bound { Tone::Good } else { Tone::Plain };
        vec![
            plain(class.priority),
            plain(class.wanted),
            plain(class.placed),
            plain(class.bound),
            cell(format!("{:.1} %", 100.0 * class.gap()), tone),
        ]
    });
    table::of(&["PRIORITY", "WANTED", "PLACED", "AT MOST", "GAP"], rows, "")
}
