//! Places of links in a forecaster: links come and go, the places of the others stay.

/// A link's place; valid until it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub(super) u32);

impl Slot {
    /// Its sample in the slice given to `step`.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Debug)]
pub(super) struct Slots<T> {
    all: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { all: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(super) fn join(&mut self, link: T) -> Slot {
        if let Some(free) = self.free.pop() {
            self.all[free as usize] = Some(link);
            return Slot(free);
        }
        self.all.push(Some(link));
        Slot((self.all.len() - 1) as u32)
    }

    pub(super) fn leave(&mut self, slot: Slot) {
        if self.all.get_mut(slot.index()).is_some_and(|link| link.take().is_some()) {
            self.free.push(slot.0);
        }
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&T> {
        self.all.get(slot.index())?.as_ref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.all.iter_mut().flatten()
    }

    /// With each link its sample; a link behind the end of the samples has none.
    pub(super) fn zip_mut<'a>(
        &'a mut self,
        samples: &'a [Option<f32>],
    ) -> impl Iterator<Item = (&'a mut T, Option<f32>)> {
        let samples = samples.iter().copied().chain(std::iter::repeat(None));
        self.all.iter_mut().zip(samples).filter_map(|(link, sample)| Some((link.as_mut()?, sample)))
    }
}

/// What is no number, or infinite, was not measured.
pub(super) fn measured(sample: Option<f32>) -> Option<f32> {
    sample.filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_and_the_others_stay() {
        let mut slots = Slots::default();
        let [a, b] = ["a", "b"].map(|link| slots.join(link));
        slots.leave(a);
        slots.leave(a);
        assert_eq!(slots.get(a), None);
        let c = slots.join("c");
        let d = slots.join("d");
        assert_eq!((c, slots.get(b), d.index()), (a, Some(&"b"), 2));
        let with: Vec<_> = slots.zip_mut(&[Some(1.0)]).map(|(link, sample)| (*link, sample)).collect();
        assert_eq!(with, [("c", Some(1.0)), ("b", None), ("d", None)]);
    }
}
