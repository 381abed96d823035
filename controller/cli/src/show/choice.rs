//! How a circuit chooses among its paths by cost, as people read it: whose advice counts, what each path would cost, what would change it.
use super::table::{self, Tone, cell, indented, plain};
use proto_model::choice::{Choice, Expert, Flip, Way};

pub fn choice(choice: &Choice) -> String {
    let lines: Vec<String> = sentences(choice);
    format!("\nby cost\n{}\n{}", indented(&lines.join("\n")), ways(choice))
}

fn sentences(choice: &Choice) -> Vec<String> {
    let mut lines = Vec::new();
    let followed = choice.experts.iter().find(|expert| expert.name == choice.expert);
    lines.extend(followed.map(|expert| record(choice, expert)));
    lines.extend(followed.and_then(|expert| runner_up(choice, expert)));
    lines.push(outcome(choice));
    lines.extend(choice.flip.and_then(|flip| would(choice, flip)));
    lines
}

fn record(choice: &Choice, expert: &Expert) -> String {
    let first = choice.ways.first().map(|way| way.path.to_string()).unwrap_or_default();
    let name = &expert.name;
    if expert.name == "reference" {
        return format!("follows the {name} expert: nobody's advice was better than to stay on {first}");
    }
    format!(
        "follows the {name} expert: over about {:.0} steps of {:?} its advice cost {} than {first} (all circuits: {})",
        expert.evidence,
        choice.step,
        compared(expert.own),
        compared(expert.all)
    )
}

fn runner_up(choice: &Choice, followed: &Expert) -> Option<String> {
    let others = choice.experts.iter().filter(|expert| expert.name != followed.name);
    let next = others.min_by(|a, b| a.score.total_cmp(&b.score))?;
    Some(format!("the {} expert is behind by {:.2}", next.name, next.score - followed.score))
}

fn outcome(choice: &Choice) -> String {
    let path = |way: usize| choice.ways.get(way).map(|way| way.path.to_string()).unwrap_or_default();
    let cost = |at: usize| choice.ways.get(at).and_then(|way| by(choice, way));
    if choice.chosen != choice.here {
        return format!("chooses {}; {}", path(choice.chosen), choice.held);
    }
    match (choice.wanted != choice.here, cost(choice.wanted), cost(choice.here)) {
        (false, ..) => format!("stays on {}", path(choice.here)),
        (true, Some(there), Some(here)) => format!(
            "stays on {}: {} is {:.2} cheaper, and a margin of {:.2} is asked, which follows from how wrong forecasts were",
            path(choice.here),
            path(choice.wanted),
            here - there,
            choice.margin
        ),
        (true, ..) => format!("stays on {}: not all costs are known", path(choice.here)),
    }
}

fn would(choice: &Choice, flip: Flip) -> Option<String> {
    let path = &choice.ways.get(flip.way)?.path;
    Some(format!("{path} would be taken if it cost less than {:.2}, now {:.2}", flip.below, flip.now))
}

/// What a way costs by the forecast that decides.
fn by(choice: &Choice, way: &Way) -> Option<f64> {
    match choice.by.as_str() {
        "agile" => way.agile,
        "steady" => way.steady,
        "shrunk" => way.shrunk,
        _ => None,
    }
}

fn ways(choice: &Choice) -> String {
    let row = |(at, way): (usize, &Way)| {
        let tone = match (at == choice.here, way.usable) {
            (true, _) => Tone::Good,
            (false, true) => Tone::Plain,
            (false, false) => Tone::Faint,
        };
        let cost = |cost: Option<f64>| cost.map_or("-".into(), |cost| format!("{cost:.2}"));
        let advisers = choice.experts.iter().filter(|expert| expert.advises == at);
        let advisers: Vec<&str> = advisers.map(|expert| expert.name.as_str()).collect();
        vec![
            cell(&way.path, tone),
            plain(cost(way.agile)),
            plain(cost(way.steady)),
            plain(cost(way.shrunk)),
            plain(format!("{:.2}", way.beside)),
            plain(advisers.join(", ")),
            cell(mark(choice, at, way), tone),
        ]
    };
    let columns = ["PATH", "AGILE", "STEADY", "SHRUNK", "OF THAT BESIDE RTT AND LOSS", "ADVISED BY", ""];
    indented(&table::of(&columns, choice.ways.iter().enumerate().map(row), ""))
}

fn mark(choice: &Choice, at: usize, way: &Way) -> &'static str {
    match (at == choice.here, at == choice.chosen, way.usable) {
        (true, ..) => "here",
        (false, true, _) => "chosen",
        (false, false, true) => "",
        (false, false, false) => "does not serve",
    }
}

fn compared(excess: f64) -> String {
    format!("{:.2} {}", excess.abs(), if excess > 0.0 { "more" } else { "less" })
}
