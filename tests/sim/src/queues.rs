//! The queues of a pretended host's underlay interfaces.
use agent_core::kernel_state::{Class, Entry, Shaper};
use std::collections::BTreeMap;

/// Shaped interfaces with their classes by number.
#[derive(Clone, Debug, Default)]
pub struct Queues(BTreeMap<String, (Shaper, BTreeMap<u16, Class>)>);

impl Queues {
    pub fn put(&mut self, shaper: &Shaper) {
        let name = shaper.interface.clone();
        self.0.entry(name).or_insert_with(|| (shaper.clone(), BTreeMap::new())).0 = shaper.clone();
    }

    /// # Errors
    /// The interface has no queues.
    pub fn put_class(&mut self, class: &Class) -> Result<(), String> {
        let missing = || format!("{} has no queues of the agent", class.interface);
        let (_, classes) = self.0.get_mut(&class.interface).ok_or_else(missing)?;
        classes.insert(class.number, class.clone());
        Ok(())
    }

    /// Says what no agent may do: its classes went with it.
    pub fn remove(&mut self, interface: &str) -> Option<String> {
        let (_, classes) = self.0.remove(interface)?;
        (!classes.is_empty()).then(|| format!("the queues of {interface} were removed with classes in them"))
    }

    pub fn remove_class(&mut self, interface: &str, number: u16) {
        if let Some((_, classes)) = self.0.get_mut(interface) {
            classes.remove(&number);
        }
    }

    /// Rates of the classes of each interface, in order.
    pub fn rates(&self) -> impl Iterator<Item = (&String, Vec<u64>)> {
        self.0.iter().map(|(interface, (_, classes))| {
            let mut rates: Vec<u64> = classes.values().map(|class| class.rate).collect();
            rates.sort_unstable();
            (interface, rates)
        })
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> {
        self.0.values().flat_map(|(shaper, classes)| {
            let classes = classes.values().cloned().map(Entry::Class);
            std::iter::once(Entry::Shaper(shaper.clone())).chain(classes)
        })
    }

    pub(crate) fn leftovers(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(|(interface, (_, classes))| {
            let class = move |number: &u16| format!("class {number} of {interface}");
            std::iter::once(format!("queues of {interface}")).chain(classes.keys().map(class))
        })
    }
}
