//! What every Rust file keeps: a first line that says why it exists, a size, no unfinished work, unsafe behind doors.
use super::Breach;

/// The files that may hold unsafe code: one door per crate.
const DOORS: [(&str, &str); 1] =
    [("tests/kernel/src/lab/door.rs", "setns between fork and exec, TUN ioctls")];

/// Longest file without a reason.
const LINES: usize = 500;

/// Files that are longer, and why that is worth it.
const LONG: [(&str, &str); 0] = [];

/// Words of unfinished or silenced work, in two halves so that this file passes.
const BANNED: [(&str, &str, &str); 5] = [
    ("to", "do!(", "finish it, or leave it out"),
    ("unimple", "mented!(", "finish it, or leave it out"),
    ("#[ig", "nore", "a test that needs something fails and says what"),
    ("#[al", "low(", "#[expect(…, reason = \"…\")]"),
    ("#![al", "low(", "#![expect(…, reason = \"…\")]"),
];

pub(super) fn check(file: &str, text: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    if !text.starts_with("//! ") {
        breaches.push(Breach::new(file, 1, "the first line says why the file exists: //! …"));
    }
    let lines = text.lines().count();
    if lines > LINES && !LONG.iter().any(|(long, _)| *long == file) {
        let what = format!("{lines} lines; allowed are {LINES}, or a reason in tidy's list");
        breaches.push(Breach::new(file, lines, what));
    }
    for (index, line) in text.lines().enumerate() {
        breaches.extend(check_line(line).map(|what| Breach::new(file, index + 1, what)));
        if opens_unsafe(line) && !DOORS.iter().any(|(door, _)| *door == file) {
            let doors: Vec<&str> = DOORS.iter().map(|(door, _)| *door).collect();
            let what = format!("unsafe code outside the doors; allowed in {}", doors.join(", "));
            breaches.push(Breach::new(file, index + 1, what));
        }
    }
    breaches
}

fn check_line(line: &str) -> Option<String> {
    let code = line.split("//").next().unwrap_or("");
    let (first, second, instead) =
        BANNED.iter().find(|(first, second, _)| code.contains(&format!("{first}{second}")))?;
    Some(format!("{first}{second} is not allowed; {instead}"))
}

fn opens_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or("");
    let lint = ["unsafe", "_code"].concat();
    code.contains(&lint) && !code.contains("forbid") && !code.contains('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_why_it_exists() {
        assert_eq!(check("a.rs", "//! Decides.\nfn main() {}\n"), []);
        assert_eq!(check("a.rs", "fn main() {}\n").len(), 1);
    }

    #[test]
    fn a_long_file_needs_a_reason() {
        let text = format!("//! Long.\n{}", "\n".repeat(LINES));
        assert_eq!(check("a.rs", &text).len(), 1);
    }

    #[test]
    fn unfinished_and_silenced_work_is_found_where_it_stands() {
        for (first, second, _) in BANNED {
            let breaches = check("a.rs", &format!("//! X.\n\n    {first}{second}x)]\n"));
            assert_eq!(breaches.len(), 1, "{first}{second}");
            assert_eq!(breaches[0].line, 3);
        }
    }

    #[test]
    fn unsafety_stays_behind_its_doors() {
        let lint = ["unsafe", "_code"].concat();
        let text = format!("//! X.\n#![expect({lint}, reason = 1)]\n");
        assert_eq!(check("a.rs", &text).len(), 1);
        assert_eq!(check(DOORS[0].0, &text), []);
    }
}
