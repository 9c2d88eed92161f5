//! Scenes: what each of some devices is to be set to.
//!
//! Types only; `state` applies changes in seq order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tag_of;

/// A scene.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Scene {
    /// Its id, unique in the tenant.
    pub id: String,
    /// Its number in its group, or among those without one, from 1: given once.
    pub number: u64,
    /// What it says.
    pub plan: ScenePlan,
}

/// What a scene says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct ScenePlan {
    /// For people.
    pub name: Option<String>,
    /// The group that it is listed with.
    pub group: Option<String>,
    /// Seconds that it takes.
    pub transition: Option<f64>,
    /// By device: a JSON object of resources and their values.
    pub sets: BTreeMap<String, String>,
}

/// How a scene changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SceneStep {
    /// It is made, or replaced whole.
    Put(ScenePlan),
    /// Of those of its devices that are named, this is what they are to be set to.
    Store(BTreeMap<String, String>),
    /// It goes.
    Remove,
}

/// What the texts of sets take.
fn byte_len(sets: &BTreeMap<String, String>) -> usize {
    sets.iter().map(|(device, set)| 2 * size_of::<String>() + device.len() + set.len()).sum()
}

impl Scene {
    /// Stands for the scene as it is told.
    #[must_use]
    pub fn tag(&self) -> u64 {
        tag_of(self)
    }

    /// What it counts in the bound of its tenant.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        byte_len(&self.plan.sets)
    }
}

impl SceneStep {
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Put(plan) => byte_len(&plan.sets),
            Self::Store(sets) => byte_len(sets),
            Self::Remove => 0,
        }
    }
}
