//! Where a resource's interface can be put.
use crate::support::{Fabric, ROW, allow_icmp, eventually};
use anyhow::{Context, Result};
use proto_wire::v1::{self, attachment::Where};
use std::process::Stdio;
use tests_kernel::traffic;

#[test]
fn interfaces_go_into_namespaces_by_path_name_and_process_and_onto_hosts() -> Result<()> {
    let fabric = Fabric::up("where", ROW)?;
    let mut sleeper = fabric.lab.exec("web", "sleep")?;
    let mut sleeper = sleeper.arg("600").stdin(Stdio::null()).spawn().context("sleep")?;
    let name = fabric.namespace("web");
    let places = [
        ("by-path", Where::Path(format!("/run/netns/{name}")), name.clone()),
        ("by-name", Where::Named(name.clone()), name.clone()),
        ("by-process", Where::Process(sleeper.id()), name.clone()),
        ("on-host", Where::Host(true), fabric.namespace("a")),
    ];
    let outcome = each(&fabric, &places);
    sleeper.kill()?;
    sleeper.wait()?;
    outcome?;
    fabric.lab.down()
}

fn each(fabric: &Fabric, places: &[(&str, Where, String)]) -> Result<()> {
    let db = fabric.addresses("db")?;
    for (id, place, namespace) in places {
        register(fabric, id, place.clone())?;
        fabric.circuit(v1::CircuitSpec {
            source: (*id).to_owned(),
            destination: "db".into(),
            rules: vec![allow_icmp()],
            ..v1::CircuitSpec::default()
        })?;
        for (own, remote) in fabric.addresses(id)?.into_iter().zip(db) {
            // Several resources share a namespace here: the packet must leave by this one's interface and address.
            let output = tests_kernel::lab::namespace::command(namespace, "ping")?
                .args([
                    "-n",
                    "-q",
                    "-c",
                    "3",
                    "-i",
                    "0.05",
                    "-W",
                    "1",
                    "-I",
                    &own.to_string(),
                    &remote.to_string(),
                ])
                .output()?;
            let pings =
                traffic::parse_ping(&String::from_utf8_lossy(&output.stdout)).context("no summary")?;
            assert_eq!(pings.received, pings.sent, "{id} from {own} to {remote}");
        }
        fabric.delete(&format!("{id}-db"))?;
        fabric.remove(id)?;
        eventually("its interface is gone", || {
            let text = fabric.lab.output("a", "ip", &["-o", "link"])?;
            Ok(!String::from_utf8_lossy(&text.stdout).contains(&format!("foreweave:{id}")))
        })?;
    }
    Ok(())
}

fn register(fabric: &Fabric, id: &str, place: Where) -> Result<()> {
    let metadata = v1::ResourceMetadata {
        form: v1::resource_metadata::Form::Container.into(),
        node: "a".into(),
        attachment: Some(v1::Attachment { r#where: Some(place) }),
        ..v1::ResourceMetadata::default()
    };
    let request = v1::RegisterResourceRequest {
        resource_id: id.to_owned(),
        metadata: Some(metadata),
        intents: Vec::new(),
        lease: None,
    };
    fabric.ask(async |mut client| client.register_resource(request).await.map(drop).context("register"))
}
