//! Tokens for hosts and certificates for clients: what the authority gives out.
use super::{Answer, Api, odd};
use crate::token::{self, Token};
use proto_model::Name;
use proto_model::access::{Actor, Role};
use proto_model::request::Request as Ask;
use proto_wire::convert::requests::{ClientWish, TokenWish};
use proto_wire::v1;
use serde::Serialize;
use tonic::Status;

/// How long a client's certificate is good for.
const YEARS: u8 = 1;

/// What `foreweave --config FILE` reads.
#[derive(Serialize)]
pub(crate) struct ClientFile<'a> {
    region: &'a str,
    controllers: &'a [String],
    authority: &'a str,
    certificate: &'a str,
    key: &'a str,
}

/// The client file of a new client.
pub(crate) fn client_file(
    authority: &crate::authority::Authority,
    controllers: &[String],
    name: &Name,
    role: Role,
    years: u8,
) -> anyhow::Result<String> {
    let credentials = authority.client(name, role, years)?;
    let file = ClientFile {
        region: authority.region().as_str(),
        controllers,
        authority: authority.pem(),
        certificate: &credentials.certificate,
        key: &credentials.key,
    };
    let head =
        format!("# Client {name} with the role {role}. Whoever has this file is {name}: keep it private.\n");
    Ok(head + &toml::to_string_pretty(&file)?)
}

impl Api {
    /// The secret exists in the token only; the core is told its hash.
    pub(super) async fn token(
        &self,
        actor: Actor,
        wish: TokenWish,
    ) -> Result<v1::CreateTokenResponse, Status> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|why| Status::internal(format!("no random numbers: {why}")))?;
        let expires = self.engine.now().plus(wish.lifetime);
        let ask = Ask::CreateToken { node: wish.node.clone(), hash: token::hash(&secret), expires };
        match self.ask(actor, ask).await? {
            Answer::Done => {
                let (region, controllers) = (self.authority.region().clone(), self.advertise.to_vec());
                let token = Token::new(region, wish.node, secret, self.authority.der(), controllers);
                Ok(v1::CreateTokenResponse { token: token.to_string(), expires: expires.0 })
            }
            other => Err(odd(&other)),
        }
    }

    pub(super) fn client(
        &self,
        actor: &Actor,
        wish: &ClientWish,
    ) -> Result<v1::CreateClientResponse, Status> {
        let file = client_file(&self.authority, &self.advertise, &wish.name, wish.role, YEARS);
        let config = file.map_err(|why| {
            tracing::error!(why = format!("{why:#}"), "cannot make a client");
            Status::internal("the client could not be made; the controller's log says why")
        })?;
        tracing::info!(client = %wish.name, role = %wish.role, by = %actor.name, "client made");
        Ok(v1::CreateClientResponse { config })
    }
}
