//! Each command: arguments in, one or a few requests, an answer out.
mod circuit;
mod explain;
mod files;
mod history;
mod node;
mod packets;
mod policy;
mod replay;
mod resource;
mod rule;
mod sketch;
mod together;
mod watch;

use crate::args::{Cli, Command};
use crate::config::Config;
use crate::fabric::Fabric;
use crate::failure::Failure;
use crate::out::Out;
use std::fmt::Display;

pub async fn command(cli: &Cli, out: Out) -> Result<(), Failure> {
    match &cli.command {
        Command::Completion { shell } => return files::completion(*shell),
        Command::Man { dir } => return files::man_pages(dir, out),
        Command::Replay(wish) => return replay::replay(wish, out),
        Command::Status
        | Command::Node(_)
        | Command::Link(_)
        | Command::Client(_)
        | Command::Resource(_)
        | Command::Discover(_)
        | Command::Circuit(_)
        | Command::Rule(_)
        | Command::Explain(_)
        | Command::Drops(_)
        | Command::Why(_)
        | Command::Trace(_)
        | Command::Capture(_)
        | Command::Watch(_) => {}
    }
    let config = Config::load(cli.global.config.as_deref())?;
    let mut fabric = Fabric::connect(&config, cli.global.timeout.0).await?;
    match &cli.command {
        Command::Completion { .. } | Command::Man { .. } | Command::Replay(_) => Ok(()),
        Command::Status => node::status(&mut fabric, &config.region, out).await,
        Command::Node(command) => node::node(&mut fabric, &config, command, out).await,
        Command::Link(command) => node::link(&mut fabric, command, out).await,
        Command::Client(command) => node::client(&mut fabric, command, out).await,
        Command::Resource(command) => resource::resource(&mut fabric, command, out).await,
        Command::Discover(wish) => resource::discover(&mut fabric, wish, out).await,
        Command::Circuit(command) => circuit::circuit(&mut fabric, command, out).await,
        Command::Rule(command) => rule::rule(&mut fabric, command, out).await,
        Command::Explain(wish) => explain::explain(&mut fabric, wish, out).await,
        Command::Drops(wish) => watch::drops(&mut fabric, wish, out).await,
        Command::Why(wish) => packets::why(&mut fabric, wish, out).await,
        Command::Trace(wish) => packets::trace(&mut fabric, wish, out).await,
        Command::Capture(wish) => packets::capture(&mut fabric, wish, out).await,
        Command::Watch(kinds) => watch::all(&mut fabric, kinds, out).await,
    }
}

/// What the API is asked with.
type Client = proto_wire::v1::fabric_client::FabricClient<tonic::transport::Channel>;

/// An answer as values; one that cannot be read is the controller's fault, and a hint at two versions.
fn understood<T, U>(message: T) -> Result<U, Failure>
where
    U: TryFrom<T>,
    U::Error: Display,
{
    U::try_from(message).map_err(|why| Failure::Refused {
        refusal: proto_model::Refusal::new(
            proto_model::Kind::Internal,
            format!("the controller's answer is not understood: {why}"),
        )
        .hint("controller and command may be of different versions: compare foreweave status and foreweave --version"),
        option: None,
    })
}

fn all_understood<T, U>(messages: Vec<T>) -> Result<Vec<U>, Failure>
where
    U: TryFrom<T>,
    U::Error: Display,
{
    messages.into_iter().map(understood).collect()
}
