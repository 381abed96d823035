//! Firewall rules.
use super::{circuit, understood};
use crate::args::rule::Rule;
use crate::fabric::{Again, Fabric};
use crate::failure::Failure;
use crate::out::Out;
use crate::{show, text};
use proto_model::Timestamp;
use proto_model::request::{CircuitRef, RuleChange, RuleEdit};
use proto_model::rule::{RuleSet, RuleSpec};
use proto_wire::v1;
use std::path::Path;
use std::time::Duration;

pub(super) async fn rule(fabric: &mut Fabric, command: &Rule, out: Out) -> Result<(), Failure> {
    match command {
        Rule::List { circuit } => {
            let view = circuit::get(fabric, circuit).await?;
            let answer = v1::RuleSetView {
                circuit: view.id,
                version: view.rules_version,
                rules: view.rules,
                pending: view.rules_pending,
                confirm_by: view.confirm_by,
            };
            print(circuit, &answer, out)
        }
        Rule::Add { circuit, rules, before, confirm, wait } => {
            let edit = RuleEdit::Add { rules: rules.clone(), before: *before };
            change(fabric, circuit, edit, confirm.within(), wait.duration(), out).await
        }
        Rule::Remove { circuit, ids, confirm, wait } => {
            let edit = RuleEdit::Remove { ids: ids.clone() };
            change(fabric, circuit, edit, confirm.within(), wait.duration(), out).await
        }
        Rule::Replace { circuit, rules, file, none: _, confirm, wait } => {
            let rules = match file {
                Some(file) => read(file, "to leave no rule at all, say --none")?,
                None => rules.clone(),
            };
            let edit = RuleEdit::Replace { rules };
            change(fabric, circuit, edit, confirm.within(), wait.duration(), out).await
        }
        Rule::Confirm { circuit } => {
            let ask = v1::CircuitRequest { circuit: circuit.to_string() };
            let answer = fabric
                .ask(Again::No, Duration::ZERO, ask, async |mut client, ask| client.confirm_rules(ask).await)
                .await?;
            print(circuit, &answer, out)
        }
        Rule::Rollback { circuit } => {
            let ask = v1::CircuitRequest { circuit: circuit.to_string() };
            let answer = fabric
                .ask(Again::No, Duration::ZERO, ask, async |mut client, ask| client.rollback_rules(ask).await)
                .await?;
            print(circuit, &answer, out)
        }
    }
}

/// Not repeated when the connection breaks: the rules might be added twice.
async fn change(
    fabric: &mut Fabric,
    circuit: &CircuitRef,
    edit: RuleEdit,
    confirm_within: Option<Duration>,
    wait: Duration,
    out: Out,
) -> Result<(), Failure> {
    let again = match edit {
        RuleEdit::Add { .. } | RuleEdit::Remove { .. } => Again::No,
        // An unconfirmed change refuses the next one, also its own repetition.
        RuleEdit::Replace { .. } if confirm_within.is_some() => Again::No,
        RuleEdit::Replace { .. } => Again::Yes,
    };
    let change = RuleChange { circuit: circuit.clone(), expected_version: None, edit, confirm_within };
    let ask = v1::UpdateFirewallRuleRequest { wait: wait.as_nanos() as u64, ..change.into() };
    let answer =
        fabric.ask(again, wait, ask, async |mut client, ask| client.update_firewall_rule(ask).await).await?;
    print(circuit, &answer, out)?;
    if wait.is_zero() { Ok(()) } else { in_force(circuit, &answer, wait) }
}

/// Whoever waited for rules to be in force and has them not everywhere shall know.
fn in_force(circuit: &CircuitRef, answer: &v1::RuleSetView, waited: Duration) -> Result<(), Failure> {
    if answer.pending.is_empty() {
        return Ok(());
    }
    let what = format!(
        "version {} of the rules is kept, but not in force after {} on {}",
        answer.version,
        show::span(waited),
        show::words(&answer.pending)
    );
    let hint = format!("foreweave circuit show {circuit} and foreweave node list show what the hosts say");
    Err(Failure::Pending { what, hint })
}

fn print(circuit: &CircuitRef, answer: &v1::RuleSetView, out: Out) -> Result<(), Failure> {
    let set: RuleSet = understood(answer.clone())?;
    out.answer("RuleSetView", answer, || {
        let set = show::rule::set(&circuit.to_string(), set.version, &set.rules, &answer.pending);
        let confirm_by = (answer.confirm_by != 0).then_some(Timestamp(answer.confirm_by));
        let confirm = "foreweave rule confirm";
        format!("{set}{}", show::rule::unconfirmed(&confirm, circuit, confirm_by, show::now()))
    })
}

/// `none`: what to say instead of a file without rules.
pub(super) fn read(file: &Path, none: &str) -> Result<Vec<RuleSpec>, Failure> {
    let content = super::files::text(file)?;
    let rules = text::rules(&content).map_err(|why| Failure::usage(format!("{}, {why}", file.display())))?;
    if rules.is_empty() {
        return Err(Failure::Usage { what: format!("{} has no rules", file.display()), hint: none.into() });
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_are_not_in_force_in_time_are_exit_code_5_and_name_the_hosts() {
        let circuit: CircuitRef = "web-db".parse().expect("a name");
        let mut answer =
            v1::RuleSetView { circuit: 1, version: 3, rules: Vec::new(), pending: Vec::new(), confirm_by: 0 };
        assert_eq!(in_force(&circuit, &answer, Duration::from_secs(10)), Ok(()));
        answer.pending = vec!["edge-b".into()];
        let failure = in_force(&circuit, &answer, Duration::from_secs(10)).expect_err("pending");
        assert_eq!(failure.exit_code(), 5);
        assert!(
            failure.what().contains("version 3") && failure.what().contains("edge-b"),
            "{}",
            failure.what()
        );
    }

    #[test]
    fn a_file_without_rules_does_not_close_a_circuit_by_mistake() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("rules");
        std::fs::write(&file, "# nothing\n").expect("write");
        let read = |file: &Path| read(file, "say --none");
        let failure = read(&file).expect_err("no rules");
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.hint().contains("--none"));
        std::fs::write(&file, "allow tcp/1\ndeny x\n").expect("write");
        assert!(read(&file).expect_err("x").what().contains("line 2"));
        assert!(read(&dir.path().join("absent")).expect_err("absent").what().contains("absent"));
    }
}
