//! Which client may ask what.
use proto_model::access::Actor;
use proto_model::request::Request;
use proto_model::{Kind, Refusal};

/// Refuses a request for which the client's role is too small.
pub fn check(actor: &Actor, request: &Request) -> Result<(), Refusal> {
    let need = request.role();
    if actor.role >= need {
        return Ok(());
    }
    let what = format!("this needs the role {need}, {} is {}", actor.name, actor.role);
    Err(Refusal::new(Kind::Forbidden, what)
        .hint(format!("an admin makes such a client: foreweave client add NAME --role {need}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::access::Role;

    #[test]
    fn a_viewer_cannot_remove_and_is_told_what_it_takes() {
        let actor = |role| Actor { name: "eve".parse().expect("name"), role };
        let request = Request::RemoveResource { id: "web".parse().expect("name"), force: true };
        let refusal = check(&actor(Role::Viewer), &request).expect_err("refused");
        assert_eq!(refusal.kind, Kind::Forbidden);
        assert!(refusal.what.contains("operator"), "{refusal}");
        assert_eq!(check(&actor(Role::Operator), &request), Ok(()));
        assert_eq!(check(&actor(Role::Viewer), &Request::Status), Ok(()));
    }
}
