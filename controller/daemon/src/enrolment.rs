//! How a new host joins: a one-time token and a signing request for a certificate.
use crate::agents::certificate;
use crate::authority::{Authority, key_of_request};
use crate::engine::Handle;
use crate::token::Token;
use proto_model::Kind;
use proto_model::access::{Actor, Fingerprint, Role};
use proto_model::request::Request as Ask;
use proto_wire::convert::requests::Enrolling;
use proto_wire::convert::status_of;
use proto_wire::v1;
use std::sync::Arc;
use tonic::{Request, Response, Status};

#[derive(Clone, Debug)]
pub(crate) struct Enrolment {
    engine: Handle,
    authority: Arc<Authority>,
}

impl Enrolment {
    pub(crate) fn new(engine: Handle, authority: Arc<Authority>) -> Self {
        Self { engine, authority }
    }
}

#[tonic::async_trait]
impl v1::enrolment_server::Enrolment for Enrolment {
    /// What is malformed must not use the token up; a signature, which costs time, is checked with a good token only.
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        // Its room among those who enrol is held to the end.
        let (_, _room, message) = request.into_parts();
        let Enrolling { token, signing_request } = message.try_into()?;
        let token = Token::parse(&token).map_err(|why| Status::invalid_argument(format!("token: {why}")))?;
        let malformed = |why: anyhow::Error| Status::invalid_argument(format!("signing_request: {why:#}"));
        let claimed = key_of_request(&signing_request).map_err(malformed)?;
        let region = self.authority.region();
        if token.region != *region {
            let what =
                format!("the token is for the region {}, this controller is of {region}", token.region);
            return Err(Status::unauthenticated(what));
        }
        self.consume(&token, claimed).await?;
        let key = self.authority.check_request(&signing_request).map_err(malformed)?;
        tracing::info!(node = %token.node, "enrolled");
        Ok(Response::new(certificate(&self.authority, &token.node, &key)?))
    }
}

impl Enrolment {
    async fn consume(&self, token: &Token, key: Fingerprint) -> Result<(), Status> {
        let actor = Actor { name: token.node.0.clone(), role: Role::Viewer };
        let ask = Ask::Enrol { node: token.node.clone(), hash: token.hash(), key };
        let Err(refusal) = self.engine.ask(actor, ask).await else { return Ok(()) };
        tracing::warn!(node = %token.node, why = %refusal, "enrolment refused");
        match refusal.kind {
            Kind::Unavailable | Kind::Internal | Kind::Exhausted => Err(status_of(&refusal)),
            Kind::Invalid | Kind::NotFound | Kind::AlreadyExists | Kind::Precondition | Kind::Forbidden => {
                Err(Status::unauthenticated(refusal.to_string()))
            }
        }
    }
}
