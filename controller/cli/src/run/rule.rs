//! Firewall rules.
use super::{circuit, understood};
use crate::args::rule::Rule;
use crate::fabric::{Again, Fabric};
use crate::failure::Failure;
use crate::out::Out;
use crate::{show, text};
use proto_model::request::{CircuitRef, RuleChange, RuleEdit};
use proto_model::rule::{RuleSet, RuleSpec};
use proto_wire::v1;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

pub(super) async fn rule(fabric: &mut Fabric, command: &Rule, out: Out) -> Result<(), Failure> {
    match command {
        Rule::List { circuit } => {
            let view = circuit::get(fabric, circuit).await?;
            let answer = v1::RuleSetView { circuit: view.id, version: view.rules_version, rules: view.rules };
            print(circuit, &answer, out)
        }
        Rule::Add { circuit, rules, before } => {
            change(fabric, circuit, RuleEdit::Add { rules: rules.clone(), before: *before }, out).await
        }
        Rule::Remove { circuit, ids } => {
            change(fabric, circuit, RuleEdit::Remove { ids: ids.clone() }, out).await
        }
        Rule::Replace { circuit, rules, file, none: _ } => {
            let rules = match file {
                Some(file) => read(file)?,
                None => rules.clone(),
            };
            change(fabric, circuit, RuleEdit::Replace { rules }, out).await
        }
    }
}

/// Not repeated when the connection breaks: the rules might be added twice.
async fn change(fabric: &mut Fabric, circuit: &CircuitRef, edit: RuleEdit, out: Out) -> Result<(), Failure> {
    let again = match edit {
        RuleEdit::Add { .. } | RuleEdit::Remove { .. } => Again::No,
        RuleEdit::Replace { .. } => Again::Yes,
    };
    let change = RuleChange { circuit: circuit.clone(), expected_version: None, edit };
    let ask = v1::UpdateFirewallRuleRequest::from(change);
    let answer = fabric
        .ask(again, Duration::ZERO, ask, async |mut client, ask| client.update_firewall_rule(ask).await)
        .await?;
    print(circuit, &answer, out)
}

fn print(circuit: &CircuitRef, answer: &v1::RuleSetView, out: Out) -> Result<(), Failure> {
    let set: RuleSet = understood(answer.clone())?;
    out.answer("RuleSetView", answer, || show::rule::set(&circuit.to_string(), set.version, &set.rules))
}

fn read(file: &Path) -> Result<Vec<RuleSpec>, Failure> {
    let mut content = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut content)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut content))
    };
    read.map_err(|error| Failure::usage(format!("{} cannot be read: {error}", file.display())))?;
    let rules = text::rules(&content).map_err(|why| Failure::usage(format!("{}, {why}", file.display())))?;
    if rules.is_empty() {
        return Err(Failure::Usage {
            what: format!("{} has no rules", file.display()),
            hint: "to leave no rule at all, say --none".into(),
        });
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_rules_does_not_close_a_circuit_by_mistake() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("rules");
        std::fs::write(&file, "# nothing\n").expect("write");
        let failure = read(&file).expect_err("no rules");
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.hint().contains("--none"));
        std::fs::write(&file, "allow tcp/1\ndeny x\n").expect("write");
        assert!(read(&file).expect_err("x").what().contains("line 2"));
        assert!(read(&dir.path().join("absent")).expect_err("absent").what().contains("absent"));
    }
}
