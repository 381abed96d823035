//! Changes the rules of a circuit: a whole new list or a refusal that names the rules that clash.
use proto_model::request::RuleEdit;
use proto_model::rule::{MAX_RULES, Opener, Ports, Prefix, Protocol, Rule, RuleSpec};
use proto_model::{Refusal, Timestamp, Until};

/// A circuit's rules and the next number to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    pub rules: Vec<Rule>,
    pub next: u32,
}

/// The rules of a new circuit.
pub fn first(specs: &[RuleSpec], now: Timestamp) -> Result<Edited, Refusal> {
    edit(&[], 1, &RuleEdit::Replace { rules: specs.to_vec() }, now)
}

/// The list after the edit; checked as a whole. Spans become times.
pub fn edit(rules: &[Rule], next: u32, edit: &RuleEdit, now: Timestamp) -> Result<Edited, Refusal> {
    let edited = match edit {
        RuleEdit::Add { rules: specs, before } => add(rules, next, &timed(specs, now)?, *before)?,
        RuleEdit::Remove { ids } => Edited { rules: remove(rules, ids)?, next },
        RuleEdit::Replace { rules: specs } => replace(rules, next, &timed(specs, now)?)?,
    };
    if edited.rules.len() > MAX_RULES {
        let what = format!("there would be {} rules, {MAX_RULES} are allowed", edited.rules.len());
        return Err(Refusal::invalid("rules", what).hint("one rule can cover a range of ports and a prefix"));
    }
    check(&edited.rules)?;
    Ok(edited)
}

fn timed(specs: &[RuleSpec], now: Timestamp) -> Result<Vec<RuleSpec>, Refusal> {
    let resolve = |spec: &RuleSpec| {
        let until = spec.until.map(|until| until.resolve(now).map(Until::At)).transpose();
        let until = until.map_err(|why| Refusal::invalid("rules", format!("rule \"{spec}\": {why}")));
        Ok(RuleSpec { until: until?, ..spec.clone() })
    };
    specs.iter().map(resolve).collect()
}

fn add(rules: &[Rule], mut next: u32, specs: &[RuleSpec], before: Option<u32>) -> Result<Edited, Refusal> {
    if specs.is_empty() {
        return Err(Refusal::invalid("rules", "there is no rule to add"));
    }
    let at = match before {
        None => rules.len(),
        Some(id) => position(rules, id).ok_or_else(|| unknown("before", rules, id))?,
    };
    let mut edited = rules.to_vec();
    edited.splice(at..at, specs.iter().map(|spec| number(spec, &mut next)));
    Ok(Edited { rules: edited, next })
}

fn remove(rules: &[Rule], ids: &[u32]) -> Result<Vec<Rule>, Refusal> {
    if ids.is_empty() {
        return Err(Refusal::invalid("ids", "there is no rule to remove"));
    }
    if let Some(id) = ids.iter().find(|id| position(rules, **id).is_none()) {
        return Err(unknown("ids", rules, *id));
    }
    Ok(rules.iter().filter(|rule| !ids.contains(&rule.id)).cloned().collect())
}

fn replace(rules: &[Rule], mut next: u32, specs: &[RuleSpec]) -> Result<Edited, Refusal> {
    let mut kept: Vec<&Rule> = rules.iter().collect();
    let mut same = |spec: &RuleSpec| -> Option<Rule> {
        let at = kept.iter().position(|rule| rule.spec == *spec)?;
        Some(kept.swap_remove(at).clone())
    };
    let rules = specs.iter().map(|spec| same(spec).unwrap_or_else(|| number(spec, &mut next))).collect();
    Ok(Edited { rules, next })
}

fn number(spec: &RuleSpec, next: &mut u32) -> Rule {
    let id = *next;
    *next = next.saturating_add(1);
    Rule { id, spec: spec.clone() }
}

fn position(rules: &[Rule], id: u32) -> Option<usize> {
    rules.iter().position(|rule| rule.id == id)
}

fn unknown(field: &str, rules: &[Rule], id: u32) -> Refusal {
    let ids: Vec<_> = rules.iter().map(|rule| rule.id.to_string()).collect();
    let hint =
        if ids.is_empty() { "it has no rules".into() } else { format!("it has rules {}", ids.join(", ")) };
    Refusal { field: field.into(), ..Refusal::not_found(format!("the circuit has no rule {id}")).hint(hint) }
}

/// No rule that cannot mean anything, and none that can never match.
fn check(rules: &[Rule]) -> Result<(), Refusal> {
    for (at, rule) in rules.iter().enumerate() {
        if let Err(why) = rule.spec.check() {
            return Err(Refusal::invalid("rules", format!("rule {} \"{}\": {why}", rule.id, rule.spec)));
        }
        if let Some(earlier) = rules[..at].iter().find(|earlier| covers(&earlier.spec, &rule.spec)) {
            return Err(clash(earlier, rule));
        }
    }
    Ok(())
}

fn clash(earlier: &Rule, rule: &Rule) -> Refusal {
    let names = format!("rule {} \"{}\" and rule {} \"{}\"", earlier.id, earlier.spec, rule.id, rule.spec);
    let same_match = covers(&rule.spec, &earlier.spec);
    let what = match (same_match, earlier.spec.action == rule.spec.action) {
        (true, true) => format!("{names} are the same"),
        (true, false) => format!("{names} contradict each other: they match the same packets"),
        (false, _) => {
            format!(
                "{names}: the second can never match, because the first matches all of its packets before it"
            )
        }
    };
    Refusal::invalid("rules", what).hint("remove one of them, or put the narrower one first")
}

/// Every packet that `narrow` matches, `wide` matches too.
fn covers(wide: &RuleSpec, narrow: &RuleSpec) -> bool {
    covers_opener(wide.opener, narrow.opener)
        && (wide.protocol == Protocol::Any || wide.protocol == narrow.protocol)
        && covers_ports(wide.ports, narrow.ports)
        && covers_time(wide.until, narrow.until)
        && covers_prefix(wide, narrow)
}

fn covers_opener(wide: Opener, narrow: Opener) -> bool {
    wide == Opener::Both || wide == narrow
}

/// One that ends earlier leaves the rest of the time to the other.
fn covers_time(wide: Option<Until>, narrow: Option<Until>) -> bool {
    wide.is_none_or(|wide| narrow.is_some_and(|narrow| wide >= narrow))
}

fn covers_ports(wide: Ports, narrow: Ports) -> bool {
    wide.from <= narrow.from && narrow.to <= wide.to
}

/// A rule with one prefix is of that prefix's family on both sides.
fn covers_prefix(wide: &RuleSpec, narrow: &RuleSpec) -> bool {
    let every = |prefix: Prefix, other: Option<Prefix>, beside: Option<Prefix>| match other {
        Some(other) => prefix.length() <= other.length() && prefix.contains(other.address()),
        None => {
            let same_family =
                beside.is_some_and(|beside| beside.address().is_ipv4() == prefix.address().is_ipv4());
            same_family && prefix.length() == 0
        }
    };
    wide.source.is_none_or(|prefix| every(prefix, narrow.source, narrow.destination))
        && wide.destination.is_none_or(|prefix| every(prefix, narrow.destination, narrow.source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto_model::rule::Action;
    use std::collections::BTreeSet;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn specs(texts: &[&str]) -> Vec<RuleSpec> {
        texts.iter().map(|text| text.parse().expect("a rule")).collect()
    }

    #[test]
    fn replacing_keeps_the_numbers_of_equal_rules() {
        let before = first(&specs(&["allow tcp/80", "allow tcp/443"]), NOW).expect("fine");
        let change = RuleEdit::Replace { rules: specs(&["allow tcp/443", "allow udp/53"]) };
        let after = edit(&before.rules, before.next, &change, NOW).expect("fine");
        assert_eq!(after.rules.iter().map(|rule| rule.id).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(after.next, 4);
    }

    #[test]
    fn a_rule_is_inserted_before_the_named_one() {
        let before = first(&specs(&["allow tcp/80", "allow udp/53"]), NOW).expect("fine");
        let change = RuleEdit::Add { rules: specs(&["deny tcp/80 from 100.64.0.7"]), before: Some(1) };
        let after = edit(&before.rules, before.next, &change, NOW).expect("fine");
        assert_eq!(after.rules.iter().map(|rule| rule.id).collect::<Vec<_>>(), [3, 1, 2]);
    }

    #[test]
    fn rules_that_clash_are_both_named() {
        for (texts, says) in [
            (["allow tcp/80", "allow tcp/80"], "are the same"),
            (["allow tcp/80", "deny tcp/80"], "contradict each other"),
            (["deny tcp", "allow tcp/80"], "can never match"),
            (["allow any both", "deny udp/53 reverse"], "can never match"),
            (["allow tcp from 10.0.0.0/8", "allow tcp/5 from 10.2.0.0/16"], "can never match"),
            (["allow any from 0.0.0.0/0", "allow tcp to 10.0.0.0/8"], "can never match"),
        ] {
            let refusal = first(&specs(&texts), NOW).expect_err(texts[1]).to_string();
            for part in [says, "rule 1", "rule 2"] {
                assert!(refusal.contains(part), "{refusal}");
            }
        }
    }

    #[test]
    fn a_narrow_exception_before_a_wide_rule_is_fine() {
        for texts in [
            ["deny tcp/22", "allow tcp"],
            ["allow tcp/80", "allow tcp/80 reverse"],
            ["allow tcp from 10.0.0.0/8", "allow tcp from fd00::/8"],
            ["allow any from 0.0.0.0/0", "allow tcp"],
        ] {
            assert!(first(&specs(&texts), NOW).is_ok(), "{texts:?}");
        }
    }

    #[test]
    fn a_rule_that_ends_leaves_the_rest_of_the_time_to_the_next_one() {
        assert!(first(&specs(&["deny tcp/22 for 30m", "allow tcp/22"]), NOW).is_ok());
        let refusal = first(&specs(&["allow tcp", "allow tcp/22 for 30m"]), NOW).expect_err("dead");
        assert!(refusal.what.contains("can never match"), "{refusal}");
        let past = first(&specs(&["allow tcp/22 until 1970-01-01T00:00:00Z"]), NOW).expect_err("past");
        assert!(past.what.contains("1.0 s in the past"), "{past}");
        let timed = first(&specs(&["allow tcp/22 for 30m"]), NOW).expect("a rule");
        assert_eq!(timed.rules[0].spec.to_string(), "allow tcp/22 until 1970-01-01T00:30:01Z");
    }

    #[test]
    fn unknown_rules_and_empty_edits_are_refused() {
        let before = first(&specs(&["allow tcp/80"]), NOW).expect("fine");
        for change in [
            RuleEdit::Remove { ids: vec![1, 9] },
            RuleEdit::Remove { ids: vec![] },
            RuleEdit::Add { rules: vec![], before: None },
            RuleEdit::Add { rules: specs(&["allow udp"]), before: Some(9) },
        ] {
            assert!(edit(&before.rules, before.next, &change, NOW).is_err(), "{change:?}");
        }
    }

    #[test]
    fn the_257th_rule_is_refused() {
        let many: Vec<_> =
            (1..=257).map(|port| format!("allow tcp/{port}").parse().expect("a rule")).collect();
        assert!(first(&many[..256], NOW).is_ok());
        assert!(first(&many, NOW).expect_err("too many").what.contains("257"));
    }

    prop_compose! {
        fn a_spec()(deny in any::<bool>(), opener in 0..3, protocol in 0..3, from in 0u16..6, width in 0u16..6) -> RuleSpec {
            RuleSpec {
                action: if deny { Action::Deny } else { Action::Allow },
                opener: [Opener::Forward, Opener::Reverse, Opener::Both][opener as usize],
                protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Icmp][protocol as usize],
                ports: Ports { from, to: from + width },
                source: None,
                destination: None,
                until: None,
            }
        }
    }

    proptest! {
        #[test]
        fn numbers_are_never_given_twice_and_no_accepted_rule_is_dead(
            edits in proptest::collection::vec((0..3, proptest::collection::vec(a_spec(), 1..4), any::<prop::sample::Index>()), 1..30)
        ) {
            let mut state = Edited { rules: Vec::new(), next: 1 };
            let mut given = BTreeSet::new();
            for (kind, specs, which) in edits {
                let some_id = (!state.rules.is_empty()).then(|| state.rules[which.index(state.rules.len())].id);
                let change = match kind {
                    0 => RuleEdit::Add { rules: specs, before: some_id },
                    1 => RuleEdit::Remove { ids: some_id.into_iter().collect() },
                    _ => RuleEdit::Replace { rules: specs },
                };
                let Ok(after) = edit(&state.rules, state.next, &change, NOW) else { continue };
                for rule in &after.rules {
                    let known = state.rules.iter().any(|old| old == rule);
                    prop_assert!(known || given.insert(rule.id), "{} twice", rule.id);
                    prop_assert!(rule.id < after.next);
                }
                for (at, rule) in after.rules.iter().enumerate() {
                    prop_assert!(!after.rules[..at].iter().any(|earlier| covers(&earlier.spec, &rule.spec)));
                }
                state = after;
            }
        }
    }
}
