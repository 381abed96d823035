//! What a controller of an older build leaves out of its answers is asked for, or left out here.
use super::{Authority, Pretended, foreweave, text};

#[tokio::test]
async fn a_controller_of_an_older_build_is_asked_whether_the_circuit_is_gone() {
    let authority = Authority::new();
    let config = authority.configure(&[authority.serve(Pretended::default()).await]);
    let delete = ["circuit", "delete", "web-db", "--wait", "1s"];
    let output = foreweave(&config, &delete).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("gone from every host"), "{}", text(&output.stdout));
    let closing = Pretended { closing: true, ..Default::default() };
    let config = authority.configure(&[authority.serve(closing).await]);
    let output = foreweave(&config, &delete).await;
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("on edge-b"), "{}", text(&output.stderr));
    assert!(!text(&output.stdout).contains("is gone"), "{}", text(&output.stdout));
}

#[tokio::test]
async fn drops_of_other_hosts_that_an_older_build_tells_are_left_out() {
    let authority = Authority::new();
    let config = authority.configure(&[authority.serve(Pretended::default()).await]);
    let output = foreweave(&config, &["drops", "--node", "edge-b", "--json"]).await;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let nodes: Vec<_> = json["drops"].as_array().expect("a list").iter().map(|drop| &drop["node"]).collect();
    assert_eq!(nodes, ["edge-b"], "{json}");
}

#[tokio::test]
async fn a_controller_of_an_older_build_that_cannot_draw_a_plan_is_named_as_such() {
    let authority = Authority::new();
    let older =
        Pretended { no_paths: true, plan: super::plan::planned(super::plan::three()), ..Default::default() };
    let config = authority.configure(&[authority.serve(older).await]);
    let output = foreweave(&config, &["circuit", "plan", "web", "db", "--chart"]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("of an older build") && said.contains("without --chart and --svg"), "{said}");
}
