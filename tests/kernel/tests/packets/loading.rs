//! Every program passes the verifier, and says what it costs.
use crate::fixture::Host;

#[test]
fn every_program_passes_the_verifier() {
    let host = Host::new().unwrap();
    let verified = host.verified().unwrap();
    let mut names: Vec<_> = verified.iter().map(|v| v.program.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["cipher_ingress", "eni_ingress", "plain_ingress", "underlay_ingress", "underlay_xdp"]);
    for program in &verified {
        println!(
            "{}: {} instructions verified, {} bytes of machine code",
            program.program, program.instructions, program.jited
        );
        assert!(program.instructions > 0 && program.instructions < 1_000_000);
    }
}

#[test]
fn every_map_of_the_contract_is_in_the_object() {
    let host = Host::new().unwrap();
    for map in ebpf_abi::maps::name::MAPS {
        host.map(map).unwrap();
    }
}
