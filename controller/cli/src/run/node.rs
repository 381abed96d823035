//! Status, nodes, links and clients.
use super::{all_understood, understood};
use crate::args::fabric::{Client, Link, LinkSet, LinkShow, Node, Shortages};
use crate::config::Config;
use crate::fabric::{Again, Fabric};
use crate::failure::Failure;
use crate::out::Out;
use crate::show;
use proto_model::request::LinkView;
use proto_model::shortage::{Line, Shortage};
use proto_model::topology::{LinkId, LinkValues};
use proto_model::{Kind, Name, NodeName, Refusal, Timestamp};
use proto_wire::convert::requests::ClientWish;
use proto_wire::v1;
use std::time::Duration;

pub(super) async fn status(fabric: &mut Fabric, region: &str, out: Out) -> Result<(), Failure> {
    let answer = fabric.read(v1::Empty {}, async |mut client, ask| client.get_status(ask).await).await?;
    let view = understood(answer.clone())?;
    out.answer("Status", &answer, || show::fabric::status(&view, region, show::now()))
}

pub(super) async fn node(
    fabric: &mut Fabric,
    config: &Config,
    command: &Node,
    out: Out,
) -> Result<(), Failure> {
    match command {
        Node::List => {
            let answer =
                fabric.read(v1::Empty {}, async |mut client, ask| client.list_nodes(ask).await).await?;
            let nodes: Vec<_> = all_understood(answer.nodes.clone())?;
            out.answer("ListNodesResponse", &answer, || show::fabric::nodes(&nodes, show::now()))
        }
        Node::Policy(command) => super::policy::policy(fabric, command, out).await,
        Node::Add { name, lifetime } => add(fabric, config, name, lifetime.0, out).await,
        Node::Remove { name } => {
            let ask = v1::RemoveNodeRequest { node: name.to_string() };
            let answer = fabric
                .ask(Again::No, Duration::ZERO, ask, async |mut client, ask| client.remove_node(ask).await)
                .await?;
            out.answer("Empty", &answer, || {
                format!("{name} is removed\nto clean the host up, run there: foreweave-agent uninstall --config FILE")
            })
        }
    }
}

async fn add(
    fabric: &mut Fabric,
    config: &Config,
    name: &NodeName,
    lifetime: Duration,
    out: Out,
) -> Result<(), Failure> {
    let ask = v1::CreateTokenRequest { node: name.to_string(), lifetime: lifetime.as_nanos() as u64 };
    let answer = fabric
        .ask(Again::Yes, Duration::ZERO, ask, async |mut client, ask| client.create_token(ask).await)
        .await?;
    out.answer("CreateTokenResponse", &answer, || {
        let left = show::span(Timestamp(answer.expires).since(show::now()));
        format!(
            "on the host {name}, run within {left} (the token works once):\n\n  foreweave-agent enrol --token {}\n\nthen\n\n  foreweave-agent run --config /etc/foreweave/agent.toml\n\nit will talk \
             to {}",
            answer.token,
            show::words(&config.controllers)
        )
    })
}

pub(super) async fn link(fabric: &mut Fabric, command: &Link, out: Out) -> Result<(), Failure> {
    match command {
        Link::List => {
            let answer =
                fabric.read(v1::Empty {}, async |mut client, ask| client.list_links(ask).await).await?;
            let links: Vec<_> = all_understood(answer.links.clone())?;
            out.answer("ListLinksResponse", &answer, || show::link::list(&links))
        }
        Link::Show { which, drawing } => {
            drawing.check()?;
            let mut answer =
                fabric.read(v1::Empty {}, async |mut client, ask| client.list_links(ask).await).await?;
            let links = between(&mut answer, which)?;
            if drawing.sheet.is_wanted() {
                let ids: Vec<LinkId> = links.iter().map(|link| link.id.clone()).collect();
                super::explain::links(fabric, &ids, drawing, out).await?;
                if drawing.sheet.chart {
                    return Ok(());
                }
            }
            out.answer("ListLinksResponse", &answer, || show::link::all(&links))
        }
        Link::Shortages(wish) => shortages(fabric, wish, out).await,
        Link::Export(wish) => super::history::export(fabric, wish, out).await,
        Link::Set(set) => {
            let id = id(fabric, &set.a, &set.b, set.network.as_ref()).await?;
            let ask = v1::SetLinkRequest { link: Some(id.into()), values: Some(values(set).into()) };
            let answer = fabric
                .ask(Again::Yes, Duration::ZERO, ask, async |mut client, ask| client.set_link(ask).await)
                .await?;
            let link = understood(answer.clone())?;
            out.answer("Link", &answer, || show::link::list(&[link]))
        }
        Link::Forget(which) => {
            let id = id(fabric, &which.a, &which.b, which.network.as_ref()).await?;
            let ask = v1::ForgetLinkRequest { link: Some(id.clone().into()) };
            let answer = fabric
                .ask(Again::No, Duration::ZERO, ask, async |mut client, ask| client.forget_link(ask).await)
                .await?;
            out.answer("Empty", &answer, || format!("what was set of {id} is forgotten"))
        }
    }
}

async fn shortages(fabric: &mut Fabric, wish: &Shortages, out: Out) -> Result<(), Failure> {
    let line = Line { within: wish.within.0, share: wish.share, chance: wish.chance };
    let ask = v1::ListShortagesRequest::from(line);
    let answer = fabric.read(ask, async |mut client, ask| client.list_shortages(ask).await).await?;
    let found: Vec<Shortage> = all_understood(answer.shortages.clone())?;
    out.answer("ListShortagesResponse", &answer, || show::link::shortages(&found, &line))
}

/// Those that join the two nodes; an answer without the others.
fn between(answer: &mut v1::ListLinksResponse, wish: &LinkShow) -> Result<Vec<LinkView>, Failure> {
    let LinkShow { a, b, network } = wish;
    let wanted = |view: &LinkView| {
        let network = network.as_ref().is_none_or(|network| network == view.id.network());
        network && view.id.other(a) == Some(b)
    };
    let mut links = Vec::new();
    for link in std::mem::take(&mut answer.links) {
        let view: LinkView = understood(link.clone())?;
        if wanted(&view) {
            links.push(view);
            answer.links.push(link);
        }
    }
    if !links.is_empty() {
        return Ok(links);
    }
    let place = network.as_ref().map(|network| format!(" in {network}")).unwrap_or_default();
    let refusal = Refusal::new(Kind::NotFound, format!("there is no link between {a} and {b}{place}"))
        .hint("foreweave link list shows the links");
    Err(Failure::Refused { refusal, option: None })
}

/// Without a network: the only link between the two, or one that is not there yet.
async fn id(
    fabric: &mut Fabric,
    a: &NodeName,
    b: &NodeName,
    network: Option<&Name>,
) -> Result<LinkId, Failure> {
    let network = match network {
        Some(network) => network.clone(),
        None => {
            let answer =
                fabric.read(v1::Empty {}, async |mut client, ask| client.list_links(ask).await).await?;
            let links: Vec<LinkView> = all_understood(answer.links)?;
            meant(a, b, &links)?
        }
    };
    LinkId::new(a.clone(), b.clone(), network).ok_or_else(|| Failure::Usage {
        what: format!("a link has two ends, and both are {a}"),
        hint: "foreweave link list shows the links".into(),
    })
}

fn meant(a: &NodeName, b: &NodeName, links: &[LinkView]) -> Result<Name, Failure> {
    let between: Vec<&Name> =
        links.iter().filter(|link| link.id.other(a) == Some(b)).map(|link| link.id.network()).collect();
    match between.as_slice() {
        [] => "default".parse().map_err(|why| Failure::usage(format!("default: {why}"))),
        [only] => Ok(Name::clone(only)),
        several => Err(Failure::Usage {
            what: format!("{a} and {b} have {} links, in {}", several.len(), show::words(several)),
            hint: format!("say which: --network {}", several[0]),
        }),
    }
}

fn values(set: &LinkSet) -> LinkValues {
    LinkValues {
        rtt: set.latency,
        capacity: set.capacity,
        loss: set.loss,
        price: set.price,
        encrypted: set.encrypted,
        require_encryption: set.require_encryption,
        tags: set.tags.iter().cloned().collect(),
        disabled: set.disable,
    }
}

pub(super) async fn client(fabric: &mut Fabric, command: &Client, out: Out) -> Result<(), Failure> {
    let Client::Add { name, role } = command;
    let wish = ClientWish { name: name.clone(), role: *role };
    let answer = fabric
        .ask(Again::Yes, Duration::ZERO, v1::CreateClientRequest::from(wish), async |mut client, ask| {
            client.create_client(ask).await
        })
        .await?;
    out.note(&note(name));
    out.answer("CreateClientResponse", &answer, || answer.config.clone())
}

fn note(name: &Name) -> String {
    format!(
        "# the configuration of {name}; it holds a private key that is kept nowhere else.\n# save it as \
         ~/.config/foreweave/config.toml, readable by its owner only"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(a: &str, b: &str, network: &str) -> LinkView {
        let named = |text: &str| NodeName(text.parse().expect("a name"));
        LinkView {
            id: LinkId::new(named(a), named(b), network.parse().expect("a name")).expect("two ends"),
            values: LinkValues::default(),
            capacity: None,
            reserved: proto_model::Bandwidth::ZERO,
            usable: true,
            why: String::new(),
            measured: Vec::new(),
            forecasts: Vec::new(),
            load: [None; 2],
            available: None,
            others: proto_model::Bandwidth::ZERO,
            others_expected: false,
        }
    }

    #[test]
    fn without_a_network_the_only_link_is_meant() {
        let named = |text: &str| NodeName(text.parse().expect("a name"));
        let links = [link("a", "b", "wan"), link("a", "c", "lan"), link("c", "a", "wan")];
        let which = |a: &str, b: &str| meant(&named(a), &named(b), &links);
        assert_eq!(which("b", "a"), Ok("wan".parse().expect("a name")));
        assert_eq!(which("b", "c"), Ok("default".parse().expect("a name")), "declared ahead");
        let several = which("a", "c").expect_err("two");
        assert_eq!(several.exit_code(), 2);
        assert!(several.what().contains("2 links, in lan, wan"), "{}", several.what());
        assert!(several.hint().contains("--network"), "{}", several.hint());
    }
}
