//! What the store keeps, forgets, and gives back after a restart.
use super::*;
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, CircuitId, Latency, Loss};
use std::time::Duration;

fn link(other: &str) -> LinkId {
    let name = |name: &str| name.parse().expect("a name");
    LinkId::new(name("alpha"), proto_model::NodeName(name(other).0), other.parse().expect("a name"))
        .expect("two ends")
}

fn at(second: u64) -> Timestamp {
    Timestamp(0).plus(Duration::from_secs(1_700_000_000 + second))
}

fn sample(millis: u64) -> Sample {
    let rtt = Latency::from_millis(millis);
    Sample {
        rtt: Some(RoundTrip { min: rtt, mean: rtt, max: rtt }),
        loss: [Some(Loss::from_ppm(20_000)), Some(Loss::NONE)],
        load: [Some(Bandwidth::mbit(millis)), None],
    }
}

fn filled() -> Store<LinkId> {
    let mut store = Store::default();
    for second in (0..7_200).filter(|second| !(3_000..3_300).contains(second)) {
        store.see(at(second), &link("beta"), &sample(10 + second / 60));
        if second % 7 == 0 {
            store.see(at(second), &link("gamma"), &sample(5));
        }
    }
    store
}

fn restored(store: &Store<LinkId>) -> Store<LinkId> {
    from_bytes(&to_bytes(store, &Store::default())).expect("what was written is read").0
}

#[test]
fn each_resolution_keeps_its_own_and_a_gap_is_no_zero() {
    let store = filled();
    let minutes: Vec<_> = store.series(&link("beta"), Resolution::Minutes).collect();
    let gaps = minutes.iter().filter(|(_, bucket)| bucket.samples == 0).count();
    assert_eq!(
        gaps, 4,
        "five minutes without a report, of which the first and last are begun or ended in one"
    );
    assert!(minutes.iter().all(|(_, bucket)| (bucket.samples == 0) == bucket.rtt.is_none()));
    let full = minutes.iter().filter(|(_, bucket)| bucket.samples == 60).count();
    assert!(full > 100, "{full}");
    assert_eq!(store.series(&link("beta"), Resolution::Seconds).count(), 120);
    let hours: u32 = store.series(&link("beta"), Resolution::Hours).map(|(_, bucket)| bucket.samples).sum();
    assert_eq!(hours, 6_900);
    assert_eq!(store.series(&link("delta"), Resolution::Hours).count(), 0, "not measured");
}

#[test]
fn a_long_silence_empties_what_is_older_than_is_kept() {
    let mut store = filled();
    store.advance(at(7_200 + 86_400));
    assert_eq!(store.series(&link("beta"), Resolution::Seconds).count(), 1, "the open one");
    assert_eq!(store.series(&link("beta"), Resolution::Minutes).count(), 1);
    let hours = store.series(&link("beta"), Resolution::Hours).filter(|(_, bucket)| bucket.samples > 0);
    assert!(hours.count() >= 2);
    store.advance(at(0));
    store.see(at(0), &link("beta"), &sample(1));
    let newest = store.series(&link("beta"), Resolution::Seconds).last();
    assert_eq!(
        newest.map(|(at, _)| at),
        Some(at(7_200 + 86_400)),
        "a clock that goes back changes no bucket's time"
    );
}

#[test]
fn a_restart_keeps_history_and_the_open_bucket_goes_on() {
    let store = filled();
    let mut back = restored(&store);
    for link in [link("beta"), link("gamma")] {
        for resolution in Resolution::ALL {
            let (old, new): (Vec<_>, Vec<_>) =
                (store.series(&link, resolution).collect(), back.series(&link, resolution).collect());
            assert_eq!(old.len(), new.len());
            let samples =
                |all: &[(Timestamp, Bucket)]| all.iter().map(|(_, bucket)| bucket.samples).sum::<u32>();
            assert_eq!(samples(&old), samples(&new));
        }
        assert_eq!(back.last(&link), store.last(&link));
    }
    let last = |store: &Store<LinkId>| {
        store.series(&link("beta"), Resolution::Hours).last().map(|(_, bucket)| bucket)
    };
    let before = last(&back).expect("the open hour");
    back.see(at(7_200), &link("beta"), &sample(500));
    let after = last(&back).expect("the open hour");
    assert_eq!(after.samples, before.samples + 1);
    assert_eq!(after.rtt.map(|rtt| rtt.max.round()), Some(500.0));
}

#[test]
fn garbage_is_refused_and_never_panics() {
    let mut store = Store::default();
    (0..30).for_each(|second| store.see(at(second * 50), &link("beta"), &sample(second)));
    let bytes = to_bytes(&store, &Store::default());
    for length in 0..bytes.len() {
        assert!(from_bytes(&bytes[..length]).is_err(), "{length} bytes");
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(from_bytes(&flipped).is_err(), "byte {at}, bit {bit}");
        }
    }
    assert_eq!(from_bytes(b"hello").err(), Some(BadHistory::NoHistory(*b"hell")));
    assert_eq!(from_bytes(b"FWTL\x09").err(), Some(BadHistory::Version(9)));
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(from_bytes(&longer), Err(BadHistory::Damaged { .. })));
}

#[test]
fn what_is_inside_is_checked_though_the_checksum_is_right() {
    let mut store = Store::default();
    store.see(at(0), &link("beta"), &sample(3));
    let bytes = to_bytes(&store, &Store::default());
    let body = bytes.len() - 8;
    for at in 5..body {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            let sum = bytes::checksum(&changed[..body]);
            changed[body..].copy_from_slice(&sum.to_le_bytes());
            // Read or refused: what is read can be used.
            if let Ok((mut store, _)) = from_bytes(&changed) {
                store.advance(Timestamp(u64::MAX));
                store.see(Timestamp(u64::MAX), &link("beta"), &sample(4));
                let links: Vec<_> = store.keys().cloned().collect();
                let all = links.iter().flat_map(|id| store.series(id, Resolution::Hours).collect::<Vec<_>>());
                assert!(all.count() >= 1 || links.is_empty());
            }
        }
    }
}

#[test]
fn a_history_grows_with_what_there_is_to_keep_up_to_a_bound_and_shrinks_again() {
    let (mut store, of) = (Store::default(), CircuitId(7));
    store.see(at(0), &of, &sample(3));
    assert!(store.bytes() < 1_000, "{}", store.bytes());
    let week = 7 * 24 * 3_600;
    (0..week + 7_200).step_by(30).for_each(|second| store.see(at(second), &of, &sample(3)));
    (week + 7_200..week + 8_000).for_each(|second| store.see(at(second), &of, &sample(3)));
    let most = Store::<CircuitId>::most_bytes();
    assert!(store.bytes() <= most && most <= 12_000, "{} of {most}", store.bytes());
    assert!(store.bytes() > most * 9 / 10, "{} of {most}", store.bytes());
    for (resolution, kept) in Resolution::ALL.into_iter().zip([120, 180, 168]) {
        assert_eq!(store.series(&of, resolution).count(), kept);
    }
    store.advance(at(3 * week));
    assert!(store.bytes() < 1_000, "{}", store.bytes());
}

#[test]
fn histories_of_circuits_are_kept_beside_those_of_links_and_a_former_controller_wrote_links_alone() {
    let links = filled();
    let mut circuits = Store::default();
    (0..600).for_each(|second| circuits.see(at(second), &CircuitId(1 << 40), &sample(second)));
    let bytes = to_bytes(&links, &circuits);
    let (back, ran) = from_bytes(&bytes).expect("what was written is read");
    assert_eq!(back.keys().collect::<Vec<_>>(), links.keys().collect::<Vec<_>>());
    let series = |store: &Store<CircuitId>| -> Vec<_> {
        store
            .series(&CircuitId(1 << 40), Resolution::Minutes)
            .map(|(at, bucket)| (at, bucket.samples))
            .collect()
    };
    assert_eq!(series(&ran), series(&circuits));
    assert_eq!(series(&ran).len(), 11);
    // Version 1: no circuits follow, not even how many.
    let none = to_bytes(&links, &Store::default());
    let mut former = none[..none.len() - 8 - 4].to_vec();
    former[4] = 1;
    let sum = bytes::checksum(&former);
    former.extend(sum.to_le_bytes());
    let (back, ran) = from_bytes(&former).expect("the former version is read");
    assert_eq!((back.keys().len(), ran.keys().len()), (2, 0));
}

/// A restart makes room for just as much as there is, and the next bucket may be one of the last that are kept.
#[test]
fn however_full_a_history_is_after_a_restart_it_goes_on() {
    for buckets in 1..125 {
        let mut store = Store::default();
        (0..buckets).for_each(|two| store.see(at(2 * two), &link("beta"), &sample(10)));
        let mut after = restored(&store);
        for two in buckets..buckets + 10 {
            [&mut store, &mut after]
                .into_iter()
                .for_each(|store| store.see(at(2 * two), &link("beta"), &sample(10)));
        }
        let count = |store: &Store<LinkId>| store.series(&link("beta"), Resolution::Seconds).count();
        assert_eq!(count(&after), count(&store));
        assert!(after.bytes() <= Store::<LinkId>::most_bytes(), "{buckets}");
    }
}
