//! Who gets in at all: decided before a byte of the message is read, so that strangers cannot fill the memory.
use super::Peer;
use crate::identity;
use proto_model::Name;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::service::Interceptor;
use tonic::transport::server::TlsConnectInfo;
use tonic::{Request, Status};

/// Enrolments at one time, from all hosts together; reading the message counts.
pub(crate) const ENROLMENTS: usize = 64;

/// Lets clients in.
pub(super) fn clients(region: Name) -> impl Interceptor + Clone {
    move |request: Request<()>| identity::client(&request, &region).map(|_actor| vouched(request))
}

/// Lets nodes in.
pub(super) fn nodes(region: Name) -> impl Interceptor + Clone {
    move |request: Request<()>| identity::node(&request, &region).map(|_node| vouched(request))
}

fn vouched(request: Request<()>) -> Request<()> {
    if let Some(connection) = request.extensions().get::<TlsConnectInfo<Peer>>() {
        connection.get_ref().vouch();
    }
    request
}

/// Lets anybody in while there is room; the room is held as long as the request.
pub(super) fn few() -> impl Interceptor + Clone {
    let room = Arc::new(Semaphore::new(ENROLMENTS));
    move |mut request: Request<()>| {
        let permit = Arc::clone(&room).try_acquire_owned().map_err(|_| {
            let what = format!("{ENROLMENTS} hosts enrol right now; try again in a second");
            Status::unavailable(what)
        })?;
        request.extensions_mut().insert(Arc::new(permit));
        Ok(request)
    }
}
