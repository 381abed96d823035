//! Resources, and finding them.
use super::{all_understood, understood};
use crate::args::resource::{Discover, Register, Resource, StatusWord};
use crate::fabric::{Again, Fabric};
use crate::failure::Failure;
use crate::out::Out;
use crate::show;
use proto_model::plan::Discovery;
use proto_model::request::ResourceView;
use proto_model::{FabricAddress, ResourceId};
use proto_wire::v1;
use std::time::Duration;

pub(super) async fn resource(fabric: &mut Fabric, command: &Resource, out: Out) -> Result<(), Failure> {
    match command {
        Resource::Register(wish) => register(fabric, wish, out).await,
        Resource::List => {
            let answer = list(fabric).await?;
            let resources: Vec<_> = all_understood(answer.resources.clone())?;
            out.answer("ListResourcesResponse", &answer, || show::resource::list(&resources))
        }
        Resource::Show { name } => one(&get(fabric, name).await?, out),
        Resource::Status { name, status } => set_status(fabric, name, *status, out).await,
        Resource::Remove { name, force } => {
            let ask = v1::RemoveResourceRequest { resource_id: name.to_string(), force: *force };
            let answer = fabric
                .ask(Again::No, Duration::ZERO, ask, async |mut client, ask| {
                    client.remove_resource(ask).await
                })
                .await?;
            out.answer("Empty", &answer, || format!("{name} is removed"))
        }
    }
}

async fn list(fabric: &mut Fabric) -> Result<v1::ListResourcesResponse, Failure> {
    fabric.read(v1::Empty {}, async |mut client, ask| client.list_resources(ask).await).await
}

async fn get(fabric: &mut Fabric, name: &ResourceId) -> Result<v1::Resource, Failure> {
    let ask = v1::GetResourceRequest { resource_id: name.to_string() };
    fabric.read(ask, async |mut client, ask| client.get_resource(ask).await).await
}

/// Its fabric address, for showing a circuit's end; none when it cannot be had.
pub(super) async fn address(fabric: &mut Fabric, name: &ResourceId) -> Option<FabricAddress> {
    let view: ResourceView = understood(get(fabric, name).await.ok()?).ok()?;
    Some(view.resource.address)
}

fn one(answer: &v1::Resource, out: Out) -> Result<(), Failure> {
    let view = understood(answer.clone())?;
    out.answer("Resource", answer, || show::resource::one(&view, show::now()))
}

async fn register(fabric: &mut Fabric, wish: &Register, out: Out) -> Result<(), Failure> {
    let ask = v1::RegisterResourceRequest {
        resource_id: wish.name.to_string(),
        metadata: Some(wish.metadata().into()),
        intents: wish.intents().into_iter().map(v1::Intent::from).collect(),
        lease: wish.lease.map(|lease| lease.0.as_nanos() as u64),
    };
    let answer = fabric
        .ask(Again::Yes, Duration::ZERO, ask, async |mut client, ask| client.register_resource(ask).await)
        .await?;
    one(&answer, out)
}

async fn set_status(
    fabric: &mut Fabric,
    name: &ResourceId,
    status: StatusWord,
    out: Out,
) -> Result<(), Failure> {
    let status = match status {
        StatusWord::Up => v1::ResourceStatus::Up,
        StatusWord::Degraded => v1::ResourceStatus::Degraded,
        StatusWord::Draining => v1::ResourceStatus::Draining,
        StatusWord::Down => v1::ResourceStatus::Down,
    };
    let ask = v1::UpdateResourceStatusRequest { resource_id: name.to_string(), status: status.into() };
    let answer = fabric
        .ask(Again::Yes, Duration::ZERO, ask, async |mut client, ask| {
            client.update_resource_status(ask).await
        })
        .await?;
    one(&answer, out)
}

pub(super) async fn discover(fabric: &mut Fabric, wish: &Discover, out: Out) -> Result<(), Failure> {
    let ask = v1::DiscoverResourcesRequest {
        source: wish.from.as_ref().map(ToString::to_string).unwrap_or_default(),
        intents: wish.intents().into_iter().map(v1::Intent::from).collect(),
    };
    let answer = fabric.read(ask, async |mut client, ask| client.discover_resources(ask).await).await?;
    let discoveries: Vec<Discovery> = all_understood(answer.discoveries.clone())?;
    out.answer("DiscoverResourcesResponse", &answer, || show::discovery::all(&discoveries))
}
