//! The fixed top level, the shared lint table, and the purity of the cores.
use super::Breach;
use crate::shell;
use cargo_metadata::Metadata;

/// Folders and files that may stand at the top; dot-folders and dot-files besides.
const TOP: [&str; 17] = [
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE",
    "proto",
    "controller",
    "agent",
    "ebpf",
    "tests",
    "xtask",
    "vagrant",
    "docs",
    "fuzz",
    "rustfmt.toml",
    "clippy.toml",
    "deny.toml",
    "packaging",
];

pub(super) fn top_level(files: &[String]) -> Vec<Breach> {
    let mut tops: Vec<&str> = files.iter().filter_map(|file| file.split('/').next()).collect();
    tops.dedup();
    let stranger = |top: &&str| !top.starts_with('.') && !TOP.contains(top);
    let what = |top| format!("\"{top}\" is not part of the top level; allowed: {}", TOP.join(", "));
    tops.into_iter().filter(stranger).map(|top| Breach::new(top, 1, what(top))).collect()
}

pub(super) fn packages(metadata: &Metadata, files: &[String]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for package in metadata.workspace_packages() {
        let folder =
            package.manifest_path.parent().and_then(|dir| dir.strip_prefix(&metadata.workspace_root).ok());
        let Some(folder) = folder.map(|dir| dir.as_str()) else { continue };
        let read =
            |file: &str| std::fs::read_to_string(shell::root().join(folder).join(file)).unwrap_or_default();
        if !shares_lints(&read("Cargo.toml")) {
            let what = "does not say [lints] workspace = true";
            breaches.push(Breach::new(format!("{folder}/Cargo.toml"), 1, what));
        }
        if folder.replace('/', "-") != package.name.as_str() {
            let what = format!(
                "is named {}; a package is named by its path: {}",
                package.name,
                folder.replace('/', "-")
            );
            breaches.push(Breach::new(format!("{folder}/Cargo.toml"), 1, what));
        }
        if is_pure(folder) {
            breaches.extend(pure(folder, &read("clippy.toml"), &read("src/lib.rs"), files));
        }
    }
    breaches
}

fn is_pure(folder: &str) -> bool {
    folder.ends_with("/core")
}

fn shares_lints(manifest: &str) -> bool {
    let Ok(manifest) = manifest.parse::<toml::Table>() else { return false };
    manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool)
        == Some(true)
}

/// Calls that a core may not make: without one of these lines in its clippy.toml, the ban has a hole.
const BANNED: [&str; 5] = [
    "std::time::Instant::now",
    "std::time::SystemTime::now",
    "std::net::UdpSocket::bind",
    "std::fs::File::open",
    "std::collections::HashMap",
];

fn pure(folder: &str, clippy: &str, library: &str, files: &[String]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for call in BANNED.iter().filter(|call| !clippy.contains(**call)) {
        let what = format!("a core bans {call} here");
        breaches.push(Breach::new(format!("{folder}/clippy.toml"), 1, what));
    }
    if !library.contains("#![forbid(unsafe_code)]") {
        let what = "a core says #![forbid(unsafe_code)] here";
        breaches.push(Breach::new(format!("{folder}/src/lib.rs"), 1, what));
    }
    let main = format!("{folder}/src/main.rs");
    if files.contains(&main) {
        breaches.push(Breach::new(main, 1, "a core is a library only"));
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_at_the_top_is_named() {
        let files = ["README.md", "agent/core/src/lib.rs", "utils/x.rs", ".ci/run"].map(String::from);
        let breaches = top_level(&files);
        assert_eq!(breaches.len(), 1);
        assert!(breaches[0].what.contains("\"utils\""));
    }

    #[test]
    fn the_lint_table_must_be_the_shared_one() {
        assert!(shares_lints("[lints]\nworkspace = true\n"));
        assert!(!shares_lints("[lints.rust]\nunsafe_code = \"deny\"\n"));
        assert!(!shares_lints("[package]\nname = \"x\"\n"));
    }

    #[test]
    fn a_core_without_its_bans_is_told_each_of_them() {
        let bans = BANNED.join("\n");
        assert_eq!(pure("agent/core", &bans, "#![forbid(unsafe_code)]", &[]), []);
        assert_eq!(pure("agent/core", "", "", &["agent/core/src/main.rs".into()]).len(), BANNED.len() + 2);
    }
}
