//! What the agent says of the underlay interfaces, and of others who want their packets.
use crate::world::{ip, within};
use agent_daemon::doctor::{self, Verdict};

#[test]
fn addresses_that_last_are_announced_with_the_preferred_first() {
    within(|world| {
        ip("addr add 192.0.2.250/32 dev under0");
        ip("addr add 192.0.2.2/24 dev under0");
        ip("addr add 2001:db8::2/64 dev under0 nodad preferred_lft 0");
        let linux = world.linux();
        let addresses = &linux.datapath().summary().underlays[0].addresses;
        let told: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.250"]);
    });
}

#[test]
fn somebody_elses_vxlan_on_the_port_stops_the_agent_and_is_named() {
    within(|world| {
        let told = || {
            let findings = doctor::examine(world.pins(), 4789);
            findings.into_iter().find(|finding| finding.what == "UDP port 4789").expect("examined")
        };
        let linux = world.linux();
        assert_eq!(told().verdict, Verdict::Good, "our own data plane opens no socket");
        drop(linux);
        ip("link add others0 type vxlan id 5 dstport 4790");
        assert_eq!(told().verdict, Verdict::Good, "another port");
        ip("link add others1 type vxlan id 6 dstport 4789");
        let finding = told();
        assert_eq!(finding.verdict, Verdict::Missing);
        assert!(finding.says.contains("others1") && !finding.says.contains("others0"), "{finding}");
    });
}
