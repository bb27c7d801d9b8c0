//! When a tenant that nobody made by hand is forgotten: after it has slept for as long as its class says.
//!
//! A tenant that was provisioned stays, and so does one that is shut out: forgetting it would let it in again. This
//! module must not know other tenants.

use crate::{total::after, worker_class::Standing};
use jiff::Timestamp;
use patchbay_crds::{
    Tenant,
    marks::{FIRST_CONTACT, PROVISIONED_BY},
};
use std::time::Duration;

/// When the tenant is to be forgotten; none = not as it is now. A gateway may hold a request of one that waits for
/// `hold`.
pub fn due(
    tenant: &Tenant,
    forget_after: Duration,
    hold: Duration,
    now: Timestamp,
) -> Option<Timestamp> {
    let labels = tenant.metadata.labels.as_ref()?;
    let is_made_by_contact = labels.get(PROVISIONED_BY).is_some_and(|by| by == FIRST_CONTACT);
    let assignment = tenant.spec.assignment.as_ref();
    if !is_made_by_contact
        || tenant.spec.suspended
        || matches!(Standing::of(assignment, now), Standing::Assigned(_))
    {
        return None;
    }
    let status = tenant.status.as_ref();
    let last = [
        Some(tenant.metadata.creation_timestamp.as_ref()?.0),
        assignment.and_then(|assignment| assignment.requested_at).map(|since| after(since, hold)),
        status.and_then(|status| status.last_activity),
        // since then it has had no worker
        status.and_then(|status| status.conditions.iter().map(|c| c.last_transition_time).max()),
    ];
    last.into_iter().flatten().max().map(|last| after(last, forget_after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::fixtures;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use patchbay_crds::tenant::{TenantAssignment, TenantStatus};

    const DAY: Duration = Duration::from_hours(24);
    const HOLD: Duration = Duration::from_mins(1);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn tenant() -> Tenant {
        let mut tenant = fixtures::tenant();
        tenant.metadata.creation_timestamp = Some(Time(at(100)));
        let mark = [(PROVISIONED_BY.to_owned(), FIRST_CONTACT.to_owned())];
        tenant.metadata.labels = Some(mark.into());
        tenant
    }

    #[test]
    fn a_first_contacts_tenant_is_forgotten_so_long_after_its_last_word() {
        let mut tenant = tenant();
        assert_eq!(due(&tenant, DAY, HOLD, at(100)), Some(after(at(100), DAY)));
        let last = TenantStatus { last_activity: Some(at(500)), ..TenantStatus::default() };
        tenant.status = Some(last);
        assert_eq!(due(&tenant, DAY, HOLD, at(600)), Some(after(at(500), DAY)));
        tenant.spec.assignment = Some(TenantAssignment {
            worker: String::new(),
            uid: String::new(),
            epoch: 1,
            requested_at: Some(at(700)),
        });
        assert_eq!(due(&tenant, DAY, HOLD, at(701)), Some(after(at(760), DAY)));
    }

    #[test]
    fn who_was_provisioned_is_shut_out_or_has_a_worker_is_not_forgotten() {
        let mut by_hand = tenant();
        by_hand.metadata.labels = None;
        let mut suspended = tenant();
        suspended.spec.suspended = true;
        let mut assigned = tenant();
        assigned.spec.assignment = Some(TenantAssignment {
            worker: "w".into(),
            uid: "pod-1".into(),
            epoch: 1,
            requested_at: None,
        });
        for kept in [by_hand, suspended, assigned] {
            assert_eq!(due(&kept, DAY, HOLD, Timestamp::MAX), None);
        }
    }
}
