//! Conditions: what is true of an object now, why, and since when.
//!
//! The six fields are those of Kubernetes' own `metav1.Condition`, so that `kubectl wait` and every
//! dashboard understand them. This module must not know what any condition means, nor the clock.

use crate::bounds;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One observation about an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is observed, for example `Ready`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = bounds::CONDITION_WORD))]
    pub type_: String,
    /// Whether it is so: `True`, `False` or `Unknown`.
    pub status: ConditionStatus,
    /// Why, as one CamelCase word for programs.
    #[schemars(length(min = 1, max = bounds::CONDITION_WORD))]
    pub reason: String,
    /// Why, in words for people. May be empty.
    #[schemars(length(max = bounds::CONDITION_MESSAGE))]
    pub message: String,
    /// When the status last changed.
    #[schemars(schema_with = "crate::schema::timestamp")]
    pub last_transition_time: Timestamp,
    /// The generation (`metadata.generation`) of the object that was observed. Where it is less
    /// than the object's, the condition is about an earlier spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// It cannot be said.
    Unknown,
}

/// Puts `next` among `conditions`, one per type. Returns whether anything changed.
///
/// The time of the last transition is kept while the status stays the same, so that an observation
/// which is merely repeated, or explained better, does not look like a new event.
pub fn set_condition(conditions: &mut Vec<Condition>, mut next: Condition) -> bool {
    let Some(known) = conditions.iter_mut().find(|c| c.type_ == next.type_) else {
        conditions.push(next);
        return true;
    };
    if known.status == next.status {
        next.last_transition_time = known.last_transition_time;
    }
    let changed = *known != next;
    *known = next;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: ConditionStatus, reason: &str, second: i64) -> Condition {
        Condition {
            type_: "Ready".into(),
            status,
            reason: reason.into(),
            message: String::new(),
            last_transition_time: Timestamp::from_second(second).unwrap(),
            observed_generation: Some(1),
        }
    }

    #[test]
    fn a_repeated_observation_changes_nothing() {
        let mut conditions = vec![ready(ConditionStatus::True, "Bound", 1)];
        assert!(!set_condition(&mut conditions, ready(ConditionStatus::True, "Bound", 9)));
        assert_eq!(conditions, [ready(ConditionStatus::True, "Bound", 1)]);
    }

    #[test]
    fn another_reason_keeps_the_time_and_another_status_moves_it() {
        let mut conditions = vec![ready(ConditionStatus::True, "Bound", 1)];
        assert!(set_condition(&mut conditions, ready(ConditionStatus::True, "Warm", 5)));
        assert_eq!(conditions, [ready(ConditionStatus::True, "Warm", 1)]);
        assert!(set_condition(&mut conditions, ready(ConditionStatus::False, "Gone", 9)));
        assert_eq!(conditions, [ready(ConditionStatus::False, "Gone", 9)]);
    }

    #[test]
    fn conditions_of_other_types_stay() {
        let mut other = ready(ConditionStatus::True, "Fine", 1);
        other.type_ = "Isolated".into();
        let mut conditions = vec![other.clone()];
        let added = ready(ConditionStatus::True, "Bound", 2);
        assert!(set_condition(&mut conditions, added.clone()));
        assert_eq!(conditions, [other, added]);
    }

    #[test]
    fn it_is_written_as_kubernetes_writes_conditions() {
        let json = serde_json::to_value(ready(ConditionStatus::Unknown, "New", 0)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "Ready", "status": "Unknown", "reason": "New", "message": "",
                "lastTransitionTime": "1970-01-01T00:00:00Z", "observedGeneration": 1,
            })
        );
    }
}
