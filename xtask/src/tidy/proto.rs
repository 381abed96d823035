//! Every field and every call of the API says what it is for.
use super::Breach;

pub(super) fn check(file: &str, text: &str) -> Vec<Breach> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut breaches = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(name) = field(line).or_else(|| call(line)) else { continue };
        if documented(&lines, index) {
            continue;
        }
        breaches.push(Breach::new(
            file,
            index + 1,
            format!("{name} has no comment: say what it is, with its unit"),
        ));
    }
    breaches
}

/// A comment stands right before it, or right before the run of siblings that it ends.
fn documented(lines: &[&str], index: usize) -> bool {
    let mut above = lines[..index].iter().rev();
    above.next().is_some_and(|line| line.starts_with("//")) || group_documented(lines, index)
}

/// Fields that stand together under one comment share it: `source` and `destination`, `from` and `to`.
fn group_documented(lines: &[&str], index: usize) -> bool {
    let member = |line: &&&str| field(line).is_some() || call(line).is_some() || line.starts_with("oneof");
    let head = lines[..index].iter().rev().find(|line| !member(line));
    head.is_some_and(|line| line.starts_with("//"))
}

/// `optional uint64 rtt = 1;` → `rtt`.
fn field(line: &str) -> Option<&str> {
    let (before, number) = line.strip_suffix(';')?.split_once(" = ")?;
    number.parse::<u32>().ok()?;
    let mut words = before.split_whitespace().rev();
    let name = words.next()?;
    words.next().map(|_| name)
}

/// `rpc GetCircuit(CircuitRequest) returns (Circuit);` → `GetCircuit`.
fn call(line: &str) -> Option<&str> {
    line.strip_prefix("rpc ")?.split('(').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_calls_are_told_from_other_lines() {
        assert_eq!(field("optional uint64 rtt = 1;"), Some("rtt"));
        assert_eq!(field("map<string, string> labels = 6;"), Some("labels"));
        assert_eq!(field("STATE_ACTIVE = 3;"), None);
        assert_eq!(field("syntax = \"proto3\";"), None);
        assert_eq!(call("rpc Watch(A) returns (stream B);"), Some("Watch"));
    }

    #[test]
    fn a_field_after_a_gap_needs_its_own_comment() {
        let text = "message M {\n  // Names.\n  string a = 1;\n\n  string b = 2;\n}\n";
        let breaches = check("x.proto", text);
        assert_eq!(breaches.len(), 1);
        assert_eq!(breaches[0].line, 5);
    }
}
