//! What a circuit may send at most, as bytes in `METERS`.
use crate::kernel_state::Meter;
use ebpf_abi::share;

/// The value of a meter whose bucket is full.
pub fn meter(meter: &Meter) -> share::Meter {
    share::Meter::of(meter.rate)
}

/// None: the slot is empty.
pub fn read_meter(slot: u16, value: &share::Meter) -> Option<Meter> {
    (value.rate != 0).then_some(Meter { slot, rate: value.rate })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_read_back_as_written() {
        let written = Meter { slot: 5, rate: 50_000_000 };
        assert_eq!(read_meter(5, &meter(&written)), Some(written));
        assert_eq!(read_meter(5, &share::Meter::default()), None);
    }
}
