//! Policies of hosts.
use super::rule::read;
use super::understood;
use crate::args::policy::Policy;
use crate::fabric::{Again, Fabric};
use crate::failure::Failure;
use crate::out::Out;
use crate::show;
use proto_model::NodeName;
use proto_model::request::{PolicyChange, PolicyView};
use proto_model::rule::RuleSpec;
use proto_wire::v1;
use std::time::Duration;

pub(super) async fn policy(fabric: &mut Fabric, command: &Policy, out: Out) -> Result<(), Failure> {
    match command {
        Policy::Show { node } => {
            let answer = fabric.read(of(node), async |mut client, ask| client.get_policy(ask).await).await?;
            print(&answer, out).map(|_| ())
        }
        Policy::Set { node, rules, file, confirm, wait } => {
            let rules = match file {
                Some(file) => read(file, "to have no policy, say foreweave node policy clear")?,
                None => rules.clone(),
            };
            change(fabric, node, rules, confirm.within(), wait.duration(), out).await
        }
        Policy::Clear { node, confirm, wait } => {
            change(fabric, node, Vec::new(), confirm.within(), wait.duration(), out).await
        }
        Policy::Confirm { node } => {
            let call = async |mut client: super::Client, ask| client.confirm_policy(ask).await;
            let answer = fabric.ask(Again::No, Duration::ZERO, of(node), call).await?;
            print(&answer, out).map(|_| ())
        }
        Policy::Rollback { node } => {
            let call = async |mut client: super::Client, ask| client.rollback_policy(ask).await;
            let answer = fabric.ask(Again::No, Duration::ZERO, of(node), call).await?;
            print(&answer, out).map(|_| ())
        }
    }
}

fn of(node: &NodeName) -> v1::NodeRequest {
    v1::NodeRequest { node: node.to_string() }
}

async fn change(
    fabric: &mut Fabric,
    node: &NodeName,
    rules: Vec<RuleSpec>,
    confirm_within: Option<Duration>,
    wait: Duration,
    out: Out,
) -> Result<(), Failure> {
    // An unconfirmed change refuses the next one, also its own repetition.
    let again = if confirm_within.is_some() { Again::No } else { Again::Yes };
    let change = PolicyChange { node: node.clone(), expected_version: None, rules, confirm_within };
    let ask = v1::SetPolicyRequest { wait: wait.as_nanos() as u64, ..change.into() };
    let answer = fabric.ask(again, wait, ask, async |mut client, ask| client.set_policy(ask).await).await?;
    let view = print(&answer, out)?;
    if wait.is_zero() { Ok(()) } else { in_force(&view, wait) }
}

/// Whoever waited for a policy to be in force and has it not shall know.
fn in_force(view: &PolicyView, waited: Duration) -> Result<(), Failure> {
    if !view.pending {
        return Ok(());
    }
    let PolicyView { node, version, .. } = view;
    let waited = show::span(waited);
    let what =
        format!("version {version} of the policy is kept, but {node} has not reported it within {waited}");
    Err(Failure::Pending { what, hint: "foreweave node list shows what the host says".into() })
}

fn print(answer: &v1::PolicyView, out: Out) -> Result<PolicyView, Failure> {
    let view: PolicyView = understood(answer.clone())?;
    out.answer("PolicyView", answer, || show::policy::one(&view, show::now()))?;
    Ok(view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_is_not_in_force_in_time_is_exit_code_5_and_names_the_host() {
        let node = "edge-b".parse().expect("a name");
        let mut view = PolicyView { node, version: 3, rules: Vec::new(), pending: false, confirm_by: None };
        assert_eq!(in_force(&view, Duration::from_secs(10)), Ok(()));
        view.pending = true;
        let failure = in_force(&view, Duration::from_secs(10)).expect_err("pending");
        assert_eq!(failure.exit_code(), 5);
        assert!(failure.what().contains("version 3") && failure.what().contains("edge-b"));
    }
}
