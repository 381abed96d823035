//! The paths that a plan weighed are drawn over time: the chosen one first, against what was asked for.
use super::*;
use proto_wire::v1::series_request::Subject;

const MS: u64 = 1_000_000;
const NOW: u64 = 1_700_000_000_000_000_000;

fn way(middle: &str) -> v1::Path {
    let link = |a: &str, b: &str| v1::LinkId { a: a.into(), b: b.into(), network: "wan".into() };
    v1::Path {
        nodes: ["a", middle, "z"].map(String::from).to_vec(),
        links: vec![link("a", middle), link(middle, "z")],
    }
}

fn candidate(path: v1::Path, rejected: &[&str]) -> v1::Candidate {
    v1::Candidate {
        path: Some(path),
        mtu: 1450,
        rejected: rejected.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

/// The second candidate is chosen, the third would be its backup.
pub(super) fn planned(candidates: Vec<v1::Candidate>) -> v1::Plan {
    v1::Plan {
        bounds: Some(v1::Bounds { max_rtt: Some(20 * MS), max_loss: Some(10_000), ..Default::default() }),
        weights: Some(v1::Weights::default()),
        chosen: Some(1),
        backup: candidates.get(2).cloned(),
        candidates,
        ..Default::default()
    }
}

pub(super) fn three() -> Vec<v1::Candidate> {
    ["t1", "t2", "t3"].map(|middle| candidate(way(middle), &[])).to_vec()
}

/// As a controller answers: each path as it was asked for, and no word of what it is to the plan.
pub(super) fn series(ask: v1::SeriesRequest) -> v1::Series {
    let Some(Subject::Paths(paths)) = ask.subject else { return v1::Series::default() };
    let line = |(index, path): (u64, v1::Path)| {
        let at = |back: u64| NOW - back * 2_000_000_000;
        let value = (5 + 10 * index) * MS;
        let point = |back| v1::series::Point { at: at(back), least: value, mean: value, most: value };
        v1::series::Line {
            role: v1::series::Role::Candidate.into(),
            path: Some(path),
            from: v1::Origin::Measured.into(),
            points: (1..30).rev().map(point).collect(),
            forecasts: Vec::new(),
        }
    };
    v1::Series {
        quantity: ask.quantity,
        at: NOW,
        step: 2_000_000_000,
        bound: None,
        lines: (0..).zip(paths.paths).map(line).collect(),
    }
}

/// What a plan says with these words, and what it asked of the controller.
async fn plan(plan: v1::Plan, words: &[&str]) -> (Output, Vec<v1::SeriesRequest>) {
    let authority = Authority::new();
    let pretended = Pretended { plan, ..Default::default() };
    let config = authority.configure(&[authority.serve(pretended.clone()).await]);
    let output = foreweave(&config, &[&["circuit", "plan", "web", "db"], words].concat()).await;
    let asked = pretended.series.lock().expect("series").clone();
    (output, asked)
}

fn middles(asked: &v1::SeriesRequest) -> Vec<String> {
    let Some(Subject::Paths(paths)) = &asked.subject else { panic!("{asked:?}") };
    paths.paths.iter().map(|path| path.nodes[1].clone()).collect()
}

#[tokio::test]
async fn a_plans_chart_has_the_chosen_path_first_then_its_backup_and_the_bound_of_the_wish() {
    let (output, asked) = plan(planned(three()), &["--latency", "20ms", "--chart", "--past", "60s"]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(middles(&asked[0]), ["t2", "t3", "t1"]);
    assert_eq!((asked[0].past, asked[0].quantity()), (60_000_000_000, v1::link::Quantity::Rtt));
    let chart = text(&output.stdout);
    let titles: Vec<&str> = chart.lines().filter(|line| line.starts_with("a → ")).collect();
    for (title, part) in titles.iter().zip([
        "a → t2 → z  (path)  now 5 ms",
        "a → t3 → z  (backup)  now 15 ms",
        "a → t1 → z  (candidate)  now 25 ms, above its bound",
    ]) {
        assert!(title.starts_with(part), "{part}: {chart}");
    }
    assert_eq!((titles.len(), chart.matches("≤ 20 ms").count()), (3, 3), "{chart}");
    assert!(!chart.contains("weights"), "the chart instead of the table: {chart}");
}

#[tokio::test]
async fn the_loss_of_a_plans_paths_is_drawn_against_the_bound_of_the_loss() {
    let words = ["--loss", "1%", "--chart", "--draw", "loss", "--json"];
    let (output, asked) = plan(planned(three()), &words).await;
    assert_eq!(asked[0].quantity(), v1::link::Quantity::Loss, "{}", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["quantity"], &json["bound"]), (&"QUANTITY_LOSS".into(), &10_000.into()));
    let roles: Vec<_> = json["lines"].as_array().expect("lines").iter().map(|line| &line["role"]).collect();
    assert_eq!(roles, ["ROLE_PATH", "ROLE_BACKUP", "ROLE_CANDIDATE"]);
}

#[tokio::test]
async fn a_plans_picture_is_written_and_the_plan_printed_as_usual() {
    let file = tempfile::NamedTempFile::new().expect("file");
    let name = file.path().to_str().expect("text");
    let (output, _) = plan(planned(three()), &["--svg", name]).await;
    let (shown, said) = (text(&output.stdout), text(&output.stderr));
    assert!(shown.contains("chosen     a → t2 → z") && shown.contains("weights"), "{shown}{said}");
    let svg = std::fs::read_to_string(file.path()).expect("picture");
    assert!(
        svg.starts_with("<svg ") && svg.contains("web → db") && svg.contains("a → t2 → z (path)"),
        "{svg}"
    );
}

#[tokio::test]
async fn no_more_than_eight_paths_of_a_plan_are_drawn_and_the_others_counted() {
    let many = (1..=11).map(|number| candidate(way(&format!("t{number}")), &[])).collect();
    let (output, asked) = plan(planned(many), &["--chart"]).await;
    assert_eq!(middles(&asked[0]), ["t2", "t3", "t1", "t4", "t5", "t6", "t7", "t8"]);
    let said = text(&output.stderr);
    assert!(said.contains("3 more candidates are not drawn"), "{said}");
}

#[tokio::test]
async fn the_paths_of_a_refused_plan_are_drawn_and_it_is_refused_all_the_same() {
    let late = candidate(way("t1"), &["its round-trip time is 25 ms, 20 ms is allowed"]);
    let refused = v1::Plan { chosen: None, refused: "no path keeps 20 ms".into(), ..planned(vec![late]) };
    let (output, _) = plan(refused.clone(), &["--chart"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).starts_with("a → t1 → z  (candidate)"), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("no path keeps 20 ms"), "{}", text(&output.stderr));
    let (output, asked) = plan(v1::Plan { candidates: Vec::new(), ..refused }, &["--chart"]).await;
    assert_eq!((output.status.code(), asked.len()), (Some(1), 0), "there is nothing to ask for");
    assert!(text(&output.stderr).contains("no path keeps 20 ms"), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn what_cannot_be_drawn_of_a_plan_is_refused_with_what_can() {
    let here = v1::Path { nodes: vec!["a".into()], links: Vec::new() };
    let same_host = v1::Plan { chosen: Some(0), ..planned(vec![candidate(here, &[])]) };
    let (output, _) = plan(same_host, &["--chart"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("on one host: there is no path to draw"),
        "{}",
        text(&output.stderr)
    );
    for (words, part) in [
        (&["--chart", "--draw", "load"][..], "foreweave link show A B --chart --load"),
        (&["--draw", "loss"], "--past and --draw say what to draw, and nothing is to be drawn"),
    ] {
        let (output, asked) = plan(planned(three()), words).await;
        assert_eq!((output.status.code(), asked.len()), (Some(2), 0));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
}

#[tokio::test]
async fn a_chart_is_of_one_circuit_and_not_of_a_file_of_them() {
    let authority = Authority::new();
    let config = authority.configure(&[authority.serve(Pretended::default()).await]);
    let output = foreweave(&config, &["circuit", "plan", "--file", "wishes", "--chart"]).await;
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("one circuit, and --file names several") && said.contains("SRC DST --chart"),
        "{said}"
    );
}
