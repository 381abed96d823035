//! Circuits that are asked for together, as a file: one per line, in the words of the options.
use crate::text;
use proto_model::Until;
use proto_model::request::CircuitRequest;
use proto_model::rule::RuleSpec;
use proto_model::together::MOST;
use std::str::FromStr;

const WORDS: &str = "name, latency, loss, bandwidth, limit, encrypted, encrypted-links, max-price, max-hops, via, avoid, \
                     require-tag, avoid-tag, priority, path, allow, deny, rule, start, for, until";

/// `web db bandwidth=200mbit priority=3 allow=tcp/443 rule="allow udp/53 both"`; `#` starts a comment. An error names the line.
pub(crate) fn circuits(text: &str) -> Result<Vec<CircuitRequest>, String> {
    let mut circuits = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let at = |why: String| format!("line {}: {why}", number + 1);
        let words = split(line).map_err(at)?;
        if !words.is_empty() {
            circuits.push(circuit(&words).map_err(at)?);
        }
    }
    match circuits.len() {
        0 => Err(format!(
            "it has no circuits; write one per line, like web db bandwidth=200mbit priority=3 ({WORDS})"
        )),
        more if more > MOST => Err(format!("it has {more} circuits, at most {MOST} are placed together")),
        _ => Ok(circuits),
    }
}

/// Words between spaces; quotes keep spaces together.
fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for letter in line.chars() {
        match letter {
            '"' => (quoted, begun) = (!quoted, true),
            '#' if !quoted => break,
            space if space.is_whitespace() && !quoted => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            other => {
                word.push(other);
                begun = true;
            }
        }
    }
    if quoted {
        return Err("a quote is not closed".into());
    }
    if begun {
        words.push(word);
    }
    Ok(words)
}

fn circuit(words: &[String]) -> Result<CircuitRequest, String> {
    let [source, destination, options @ ..] = words else {
        return Err(format!("\"{}\" is not a source and a destination", words.join(" ")));
    };
    let mut circuit = CircuitRequest {
        name: None,
        source: end(source)?,
        destination: end(destination)?,
        bounds: Default::default(),
        priority: 0,
        pinned_path: None,
        rules: Vec::new(),
        until: None,
        starts: None,
    };
    for word in options {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        option(&mut circuit, key, value)?;
    }
    Ok(circuit)
}

fn end<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|why| format!("\"{text}\" is not a resource: {why}"))
}

fn option(circuit: &mut CircuitRequest, key: &str, value: &str) -> Result<(), String> {
    match key {
        "name" => circuit.name = Some(text::parsed(key, value)?),
        "priority" => circuit.priority = text::parsed(key, value)?,
        "limit" => circuit.bounds.limit = Some(text::parsed(key, value)?),
        "path" => circuit.pinned_path = Some(text::list(key, value)?),
        "allow" | "deny" => {
            let rules = value.split(',').map(|what| rule(&format!("{key} {what}")));
            circuit.rules.extend(rules.collect::<Result<Vec<_>, _>>()?);
        }
        "rule" => circuit.rules.push(rule(value)?),
        "start" => circuit.starts = Some(text::start(value)?),
        "for" | "until" if circuit.until.is_some() => return Err("it ends twice: say for or until".into()),
        "for" | "until" => circuit.until = Some(Until::parse(key, value)?),
        other => text::bound(&mut circuit.bounds, other, value).map_err(|why| {
            match why.contains("is not one of") {
                true => format!("\"{other}\" is not one of {WORDS}"),
                false => why,
            }
        })?,
    }
    Ok(())
}

fn rule(text: &str) -> Result<RuleSpec, String> {
    text.parse().map_err(|why: <RuleSpec as FromStr>::Err| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto_model::Bandwidth;

    #[test]
    fn each_line_is_a_circuit_in_the_words_of_the_options() {
        let text = "# two\nweb db bandwidth=200mbit latency=20ms limit=300mbit priority=3 name=fast for=2h start=30m\n\n\
                    a b path=x,y,z allow=tcp/443,udp/53 rule=\"allow tcp/22 from 10.0.0.0/8\" encrypted # last\n";
        let circuits = circuits(text).expect("two");
        assert_eq!(circuits.len(), 2);
        let first = &circuits[0];
        assert_eq!((first.source.as_str(), first.destination.as_str()), ("web", "db"));
        assert_eq!((first.bounds.bandwidth, first.priority), (Bandwidth::mbit(200), 3));
        assert_eq!(first.bounds.limit, Some(Bandwidth::mbit(300)));
        assert_eq!(first.until.map(|until| until.to_string()), Some("for 2h".into()));
        assert!(matches!(first.starts, Some(Until::After(_))));
        let second = &circuits[1];
        assert_eq!(second.pinned_path.as_ref().map(Vec::len), Some(3));
        assert_eq!((second.rules.len(), second.bounds.encrypted), (3, true));
    }

    #[test]
    fn a_wrong_line_is_named_with_what_would_be_right() {
        let many = "a b\n".repeat(MOST + 1);
        for (text, whys) in [
            ("", ["no circuits", "web db"]),
            ("web\n", ["line 1", "a source and a destination"]),
            ("web db\nweb db speed=1\n", ["line 2", "not one of name, latency"]),
            ("web db bandwidth=20", ["line 1", "bandwidth"]),
            ("web db rule=\"allow tcp/1", ["line 1", "quote"]),
            ("web db allow=tpc/1", ["line 1", "tpc"]),
            ("web db for=2h until=2026-11-21T12:00:00Z", ["line 1", "ends twice"]),
            (&many, ["101 circuits", "at most 100"]),
        ] {
            let refusal = circuits(text).expect_err(text);
            assert!(whys.iter().all(|why| refusal.contains(why)), "{refusal}");
        }
    }
}
