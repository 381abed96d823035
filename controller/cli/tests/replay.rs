//! `foreweave replay` as it is run: a table, the same numbers as JSON, a picture, and refusals that name the place.
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn foreweave(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foreweave"))
        .arg("replay")
        .args(arguments)
        .env_remove("FOREWEAVE_CONFIG")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .output()
        .expect("foreweave runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Three nodes: between a and c the direct link is bad, and over b it is good.
fn series() -> String {
    let mut series = String::from("step,src,a,b,c\n");
    for step in 0..40 {
        let noise = step * 7 % 5;
        series += &format!(
            "{step},a,,1{noise},9{noise}\n{step},b,1{noise},,2{noise}\n{step},c,9{noise},2{noise},\n"
        );
    }
    series
}

fn packed(dir: &Path) -> PathBuf {
    let path = dir.join("rtt.csv.gz");
    let file = std::fs::File::create(&path).expect("a file");
    let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    packer.write_all(series().as_bytes()).expect("written");
    packer.finish().expect("packed");
    path
}

#[test]
fn a_packed_series_gives_a_table_and_a_picture() {
    let dir = tempfile::tempdir().expect("directory");
    let (series, picture) = (packed(dir.path()), dir.path().join("regret.svg"));
    let (series, picture) = (series.to_str().expect("utf-8"), picture.to_str().expect("utf-8"));
    let output = foreweave(&[series, "--policy", "direct,last,ours,oracle", "--svg", picture]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(shown.contains("3 nodes, 40 steps of 5m: 8 to learn, 31 scored (186 choices)"), "{shown}");
    for title in ["direct", "last value", "ours", "oracle"] {
        assert!(shown.lines().any(|line| line.starts_with(title)), "{shown}");
    }
    assert!(std::fs::read_to_string(picture).expect("a picture").starts_with("<svg "));
}

#[test]
fn json_has_the_same_numbers() {
    let dir = tempfile::tempdir().expect("directory");
    let series = packed(dir.path());
    let output = foreweave(&[series.to_str().expect("utf-8"), "--policy", "direct,ours", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(text(&output.stderr), "", "nothing for people");
    assert_eq!(json["rows"][0]["policy"], "direct");
    assert_eq!(json["rows"][1]["worse"], 0.0);
    let (direct, ours) = (json["rows"][0]["regret"].as_f64(), json["rows"][1]["regret"].as_f64());
    assert!(ours < direct, "{json:#}");
}

#[test]
fn how_long_a_step_is_comes_from_the_option_or_from_the_series_and_every_multiplies_it() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("rtt.csv");
    std::fs::write(&path, series().replacen("step", "step=15.7s", 1)).expect("written");
    let path = path.to_str().expect("utf-8");
    for (options, shown) in [
        (&[][..], "40 steps of 15.7s: 8"),
        (&["--every", "2"], "20 steps of 31.4s: 4"),
        (&["--every", "2", "--step", "1h"], "20 steps of 2h: 4"),
    ] {
        let output = text(&foreweave(&[&[path, "--policy", "ours"], options].concat()).stdout);
        assert!(output.contains(shown), "{output}");
    }
}

#[test]
fn what_is_no_series_is_refused_with_its_place() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("rtt.csv");
    let path = path.to_str().expect("utf-8");
    for (content, part) in [
        ("step,src,a,b\n0,a,,fast\n", "rtt.csv: line 2, column 4: \"fast\" is no sample"),
        ("step,src,a,b\n0,a,,1\n", "2 nodes and 1 steps are left"),
        ("", "line 1, column 1"),
    ] {
        std::fs::write(path, content).expect("written");
        let output = foreweave(&[path]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
    let missing = foreweave(&["/nonexistent/rtt.csv"]);
    assert_eq!(missing.status.code(), Some(2));
    std::fs::write(format!("{path}.gz"), "not packed").expect("written");
    assert_eq!(foreweave(&[&format!("{path}.gz")]).status.code(), Some(2));
}

#[test]
fn options_that_mean_nothing_are_refused_with_what_would() {
    for (options, part) in [
        (["--policy", "best"], "ewma:GAIN"),
        (["--every", "0"], "0 is not in 1.."),
        (["--step", "500ms"], "between 1s and 1d"),
        (["--burn-in", "1"], "from 0 to 0.9"),
        (["--span", "0.9..0.1"], "0.4..1"),
        (["--relay-cost", "1"], "20ms"),
    ] {
        let output = foreweave(&[&["rtt.csv"], &options[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        assert!(text(&output.stderr).contains(part), "{options:?}: {}", text(&output.stderr));
    }
}

/// Days of traffic over three nodes in a row, in steps of an hour.
fn matrices() -> String {
    let mut matrices = String::from("step,src,a,b,c\n");
    for step in 0..96 {
        let load = 40 + 20 * (step % 24) / 12 + step * 7 % 5;
        matrices += &format!("{step},a,0,{load},{load}\n{step},b,{load},0,{load}\n{step},c,1,1,0\n");
    }
    matrices
}

#[test]
fn traffic_matrices_and_a_network_give_forecasts_and_bounds_of_loads() {
    let dir = tempfile::tempdir().expect("directory");
    let [series, network] = ["tm.csv", "network.json"].map(|name| dir.path().join(name));
    std::fs::write(&series, matrices()).expect("written");
    let row = r#"{"nodes": [["a", 0, 0], ["b", 1, 0], ["c", 2, 0]], "links": [["a", "b", [100]], ["b", "c", [100]]]}"#;
    std::fs::write(&network, row).expect("written");
    let [series, network] = [&series, &network].map(|path| path.to_str().expect("utf-8"));
    let options = [series, "--kind", "load", "--network", network, "--step", "1h"];
    let shown = foreweave(&options);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    assert!(
        text(&shown.stdout).starts_with("4 links, 96 steps of 1h, scored from step 48."),
        "{}",
        text(&shown.stdout)
    );
    let json: Value =
        serde_json::from_slice(&foreweave(&[&options[..], &["--json"]].concat()).stdout).expect("json");
    assert_eq!(json["forecasts"][1]["steps"], 12);
    assert_eq!(json["bounds"][0]["title"], "ours");
}

#[test]
fn loads_without_a_network_and_broken_networks_are_refused() {
    let dir = tempfile::tempdir().expect("directory");
    let [series, network] = ["tm.csv", "network.json"].map(|name| dir.path().join(name));
    std::fs::write(&series, matrices()).expect("written");
    std::fs::write(&network, "{\"nodes\": []").expect("written");
    let [series, network] = [&series, &network].map(|path| path.to_str().expect("utf-8"));
    let without = foreweave(&[series, "--kind", "load"]);
    assert!(text(&without.stderr).contains("--network FILE"), "{}", text(&without.stderr));
    let broken = foreweave(&[series, "--kind", "load", "--network", network]);
    assert_eq!(broken.status.code(), Some(2));
    assert!(text(&broken.stderr).contains("network.json: "), "{}", text(&broken.stderr));
    std::fs::write(network, r#"{"nodes": [["a", 0, 0]], "links": []}"#).expect("written");
    let strange = foreweave(&[series, "--kind", "load", "--network", network]);
    assert!(text(&strange.stderr).contains("no node b"), "{}", text(&strange.stderr));
}

#[test]
fn prices_and_round_trip_times_show_what_a_cap_costs() {
    let dir = tempfile::tempdir().expect("directory");
    let [latencies, prices] = ["rtt.csv", "prices.csv"].map(|name| dir.path().join(name));
    let mut measured = String::from("src_region,src_tier,dst_region,dst_tier,min_rtt,avg_rtt\n");
    let mut priced = String::from("src,dest,src_tier,dest_tier,cost\n");
    // From a to c the way over b is much shorter, and half again as dear.
    for (a, b, rtt, price) in [("a", "b", 10, 0.09), ("b", "c", 10, 0.06), ("a", "c", 100, 0.10)] {
        for (from, to) in [(a, b), (b, a)] {
            measured += &format!("{from},PREMIUM,{to},PREMIUM,{rtt},{rtt}\n");
            priced += &format!("{from},{to},PREMIUM,PREMIUM,{price}\n");
        }
    }
    std::fs::write(&latencies, measured).expect("written");
    std::fs::write(&prices, priced).expect("written");
    let [latencies, prices] = [&latencies, &prices].map(|path| path.to_str().expect("utf-8"));
    let output = foreweave(&[latencies, "--kind", "money", "--prices", prices, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("json");
    let means: Vec<f64> =
        json["rows"].as_array().expect("rows").iter().filter_map(|row| row["mean_rtt"].as_f64()).collect();
    assert_eq!(means[..3], [40.0, 40.0, 40.0], "direct, at most 1 and 1.25 times the direct price");
    assert!((means[3] - 40.0 / 3.0).abs() < 1e-6 && means[3] == means[4], "{means:?}");
    let table = foreweave(&[latencies, "--kind", "money", "--prices", prices]);
    assert!(text(&table.stdout).starts_with("3 regions, 6 ordered pairs;"), "{}", text(&table.stdout));
    let without = foreweave(&[latencies, "--kind", "money"]);
    assert!(text(&without.stderr).contains("--prices FILE"), "{}", text(&without.stderr));
}
