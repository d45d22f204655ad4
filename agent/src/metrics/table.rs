//! Lists of what is published: workloads, and tenants.

use std::sync::{Arc, PoisonError, RwLock};

use super::{Published, PublishedTenant};

/// All published workloads, or whatever else is published one by one. Cloning shares it.
///
/// The lock is held only to swap or to copy one pointer; changing the list copies it, which only launches and ends do.
#[derive(Debug)]
pub struct Table<T = Published>(Arc<RwLock<Arc<Vec<Arc<T>>>>>);

/// All published tenants.
pub type TenantTable = Table<PublishedTenant>;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Table<T> {
    /// The present list.
    #[must_use]
    pub fn list(&self) -> Arc<Vec<Arc<T>>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds one.
    pub fn insert(&self, published: Arc<T>) {
        let mut list = Vec::clone(&self.list());
        list.push(published);
        self.replace(list);
    }

    /// Removes one.
    pub fn remove(&self, published: &Arc<T>) {
        let mut list = Vec::clone(&self.list());
        list.retain(|p| !Arc::ptr_eq(p, published));
        self.replace(list);
    }

    fn replace(&self, list: Vec<Arc<T>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
    }
}
