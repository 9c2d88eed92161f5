//! Tickets: what opens one connection within a minute, with the rights of who asked for it, or less.
//!
//! In memory, by hash: a restart ends all of them. Bounded for each principal and in all. Invariant: a
//! ticket lets in once; none lets in whom its maker's credential would not.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use fieldgate_core::{
    access::{Grant, Identity, Principal},
    fault::{Code, Fault},
    id::TenantId,
};
use fieldgate_store::registry::SecretHash;

/// How long a ticket lets in.
pub(crate) const LIFE: Duration = Duration::from_secs(60);
/// Most tickets at a time, of one principal and of all.
const OF_ONE_MAX: usize = 100;
const OF_ALL_MAX: usize = 10_000;

type Owner = (TenantId, Arc<str>);

#[derive(Debug, Default)]
struct Kept {
    tickets: HashMap<SecretHash, (Instant, Principal)>,
    /// When each ends, the next first.
    ends: BTreeSet<(Instant, SecretHash)>,
    of_one: HashMap<Owner, usize>,
}

impl Kept {
    fn remove(&mut self, hash: &SecretHash) -> Option<Principal> {
        let (end, principal) = self.tickets.remove(hash)?;
        self.ends.remove(&(end, *hash));
        let owner = owner_of(&principal);
        if let Some(count) = self.of_one.get_mut(&owner) {
            *count -= 1;
            if *count == 0 {
                self.of_one.remove(&owner);
            }
        }
        Some(principal)
    }

    fn forget(&mut self, now: Instant) {
        while let Some((_, hash)) = self.ends.first().filter(|(end, _)| *end <= now).copied() {
            self.remove(&hash);
        }
    }
}

fn owner_of(principal: &Principal) -> Owner {
    (principal.tenant.clone(), Arc::clone(&principal.name))
}

/// The tickets that were not used.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<Kept>);

impl Tickets {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a ticket of this hash.
    ///
    /// # Errors
    ///
    /// `queue_full` where as many wait as may.
    pub(crate) fn keep(
        &self,
        hash: SecretHash,
        principal: Principal,
        now: Instant,
    ) -> Result<(), Fault> {
        let mut kept = self.kept();
        kept.forget(now);
        let owner = owner_of(&principal);
        let of_one = kept.of_one.get(&owner).copied().unwrap_or_default();
        if of_one >= OF_ONE_MAX || kept.tickets.len() >= OF_ALL_MAX {
            let text = format!("{OF_ONE_MAX} tickets wait: use them, or let a minute pass");
            return Err(Fault::new(Code::QueueFull, text));
        }
        *kept.of_one.entry(owner).or_default() += 1;
        kept.ends.insert((now + LIFE, hash));
        kept.tickets.insert(hash, (now + LIFE, principal));
        Ok(())
    }

    /// Who the ticket of this hash lets in; from now on nobody.
    pub(crate) fn take(&self, hash: &SecretHash, now: Instant) -> Option<Principal> {
        let mut kept = self.kept();
        kept.forget(now);
        kept.remove(hash)
    }
}

/// The principal with what these grants leave of its rights, as they are now and will be.
///
/// # Errors
///
/// `not_allowed` where it has not a right that a grant would give; `bad_value` for a device, whose
/// rights are not made of grants.
pub(crate) fn lessen(principal: &Principal, grants: Vec<Grant>) -> Result<Principal, Fault> {
    if matches!(principal.identity, Identity::Device { .. }) {
        let text = "a device's ticket has its rights: leave grants out";
        return Err(Fault::new(Code::BadValue, text));
    }
    let beyond = grants.iter().find(|g| !g.deny && !principal.may(g.verb, &g.filter));
    if let Some(grant) = beyond {
        let text = format!("no right to hand on: {grant}");
        return Err(Fault::new(Code::NotAllowed, text));
    }
    Ok(Principal { only: Some(grants.into()), ..principal.clone() })
}

#[cfg(test)]
mod tests {
    use fieldgate_core::{
        access::{Role, Verb},
        topic::Filter,
    };

    use super::*;

    fn key(name: &str, grants: &[&str]) -> Principal {
        Principal {
            tenant: TenantId::default_tenant(),
            name: name.into(),
            identity: Identity::Key,
            role: None,
            grants: parsed(grants),
            only: None,
            proof: Some(1),
            expires: None,
        }
    }

    fn parsed(grants: &[&str]) -> Vec<Grant> {
        grants.iter().map(|grant| grant.parse().unwrap()).collect()
    }

    const fn hash(n: u16) -> SecretHash {
        let mut hash = [0; 32];
        [hash[0], hash[1]] = n.to_le_bytes();
        hash
    }

    #[test]
    fn a_ticket_lets_in_once_and_for_a_minute() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        for n in 0..2 {
            tickets.keep(hash(n), key("k", &[]), now).unwrap();
        }
        assert!(tickets.take(&hash(0), now).is_some() && tickets.take(&hash(0), now).is_none());
        assert!(tickets.take(&hash(1), now + LIFE).is_none());
        assert!(tickets.take(&hash(9), now).is_none());
        let kept = tickets.kept();
        assert!(kept.tickets.is_empty() && kept.ends.is_empty() && kept.of_one.is_empty());
    }

    #[test]
    fn one_who_takes_all_it_may_leaves_the_others_theirs_and_a_minute_later_may_again() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let count = u16::try_from(OF_ONE_MAX).unwrap();
        let keep = |n, name: &str, at| {
            tickets.keep(hash(n), key(name, &[]), at).map_err(|fault| fault.code)
        };
        (0..count).for_each(|n| keep(n, "a", now).unwrap());
        assert_eq!(keep(count, "a", now), Err(Code::QueueFull));
        assert_eq!(keep(count, "b", now), Ok(()));
        tickets.take(&hash(0), now).unwrap();
        assert_eq!(keep(count + 1, "a", now), Ok(()));
        assert_eq!(keep(count + 2, "a", now + LIFE), Ok(()));
        assert_eq!(tickets.kept().tickets.len(), 1);
    }

    #[test]
    fn all_together_have_a_bound_that_using_one_lifts() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let keep = |n: u16, at| tickets.keep(hash(n), key(&(n / 100).to_string(), &[]), at);
        (0..u16::try_from(OF_ALL_MAX).unwrap()).for_each(|n| keep(n, now).unwrap());
        assert!(keep(u16::MAX, now).is_err());
        tickets.take(&hash(7), now).unwrap();
        assert!(keep(u16::MAX, now).is_ok() && keep(u16::MAX - 1, now).is_err());
        assert!(keep(u16::MAX - 1, now + LIFE).is_ok());
    }

    #[test]
    fn a_ticket_may_no_more_than_its_maker() {
        let maker = key("k", &["subscribe:a/#", "!subscribe:a/secret"]);
        let lessened = |grants: &[&str]| lessen(&maker, parsed(grants));
        let wide = lessened(&["subscribe:a/+"]);
        assert_eq!(wide.unwrap_err().code, Code::NotAllowed, "it reaches into what is denied");
        for beyond in ["subscribe:b", "publish:a/b", "read:#"] {
            assert_eq!(lessened(&[beyond]).unwrap_err().code, Code::NotAllowed, "{beyond}");
        }
        let less = lessened(&["subscribe:a/b", "!subscribe:a/b/c"]).unwrap();
        let may = |filter: &str| less.may(Verb::Subscribe, &filter.parse::<Filter>().unwrap());
        assert!(may("a/b") && !may("a/c") && !may("a/secret"));
        assert_eq!((&less.name, less.proof), (&maker.name, maker.proof), "it ends with its maker");
        let admin = Principal { role: Some(Role::Admin), ..key("k", &[]) };
        let less = lessen(&admin, parsed(&["read:#"])).unwrap();
        assert!(!less.may(Verb::Admin, &"#".parse().unwrap()));
        let id = "d".parse().unwrap();
        let device =
            Principal { identity: Identity::Device { id, gateway_for: None }, ..key("d", &[]) };
        assert_eq!(lessen(&device, Vec::new()).unwrap_err().code, Code::BadValue);
    }
}
