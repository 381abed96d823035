//! Numbers a path by what it crosses, so that circuits over the same hosts and links share one measurement.
use proto_model::PathId;
use proto_model::circuit::Path;

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): the same in every build and on every host, which the
/// standard library's hash is not. Two paths of one host with the same number would share a measurement; with 100,000
/// paths that has a chance of about 3·10⁻¹⁰.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;
/// Is in no name, so that no two lists of names are one text.
const END: u8 = 0;

/// The same from both ends: the hosts and networks in the order that starts with the lesser end.
pub fn of(path: &Path) -> PathId {
    let backwards = path.nodes.first() > path.nodes.last();
    let mut hash = BASIS;
    let mut take = |text: &str| {
        for byte in text.bytes().chain([END]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    };
    // The networks are enough of the links: their ends are the hosts beside them.
    let at = |i: usize, len: usize| if backwards { len - 1 - i } else { i };
    for i in 0..path.nodes.len() {
        take(path.nodes[at(i, path.nodes.len())].as_str());
        if i < path.links.len() {
            take(path.links[at(i, path.links.len())].network().as_str());
        }
    }
    PathId(hash)
}

/// The STAMP session (RFC 8972 §3) of a link: the same at both ends, and not 0, which is no session.
pub fn session(link: &proto_model::topology::LinkId) -> u16 {
    let (a, b) = link.ends();
    let path = Path { nodes: vec![a.clone(), b.clone()], links: vec![link.clone()] };
    let PathId(hash) = of(&path);
    let folded = hash ^ (hash >> 32);
    (((folded ^ (folded >> 16)) & 0xffff) as u16).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto_model::topology::LinkId;
    use std::collections::BTreeMap;

    fn path(nodes: &[&str], network: &str) -> Path {
        let name = |text: &str| text.parse().expect("a name");
        let links = nodes.windows(2).map(|pair| {
            LinkId::new(
                proto_model::NodeName(name(pair[0])),
                proto_model::NodeName(name(pair[1])),
                name(network),
            )
            .expect("two hosts")
        });
        Path {
            links: links.collect(),
            nodes: nodes.iter().map(|node| proto_model::NodeName(name(node))).collect(),
        }
    }

    fn reversed(path: &Path) -> Path {
        let nodes = path.nodes.iter().rev().cloned().collect();
        Path { nodes, links: path.links.iter().rev().cloned().collect() }
    }

    #[test]
    fn the_number_of_a_path_is_the_same_in_every_build() {
        assert_eq!(of(&Path { nodes: Vec::new(), links: Vec::new() }), PathId(BASIS));
        // FNV-1a of "a\0n\0b\0", computed apart.
        assert_eq!(of(&path(&["a", "b"], "n")), PathId(0x513a_1836_ac0f_9038));
    }

    #[test]
    fn another_network_is_another_path() {
        assert_ne!(of(&path(&["a", "b"], "n")), of(&path(&["a", "b"], "m")));
        assert_ne!(of(&path(&["a", "c", "b"], "n")), of(&path(&["a", "b"], "n")));
        assert_ne!(of(&path(&["a", "c", "d", "b"], "n")), of(&path(&["a", "d", "c", "b"], "n")));
    }

    #[test]
    fn sessions_of_links_are_seldom_the_same_and_never_zero() {
        let mut seen: BTreeMap<u16, u32> = BTreeMap::new();
        for i in 0..1_000 {
            let one = format!("h{i}");
            let session = session(&path(&[&one, "hub"], "net").links[0]);
            assert_ne!(session, 0);
            *seen.entry(session).or_default() += 1;
        }
        // A random function of 1,000 links has about 7.6 pairs.
        assert!(seen.len() > 970, "{} different ones", seen.len());
    }

    proptest! {
        #[test]
        fn both_directions_have_one_number(
            nodes in proptest::collection::btree_set("[a-z]{1,3}", 1..6),
            order in any::<u64>(),
        ) {
            let mut nodes: Vec<_> = nodes.iter().map(String::as_str).collect();
            let by = (order % nodes.len() as u64) as usize;
            nodes.rotate_left(by);
            let path = path(&nodes, "net");
            prop_assert_eq!(of(&path), of(&reversed(&path)));
        }
    }
}
