//! Numbers in two bytes and in one: what is kept of a link's past is many small numbers.

/// Sign, 6 bits of exponent, 9 of mantissa: 2⁻³⁰ to 2³² with an error of 0.1 %. Smaller is zero, larger the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Half(u16);

const MANTISSA: u32 = 9;
const DROPPED: u32 = 23 - MANTISSA;
const BIAS: i32 = 31;

impl Half {
    pub(crate) const ZERO: Self = Self(0);
    /// No number: minus zero, which [`Half::of`] never makes.
    pub(crate) const NONE: Self = Self(0x8000);

    pub(crate) fn of(value: f32) -> Self {
        let bits = value.to_bits();
        let sign = (bits >> 16) as u16 & 0x8000;
        let rounded = (bits & 0x7fff_ffff) + (1 << (DROPPED - 1));
        let exponent = (rounded >> 23) as i32 - 127 + BIAS;
        let code = match exponent {
            ..=0 => return Self::ZERO,
            1..=63 => (exponent as u16) << MANTISSA | (rounded >> DROPPED) as u16 & ((1 << MANTISSA) - 1),
            64.. => 0x7fff,
        };
        Self(sign | code)
    }

    /// Zero for [`Half::NONE`].
    pub(crate) fn get(self) -> f32 {
        let code = u32::from(self.0 & 0x7fff);
        if code == 0 {
            return 0.0;
        }
        let exponent = ((code >> MANTISSA) as i32 - BIAS + 127) as u32;
        let mantissa = (code & ((1 << MANTISSA) - 1)) << DROPPED;
        f32::from_bits(u32::from(self.0 & 0x8000) << 16 | exponent << 23 | mantissa)
    }

    pub(crate) fn bits(self) -> u16 {
        self.0
    }

    pub(crate) fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// An error in one byte: its sign, and its size as one of 127 steps of a fifth of an octave above `unit`; smaller is zero.
/// An error is off by 7 % at most, over a range of 2²⁵ units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Octave(i8);

const PER_OCTAVE: f32 = 5.0;

impl Octave {
    pub(crate) fn of(error: f32, unit: f32) -> Self {
        let size = (error.abs() / unit).max(0.5).log2() * PER_OCTAVE + 1.0;
        let code = size.round().clamp(0.0, 127.0) as i8;
        Self(if error < 0.0 { -code } else { code })
    }

    pub(crate) fn get(self, unit: f32) -> f32 {
        let size = f32::from(self.0.unsigned_abs());
        let error = if self.0 == 0 { 0.0 } else { ((size - 1.0) / PER_OCTAVE).exp2() * unit };
        error.copysign(f32::from(self.0))
    }

    /// From 0, ascending with the error.
    pub(crate) fn rank(self) -> u8 {
        (self.0 as u8).wrapping_add(128)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_off_by_a_thousandth_at_most() {
        for step in -900..900 {
            for value in [(step as f32 / 45.0).exp2(), -(step as f32 / 45.0).exp2()] {
                let back = Half::of(value).get();
                assert!((back - value).abs() <= 0.001 * value.abs(), "{value} came back as {back}");
            }
        }
    }

    #[test]
    fn half_saturates_and_keeps_zero_apart_from_nothing() {
        assert_eq!(Half::of(0.0).get(), 0.0);
        assert_eq!(Half::of(-0.0), Half::ZERO);
        assert_eq!(Half::of(1e-20).get(), 0.0);
        assert!(Half::of(1e30).get() > 4e9 && Half::of(f32::NEG_INFINITY).get() < -4e9);
        assert!(Half::NONE.is_none() && !Half::of(-1e-30).is_none());
    }

    #[test]
    fn octave_keeps_order_sign_and_size() {
        let unit = 0.001;
        let mut last = 0;
        for step in -250i32..250 {
            let error = (step as f32).signum() * (step.abs() as f32 / 11.0).exp2() * unit;
            let code = Octave::of(error, unit);
            assert!(code.rank() >= last || step == -250, "{error}");
            last = code.rank();
            let back = code.get(unit);
            assert!((back - error).abs() <= 0.075 * error.abs(), "{error} came back as {back}");
        }
        assert_eq!(Octave::of(0.0, unit).get(unit), 0.0);
    }
}
