//! What every Rust file keeps: a first line that says why it exists, a size, no unfinished work, unsafe behind doors.
use super::Breach;

/// The only files with unsafe code, and what for.
const DOORS: [(&str, &str); 7] = [
    ("ebpf/programs/src/bpf/packet.rs", "reads and writes packet headers"),
    ("ebpf/programs/src/bpf/tables.rs", "bpf_loop takes a function and a pointer"),
    ("ebpf/programs/src/bpf/door.rs", "the kernel's clock"),
    ("ebpf/programs/src/main.rs", "sections with the licence and the programs"),
    ("ebpf/programs/src/testgen.rs", "writes whole frames, for benchmarks only"),
    ("tests/kernel/src/lab/door.rs", "setns between fork and exec, TUN ioctls"),
    ("tests/kernel/src/bench/bpf.rs", "bpf(2) for live frames"),
];

/// Lines that break a rule for a reason.
const REASONED: [(&str, &str, &str); 1] = [(
    "tests/kernel/tests/contract/kills.rs",
    "#[ig",
    "not a test by itself: other tests run it as the process they kill",
)];

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
        breaches.extend(check_line(file, line).map(|what| Breach::new(file, index + 1, what)));
        if is_unsafe(line) && !DOORS.iter().any(|(door, _)| *door == file) {
            let doors: Vec<&str> = DOORS.iter().map(|(door, _)| *door).collect();
            let what = format!("unsafe code outside the doors; allowed in {}", doors.join(", "));
            breaches.push(Breach::new(file, index + 1, what));
        }
    }
    breaches
}

fn check_line(file: &str, line: &str) -> Option<String> {
    let code = line.split("//").next().unwrap_or("");
    let (first, second, instead) =
        BANNED.iter().find(|(first, second, _)| code.contains(&format!("{first}{second}")))?;
    let reasoned = REASONED.iter().any(|(place, what, _)| *place == file && what == first);
    (!reasoned).then(|| format!("{first}{second} is not allowed; {instead}"))
}

/// A block, function, implementation or attribute, not the word in a comment or a text.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or("");
    let keyword = ["uns", "afe"].concat();
    ["{", " {", " fn ", " impl ", " extern ", "("].iter().any(|after| {
        let opened = code.find(&format!("{keyword}{after}"));
        opened.is_some_and(|at| {
            let word = !code[..at].ends_with(|before: char| before == '_' || before.is_alphanumeric());
            word && code[..at].matches('"').count().is_multiple_of(2)
        })
    })
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
        let keyword = ["uns", "afe"].concat();
        for code in ["{ read() }", "fn read() {}", "impl Send for X {}"] {
            let text = format!("//! X.\n{keyword} {code}\n");
            assert_eq!(check("a.rs", &text).len(), 1, "{code}");
            assert_eq!(check(DOORS[0].0, &text), [], "{code}");
        }
        assert_eq!(check("a.rs", &format!("//! X.\n// {keyword} {{\nlet x = \"{keyword} {{\";\n")), []);
    }

    #[test]
    fn a_reasoned_line_is_let_through_where_it_stands_only() {
        let (file, first, _) = REASONED[0];
        let (_, second, _) = BANNED.iter().find(|(start, _, _)| *start == first).expect("a banned word");
        let text = format!("//! X.\n{first}{second}]\n");
        assert_eq!(check(file, &text), []);
        assert_eq!(check("other.rs", &text).len(), 1);
    }
}
