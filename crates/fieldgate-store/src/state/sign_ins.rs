//! What people are signed in with: how sessions begin, go on and end, and codes that are spent once.
//!
//! Called in seq order by the one thread that applies the log; conditions are decided here, when the
//! record's turn comes, by the time at which it arrived. Invariant: a refresh token makes new tokens
//! once, a code signs in once, and neither does after its end.

use std::sync::Arc;

use fieldgate_core::{
    access::Principal,
    fault::{Code, Fault},
    id::{TenantId, UnixMs},
};

use super::{
    Effect, State,
    tenants::{Inner, Owner, Tenant, no_such},
};
use crate::registry::{Access, SecretHash, Session, SignInBy, SignInStep, SignIns, proof_of};

/// Most sign-ins of a person; then the oldest ends.
const SESSIONS_MAX: usize = 32;
/// Most tokens to show of one session; then the oldest ends.
const ACCESS_MAX: usize = 4;
/// Most codes of a person; then the oldest ends.
const LINKS_MAX: usize = 8;

/// Whose a token or code is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The tenant.
    pub tenant: TenantId,
    /// The person.
    pub user: String,
    /// Their session; of a code that was not used yet, none.
    pub session: Option<Session>,
}

impl State {
    /// Whose sign-in this is the family, a token or a code of. Says nothing about its end.
    #[must_use]
    pub fn signed_in(&self, hash: &SecretHash) -> Option<SignedIn> {
        let inner = self.read();
        let Some(Owner::User(tenant, user)) = inner.owners.get(hash) else { return None };
        let sign_ins = inner.tenants.get(tenant)?.sign_ins.get(user)?;
        let is_of = |session: &&Session| {
            session.family == *hash || session.access.iter().any(|access| access.hash == *hash)
        };
        let session = sign_ins.sessions.iter().find(is_of).cloned();
        Some(SignedIn { tenant: tenant.clone(), user: user.clone(), session })
    }
}

impl Tenant {
    /// Who the person is by the token with this proof, while it holds.
    pub(super) fn signed_in(
        &self,
        tenant: &TenantId,
        name: &str,
        proof: u64,
        now: UnixMs,
    ) -> Option<Principal> {
        let user = self.users.get(name)?;
        let mut all = self.sign_ins.get(name)?.sessions.iter().flat_map(|session| &session.access);
        let access = all.find(|access| proof_of(&access.hash) == proof)?;
        let principal = || self.things.allow(name, user.principal(tenant, access));
        (now.0 < access.ends_ms).then(principal)
    }
}

impl SignIns {
    /// Forgets what is over, and the oldest of what is too many.
    fn tidy(&mut self, now: UnixMs) {
        self.sessions.retain(|session| now.0 < session.ends_ms);
        self.links.retain(|link| now.0 < link.ends_ms);
        drop_oldest(&mut self.sessions, SESSIONS_MAX);
        drop_oldest(&mut self.links, LINKS_MAX);
        for session in &mut self.sessions {
            session.access.retain(|access| now.0 < access.ends_ms);
            drop_oldest(&mut session.access, ACCESS_MAX);
        }
    }

    fn hashes(&self) -> impl Iterator<Item = &SecretHash> {
        let sessions = self.sessions.iter().flat_map(|session| {
            let access = session.access.iter().map(|access| &access.hash);
            std::iter::once(&session.family).chain(access)
        });
        sessions.chain(self.links.iter().map(|link| &link.hash))
    }

    fn spend_link(&mut self, hash: &SecretHash, now: UnixMs) -> Result<(), Fault> {
        let at = self.links.iter().position(|link| link.hash == *hash && now.0 < link.ends_ms);
        let at = at.ok_or_else(|| Fault::new(Code::Conflict, "this code is spent or over"))?;
        self.links.remove(at);
        Ok(())
    }

    fn session(&mut self, family: &SecretHash) -> Result<&mut Session, Fault> {
        let session = self.sessions.iter_mut().find(|session| session.family == *family);
        session.ok_or_else(|| Fault::new(Code::NotFound, "there is no such session"))
    }
}

impl Session {
    fn renew(
        &mut self,
        spent: &SecretHash,
        (refresh, ends_ms): (SecretHash, u64),
        access: Access,
        now: UnixMs,
    ) -> Result<(), Fault> {
        if self.refresh != *spent || self.ends_ms <= now.0 {
            return Err(Fault::new(Code::Conflict, "this token was used before, or is over"));
        }
        (self.refresh, self.ends_ms) = (refresh, ends_ms);
        self.access.push(access);
        Ok(())
    }
}

fn drop_oldest<T>(list: &mut Vec<T>, len_max: usize) {
    list.drain(..list.len().saturating_sub(len_max));
}

impl Inner {
    /// Puts these in the place of a person's sign-ins, in the table of owners too.
    pub(super) fn set_sign_ins(&mut self, tenant_id: &TenantId, name: &str, new: SignIns) {
        let tenant = self.tenants.entry(tenant_id.clone()).or_default();
        if let Some(old) = tenant.sign_ins.remove(name) {
            old.hashes().for_each(|hash| drop(self.owners.remove(hash)));
        }
        for hash in new.hashes() {
            self.owners.insert(*hash, Owner::User(tenant_id.clone(), name.to_owned()));
        }
        if new != SignIns::default() {
            tenant.sign_ins.insert(name.to_owned(), Arc::new(new));
        }
    }

    /// Applies a change of what a person is let in with.
    pub(super) fn change_sign_ins(
        &mut self,
        tenant_id: &TenantId,
        name: &str,
        step: &SignInStep,
        now: UnixMs,
    ) -> Result<Vec<Effect>, Fault> {
        let tenant = self.tenants.entry(tenant_id.clone()).or_default();
        let user = tenant.users.get(name).ok_or_else(|| no_such("user", name))?;
        let mut new = tenant.sign_ins.get(name).map(|known| (**known).clone()).unwrap_or_default();
        match step {
            SignInStep::Begin { by: SignInBy::Password(kept), .. } if *kept != user.password => {
                return Err(Fault::new(Code::Conflict, "the password was replaced"));
            }
            SignInStep::Begin { by, session } => {
                if let SignInBy::Link(hash) = by {
                    new.spend_link(hash, now)?;
                }
                new.sessions.push(session.clone());
            }
            SignInStep::Renew { family, spent, refresh, ends_ms, access } => {
                new.session(family)?.renew(spent, (*refresh, *ends_ms), *access, now)?;
            }
            SignInStep::End(family) => {
                new.session(family)?;
                new.sessions.retain(|session| session.family != *family);
            }
            SignInStep::Link(link) => new.links.push(*link),
        }
        new.tidy(now);
        self.set_sign_ins(tenant_id, name, new);
        // What was too many or ended may have opened connections.
        let name = format!("user:{name}").into();
        Ok(vec![Effect::RightsChanged { tenant: tenant_id.clone(), name }])
    }
}

#[cfg(test)]
mod tests {
    use fieldgate_core::id::Seq;

    use super::*;
    use crate::{
        port::Followed,
        record::{Entry, Record},
        registry::{Change, LoginLink, RegistryChange, User},
        secret::{MasterKey, PasswordHash, hash_password},
        state::{StateLimits, changes::RowKey},
    };

    /// A state in which ada is known, and the number of its last record.
    struct Life {
        state: State,
        seq: u64,
        password: PasswordHash,
    }

    fn hash(number: u8) -> SecretHash {
        [number; 32]
    }

    fn access(number: u8, ends_ms: u64) -> Access {
        Access { hash: hash(number), ends_ms }
    }

    fn session(number: u8, ends_ms: u64) -> Session {
        let (family, refresh) = (hash(number), hash(number + 1));
        Session { family, refresh, ends_ms, access: vec![access(number + 2, ends_ms)] }
    }

    impl Life {
        fn begin() -> Self {
            let state = State::new(MasterKey::ephemeral().unwrap(), StateLimits::default());
            let password = hash_password("correct horse").unwrap();
            let mut life = Self { state, seq: 0, password: password.clone() };
            let (name, role) = ("ada".to_owned(), "viewer".to_owned());
            life.at(0, Change::UserAdd(User { name, role, password })).unwrap();
            life
        }

        /// Applies a change that arrives at this time.
        fn at(&mut self, ms: u64, change: Change) -> Result<Vec<Effect>, Fault> {
            self.seq += 1;
            let change = RegistryChange::local("default", change);
            let record = Record::Registry(Box::new(change));
            let entry = Entry { seq: Seq(self.seq), arrived: UnixMs(ms), record };
            let effects = self.state.apply(&Followed::Entry(Arc::new(entry)));
            self.state.outcome(Seq(self.seq)).unwrap().map(|()| effects)
        }

        fn step(&mut self, ms: u64, step: SignInStep) -> Result<Vec<Effect>, Fault> {
            self.at(ms, Change::SignIns { user: "ada".to_owned(), step })
        }

        fn sign_in(&mut self, ms: u64, number: u8) -> Result<Vec<Effect>, Fault> {
            let by = SignInBy::Password(self.password.clone());
            self.step(ms, SignInStep::Begin { by, session: session(number, ms + 100) })
        }

        fn renew(
            &mut self,
            ms: u64,
            family: u8,
            spent: u8,
            next: u8,
        ) -> Result<Vec<Effect>, Fault> {
            let (family, spent, refresh) = (hash(family), hash(spent), hash(next));
            let (ends_ms, access) = (ms + 100, access(next + 1, ms + 10));
            self.step(ms, SignInStep::Renew { family, spent, refresh, ends_ms, access })
        }

        fn who(&self, ms: u64, number: u8) -> Option<Principal> {
            self.state.read().owner_of(&hash(number), UnixMs(ms))
        }
    }

    #[test]
    fn a_token_holds_until_its_end_and_names_its_person() {
        let mut life = Life::begin();
        life.sign_in(0, 10).unwrap();
        let ada = life.who(99, 12).unwrap();
        assert_eq!((&*ada.name, ada.expires), ("user:ada", Some(UnixMs(100))));
        assert_eq!(life.state.refresh(&ada, UnixMs(99)), Some(ada.clone()));
        assert_eq!(life.state.refresh(&ada, UnixMs(100)), None);
        assert!(life.who(100, 12).is_none());
        assert!(life.who(0, 10).is_none() && life.who(0, 11).is_none(), "these show nobody");
    }

    #[test]
    fn a_refresh_token_is_used_once_and_not_after_its_end() {
        let mut life = Life::begin();
        life.sign_in(0, 10).unwrap();
        life.renew(50, 10, 11, 20).unwrap();
        assert!(life.who(55, 12).is_some() && life.who(55, 21).is_some(), "both hold");
        assert_eq!(life.renew(55, 10, 11, 30).unwrap_err().code, Code::Conflict);
        assert!(life.who(55, 21).is_some() && life.who(55, 31).is_none());
        assert_eq!(life.renew(150, 10, 20, 30).unwrap_err().code, Code::Conflict);
        assert_eq!(life.renew(50, 40, 20, 30).unwrap_err().code, Code::NotFound);
    }

    #[test]
    fn a_code_signs_in_once_and_not_after_its_end() {
        let mut life = Life::begin();
        let link = LoginLink { hash: hash(1), ends_ms: 10 };
        let by_link = |number| SignInStep::Begin {
            by: SignInBy::Link(hash(1)),
            session: session(number, 1_000),
        };
        life.step(0, SignInStep::Link(link)).unwrap();
        assert_eq!(life.step(10, by_link(10)).unwrap_err().code, Code::Conflict);
        life.step(9, by_link(20)).unwrap();
        assert_eq!(life.step(9, by_link(30)).unwrap_err().code, Code::Conflict);
        assert!(life.who(9, 22).is_some() && life.who(9, 32).is_none());
        let nobody = Change::SignIns { user: "bob".to_owned(), step: SignInStep::Link(link) };
        assert_eq!(life.at(9, nobody).unwrap_err().code, Code::NotFound);
    }

    #[test]
    fn with_the_person_or_the_password_everything_ends() {
        let end: [fn(PasswordHash) -> Change; 3] = [
            |_| Change::UserRemove("ada".to_owned()),
            |password| Change::UserPassword { name: "ada".to_owned(), password },
            |_| Change::SignIns { user: "ada".to_owned(), step: SignInStep::End(hash(10)) },
        ];
        for (at, end) in end.into_iter().enumerate() {
            let mut life = Life::begin();
            life.sign_in(0, 10).unwrap();
            let ada = life.who(1, 12).unwrap();
            let effects = life.at(1, end(life.password.clone())).unwrap();
            assert!(matches!(&effects[..], [Effect::RightsChanged { .. }]), "{at}");
            assert!(life.who(1, 12).is_none() && life.state.signed_in(&hash(10)).is_none());
            assert_eq!(life.state.refresh(&ada, UnixMs(1)), None);
        }
    }

    #[test]
    fn what_was_written_down_holds_after_a_restart() {
        let mut life = Life::begin();
        life.sign_in(0, 10).unwrap();
        let again = State::new(MasterKey::ephemeral().unwrap(), StateLimits::default());
        let snapshot = life.state.snapshot(&life.state.changes());
        snapshot.rows.into_iter().for_each(|(key, row)| again.restore(key, row));
        life.state = again;
        assert!(life.who(1, 12).is_some());
        life.renew(1, 10, 11, 20).unwrap();
        // And what ended is no row any more.
        life.at(2, Change::UserRemove("ada".to_owned())).unwrap();
        let of_a_person = |key: &RowKey| !matches!(key, RowKey::Audit(..));
        let rows = life.state.snapshot(&life.state.changes()).rows;
        assert!(!rows.iter().any(|(key, _)| of_a_person(key)), "{rows:?}");
        let mut changed = life.state.changes().rows.clone();
        changed.retain(|key, _| of_a_person(key));
        assert!(changed.len() == 3 && changed.values().all(Option::is_none), "{changed:?}");
    }

    #[test]
    fn a_password_that_was_replaced_meanwhile_signs_nobody_in() {
        let mut life = Life::begin();
        let password = hash_password("another horse").unwrap();
        life.at(0, Change::UserPassword { name: "ada".to_owned(), password }).unwrap();
        assert_eq!(life.sign_in(1, 10).unwrap_err().code, Code::Conflict);
    }

    #[test]
    fn what_a_person_has_is_bounded_and_the_oldest_ends() {
        let mut life = Life::begin();
        for number in 0..=u8::try_from(SESSIONS_MAX).unwrap() {
            life.sign_in(0, 3 * number).unwrap();
        }
        assert!(life.who(0, 2).is_none() && life.who(0, 5).is_some());
        let owners = life.state.read().owners.len();
        assert_eq!(owners, SESSIONS_MAX * 2);
        for turn in 0..6 {
            life.renew(0, 3, if turn == 0 { 4 } else { 150 + 2 * (turn - 1) }, 150 + 2 * turn)
                .unwrap();
        }
        let kept = (0..6).filter(|turn| life.who(0, 151 + 2 * turn).is_some()).count();
        assert_eq!(kept, ACCESS_MAX);
        // What is over is forgotten with the next change.
        life.sign_in(100, 240).unwrap();
        assert_eq!(life.state.read().owners.len(), 2);
    }
}
