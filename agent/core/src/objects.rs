//! What a host was told, by key.
use crate::packed::Packed;
use proto_model::desired::{Object, ObjectKey};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(crate) struct Objects(Packed<ObjectKey, Arc<Object>>);

impl Objects {
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Object> {
        self.0.get(key).map(Arc::as_ref)
    }

    /// To look at while others change.
    pub(crate) fn share(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.0.get(key).cloned()
    }

    pub(crate) fn contains_key(&self, key: &ObjectKey) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.0.keys()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Object)> {
        self.0.iter().map(|(key, object)| (key, object.as_ref()))
    }

    pub(crate) fn insert(&mut self, key: ObjectKey, object: Object) {
        self.0.insert(key, Arc::new(object));
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        self.0.remove(key);
    }
}
