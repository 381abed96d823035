//! Who may import whom, and that one crypto provider is enough.
use super::Breach;
use crate::shell;
use cargo_metadata::Metadata;
use std::collections::{BTreeMap, BTreeSet};

/// DESIGN §1; a package that is not named here may not exist.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("proto-model", &[]),
    ("ebpf-abi", &[]),
    ("proto-wire", &["proto-model"]),
    ("controller-core", &["proto-model"]),
    ("agent-core", &["proto-model", "ebpf-abi"]),
    ("ebpf-programs", &["ebpf-abi"]),
    ("controller-daemon", &["controller-core", "proto-model", "proto-wire"]),
    ("controller-cli", &["proto-model", "proto-wire", "controller-core"]),
    ("agent-daemon", &["agent-core", "proto-model", "proto-wire", "ebpf-abi"]),
    ("tests-sim", &["controller-core", "agent-core", "proto-model", "ebpf-abi"]),
    (
        "tests-kernel",
        &[
            "controller-daemon",
            "agent-daemon",
            "proto-wire",
            "ebpf-abi",
            "controller-core",
            "agent-core",
            "proto-model",
            "tests-sim",
        ],
    ),
    ("xtask", &[]),
];

/// aws-lc-rs is the provider; with a second one, a process would have to be told which.
const FOREIGN_PROVIDERS: [&str; 4] = ["ring", "openssl", "openssl-sys", "boring-sys"];

pub(super) fn check(metadata: &Metadata) -> Vec<Breach> {
    let members = metadata.workspace_packages();
    let ours: BTreeSet<String> = members.iter().map(|package| package.name.to_string()).collect();
    let edges = members.iter().map(|package| {
        let imports = package.dependencies.iter().map(|dependency| dependency.name.clone());
        (package.name.to_string(), imports.filter(|name| ours.contains(name)).collect())
    });
    broken(&edges.collect())
}

/// The imports among our packages that the table does not have.
fn broken(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (package, imported) in imports {
        let manifest = format!("{}/Cargo.toml", package.replacen('-', "/", 1));
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| name == package) else {
            breaches.push(Breach::new(manifest, 1, format!("{package} is not a package of the design")));
            continue;
        };
        for name in imported.iter().filter(|name| !allowed.contains(&name.as_str())) {
            let may = if allowed.is_empty() { "nothing of ours".to_owned() } else { allowed.join(", ") };
            breaches.push(Breach::new(
                &*manifest,
                1,
                format!("{package} imports {name}; it may import {may}"),
            ));
        }
    }
    breaches
}

/// Asks cargo what is really built (features resolved), and names the way to a second provider.
pub(super) fn providers() -> Vec<Breach> {
    FOREIGN_PROVIDERS
        .iter()
        .filter_map(|name| way_to(name))
        .map(|what| Breach::new("Cargo.lock", 1, what))
        .collect()
}

fn way_to(provider: &str) -> Option<String> {
    let question =
        ["tree", "--workspace", "--locked", "-e", "normal,build", "--prefix", "none", "-i", provider];
    let tree = shell::output(shell::cargo().args(question))?;
    let way: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).take(6).collect();
    (!way.is_empty() && way[0] == provider)
        .then(|| format!("a second crypto provider: {}; aws-lc-rs is the only one", way.join(" ← ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(package: &str, imports: &[&str]) -> Vec<Breach> {
        let imports = imports.iter().map(|name| (*name).to_owned()).collect();
        broken(&BTreeMap::from([(package.to_owned(), imports)]))
    }

    #[test]
    fn controller_and_agent_never_import_each_other() {
        assert_eq!(one("agent-daemon", &["controller-core"]).len(), 1);
        assert_eq!(one("controller-core", &["agent-core"]).len(), 1);
        assert_eq!(one("agent-core", &["proto-model", "ebpf-abi"]), []);
    }

    #[test]
    fn a_breach_names_what_is_allowed() {
        let breaches = one("proto-wire", &["ebpf-abi"]);
        assert_eq!(
            breaches[0].to_string(),
            "proto/wire/Cargo.toml:1: proto-wire imports ebpf-abi; it may import proto-model"
        );
        assert!(one("xtask", &["proto-model"])[0].what.contains("nothing of ours"));
    }

    #[test]
    fn an_unknown_package_is_refused() {
        assert_eq!(one("misc-helpers", &[]).len(), 1);
    }
}
