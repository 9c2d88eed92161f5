//! People, and what lets them in.
//!
//! Types only; `state` applies changes in seq order. Secrets are here as hashes alone.

use fieldgate_core::{
    access::{Identity, Principal, Role},
    id::{TenantId, UnixMs},
};
use serde::{Deserialize, Serialize};

use super::{SecretHash, proof_of};
use crate::secret::PasswordHash;

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Their name, unique in the tenant.
    pub name: String,
    /// Their role, as text.
    pub role: String,
    /// What is kept of their password.
    pub password: PasswordHash,
}

/// What lets a person in beside their password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct SignIns {
    /// What they are signed in with, oldest first.
    pub sessions: Vec<Session>,
    /// Codes to sign in with once.
    pub links: Vec<LoginLink>,
}

/// One sign-in: a family of tokens, each made with the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The family.
    pub family: SecretHash,
    /// The token that the next ones are made with, once.
    pub refresh: SecretHash,
    /// It ends then, in Unix ms, unless tokens are made before.
    pub ends_ms: u64,
    /// The tokens that requests and connections show, newest last.
    pub access: Vec<Access>,
}

/// A token of a session that requests and connections show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The token.
    pub hash: SecretHash,
    /// Worthless from this time on, in Unix ms.
    pub ends_ms: u64,
}

/// A code to sign in with once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginLink {
    /// The code.
    pub hash: SecretHash,
    /// Worthless from this time on, in Unix ms.
    pub ends_ms: u64,
}

/// What a sign-in was granted for; looked at again when its turn comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignInBy {
    /// The password, as it was kept when it was compared.
    Password(PasswordHash),
    /// A code, which is spent by this.
    Link(SecretHash),
}

/// How what a person is let in with changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignInStep {
    /// They sign in; refused unless what they did it with still holds.
    Begin {
        /// With what.
        by: SignInBy,
        /// What they get.
        session: Session,
    },
    /// New tokens of a session; refused unless the old one was not used before.
    Renew {
        /// Which session.
        family: SecretHash,
        /// The token that the new ones are made with.
        spent: SecretHash,
        /// The one in its place.
        refresh: SecretHash,
        /// When the session ends now, in Unix ms.
        ends_ms: u64,
        /// The new token to show.
        access: Access,
    },
    /// A session ends, with all of its tokens.
    End(SecretHash),
    /// They may sign in once with a code.
    Link(LoginLink),
}

impl User {
    /// Who a connection is that this token of the person opened.
    #[must_use]
    pub fn principal(&self, tenant: &TenantId, access: &Access) -> Principal {
        Principal {
            tenant: tenant.clone(),
            name: format!("user:{}", self.name).into(),
            identity: Identity::User,
            role: self.role.parse::<Role>().ok(),
            grants: Vec::new(),
            only: None,
            proof: Some(proof_of(&access.hash)),
            expires: Some(UnixMs(access.ends_ms)),
        }
    }
}
