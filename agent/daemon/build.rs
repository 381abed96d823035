//! Finds the compiled data plane and hands its path to the library, which embeds it.
use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=FOREWEAVE_BPF_OBJECT");
    let object = env::var_os("FOREWEAVE_BPF_OBJECT").map_or_else(built_here, PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    let Ok(object) = object.canonicalize() else {
        println!(
            "cargo::error=the data plane is not compiled ({} is not there): run `cargo xtask ebpf`",
            object.display()
        );
        return;
    };
    println!("cargo::rustc-env=DATAPLANE_OBJECT={}", object.display());
}

/// `cargo xtask ebpf` writes there, whatever `CARGO_TARGET_DIR` says.
fn built_here() -> PathBuf {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    package.join("../../target/bpf/bpfel-unknown-none/release/foreweave-dataplane")
}
