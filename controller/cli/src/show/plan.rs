//! A decision as people read it: every candidate with the terms of its cost, and what would change where.
use super::table::{self, Tone, cell, indented, plain};
use super::{bounds, insight, or_dash};
use proto_model::plan::{Candidate, Feasible, HostChange, Plan, Term, Weights};

pub fn plan(plan: &Plan) -> String {
    let parts = [
        format!("asked for  {}\n", bounds(&plan.bounds)),
        format!("weights    {}\n", weights(&plan.weights)),
        verdict(plan),
        second_way(plan),
        plan.warnings.iter().map(|warning| format!("warning    {warning}\n")).collect(),
        candidates(plan),
        rejected(plan),
        plan.choice.as_ref().map(super::choice::choice).unwrap_or_default(),
        insight::insight(plan),
        hosts(&plan.hosts),
    ];
    parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join("")
}

fn weights(weights: &Weights) -> String {
    format!(
        "rtt {}/ms · hop {} · load {}×share² · loss {}/% · price {}/($/GB) · unknown link {}",
        weights.rtt, weights.hop, weights.load, weights.loss, weights.price, weights.unknown
    )
}

fn verdict(plan: &Plan) -> String {
    match plan.chosen.and_then(|index| plan.candidates.get(index)) {
        Some(chosen) => {
            format!("chosen     {}\ncost       {:.2} = {}\n", chosen.path, chosen.cost, explained(chosen))
        }
        None => format!(
            "refused    {}\n{}",
            plan.refused.as_deref().unwrap_or("no path satisfies the bounds"),
            plan.feasible.as_ref().map(feasible).unwrap_or_default()
        ),
    }
}

/// Of a dry run only; a decision that is kept does not say.
fn second_way(plan: &Plan) -> String {
    let cost = |backup: &Candidate| format!("backup     {}\n           cost {:.2}", backup.path, backup.cost);
    let parts =
        [plan.backup.as_ref().map(cost), Some(plan.protection.clone()).filter(|text| !text.is_empty())];
    match parts {
        [None, None] => String::new(),
        [None, Some(why)] => format!("backup     none: {why}\n"),
        [Some(backup), None] => format!("{backup}\n"),
        [Some(backup), Some(remark)] => format!("{backup}; {remark}\n"),
    }
}

fn feasible(feasible: &Feasible) -> String {
    let mut lines = feasible.sentences.clone();
    if lines.is_empty() {
        let bandwidth = feasible.bandwidth.map(|most| format!("up to {most} with the other bounds as asked"));
        let rtt = feasible.rtt.map(|least| format!("RTT from {least} with the other bounds as asked"));
        let price = feasible.price.map(|lowest| format!("from {lowest} with the other bounds as asked"));
        lines.extend([bandwidth, rtt, price].into_iter().flatten());
    }
    if lines.is_empty() {
        return String::new();
    }
    format!("feasible\n{}", indented(&lines.join("\n")))
}

fn candidates(plan: &Plan) -> String {
    if plan.candidates.is_empty() {
        return String::new();
    }
    let row = |(index, candidate): (usize, &Candidate)| {
        let (mark, tone) = if plan.chosen == Some(index) {
            ("chosen", Tone::Good)
        } else if candidate.rejected.is_empty() {
            ("", Tone::Plain)
        } else {
            ("rejected", Tone::Faint)
        };
        let offer = &candidate.offer;
        vec![
            cell(index + 1, tone),
            cell(&candidate.path, tone),
            plain(or_dash(offer.rtt)),
            plain(or_dash(offer.free)),
            plain(offer.loss),
            plain(offer.price),
            plain(if offer.encrypted { "yes" } else { "no" }),
            plain(offer.mtu),
            cell(format!("{:.2}", candidate.cost), tone),
            plain(terms(candidate)),
            cell(mark, tone),
        ]
    };
    let columns = ["#", "PATH", "RTT", "FREE", "LOSS", "PRICE", "ENCRYPTED", "MTU", "COST", "= TERMS", ""];
    let more = match plan.omitted {
        0 => String::new(),
        omitted => format!("{omitted} more were looked at and not kept\n"),
    };
    format!("\n{}{more}", table::of(&columns, plan.candidates.iter().enumerate().map(row), ""))
}

/// `8.00 rtt + 1.00 hop`: the terms that cost something; the other columns have the quantities.
fn terms(candidate: &Candidate) -> String {
    let costly = candidate.terms.iter().filter(|term| term.cost != 0.0);
    costly.map(|term| format!("{:.2} {}", term.cost, term.name)).collect::<Vec<_>>().join(" + ")
}

/// `8.00 rtt (8 ms) + 1.00 hop (2 hops)`: every term with its quantity.
fn explained(candidate: &Candidate) -> String {
    let term = |term: &Term| format!("{:.2} {} ({})", term.cost, term.name, term.quantity);
    candidate.terms.iter().map(term).collect::<Vec<_>>().join(" + ")
}

fn rejected(plan: &Plan) -> String {
    let lines: Vec<String> = plan
        .candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| !candidate.rejected.is_empty())
        .map(|(index, candidate)| {
            format!("{}  {}: {}", index + 1, candidate.path, candidate.rejected.join("; "))
        })
        .collect();
    if lines.is_empty() { String::new() } else { format!("\nrejected\n{}", indented(&lines.join("\n"))) }
}

fn hosts(hosts: &[HostChange]) -> String {
    if hosts.is_empty() {
        return String::new();
    }
    let one = |host: &HostChange| format!("{}\n{}", host.node, indented(&host.changes.join("\n")));
    format!("\nchanges on each host\n{}", indented(&hosts.iter().map(one).collect::<String>()))
}
