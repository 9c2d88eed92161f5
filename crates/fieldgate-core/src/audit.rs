//! The catalogue of audited acts: every act that the audit can name, with its stable word.
//!
//! Pure. An act stands in one of two trails, so that what anybody can cause in any number never pushes
//! out what administrators did.

use std::{fmt, str::FromStr};

/// Where an act is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trail {
    /// What was changed by those who may.
    Admin,
    /// Who came and went, what devices say they are, and everything that was refused.
    Access,
}

impl Trail {
    /// Both, in the order in which they are told.
    pub const ALL: [Self; 2] = [Self::Admin, Self::Access];

    /// The word in an answer.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Access => "access",
        }
    }
}

impl FromStr for Trail {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|trail| trail.as_str() == text).ok_or(UnknownWord)
    }
}

/// A word that is in no list here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no such word in the audit")]
pub struct UnknownWord;

macro_rules! acts {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $trail:ident;)*) => {
        /// Something that is entered in the audit. Words are added, never renamed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Act {
            $($(#[$doc])* $name,)*
        }

        impl Act {
            /// Every act, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word in an entry.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// Where it is entered if it was done. What was refused is entered in
            /// [`Trail::Access`].
            #[must_use]
            pub const fn trail(self) -> Trail {
                match self { $(Self::$name => Trail::$trail,)* }
            }
        }
    };
}

acts! {
    /// A device was made.
    DeviceAdd = "device.add", Admin;
    /// A device was removed.
    DeviceRemove = "device.remove", Admin;
    /// All secrets of a device were replaced.
    DeviceRotate = "device.rotate", Admin;
    /// A device got one more secret.
    CredentialAdd = "credential.add", Admin;
    /// A secret of a device was removed.
    CredentialRemove = "credential.remove", Admin;
    /// Whether each frame of a device must be signed was changed.
    DeviceIntegrity = "device.integrity", Admin;
    /// The name, the kind, the groups of a device or what it may speak for were changed.
    DeviceEdit = "device.edit", Admin;
    /// The profile of a device was replaced.
    ProfileSet = "profile.set", Access;
    /// A scene was made or changed.
    SceneSet = "scene.set", Admin;
    /// A scene was removed.
    SceneRemove = "scene.remove", Admin;
    /// An API key was made.
    KeyAdd = "key.add", Admin;
    /// The rights or the end of an API key were changed.
    KeyEdit = "key.edit", Admin;
    /// An API key was revoked.
    KeyRevoke = "key.revoke", Admin;
    /// A person was entered.
    UserAdd = "user.add", Admin;
    /// A person's role was changed.
    UserEdit = "user.edit", Admin;
    /// A person was removed.
    UserRemove = "user.remove", Admin;
    /// A person's password was replaced.
    UserPassword = "user.password", Admin;
    /// A code to sign in with once was made.
    LoginLinkAdd = "login_link.add", Admin;
    /// Somebody signed in with a code.
    LoginLinkUse = "login_link.use", Access;
    /// Somebody signed in with a password.
    SignIn = "sign_in", Access;
    /// New tokens were asked for. Entered only if they were refused: whoever is signed in asks for
    /// them every few minutes.
    SignInRenew = "sign_in.renew", Access;
    /// A session was ended, by whom it is or because its token came a second time.
    SignOut = "sign_out", Access;
    /// A credential was presented. Entered only if it was wrong.
    Authenticate = "authenticate", Access;
    /// A connection was ended.
    ClientDisconnect = "client.disconnect", Admin;
    /// The configuration was read again.
    ConfigReload = "config.reload", Admin;
    /// The audit was read. Entered only if it was refused.
    AuditRead = "audit.read", Access;
    /// Something else that takes the right `admin`. Entered only if it was refused.
    AdminRead = "admin.read", Access;
    /// Refusals of more kinds in a minute than are told apart.
    Others = "others", Access;
    /// A group was made, or it or its devices changed.
    GroupSet = "group.set", Admin;
    /// A group was removed; its devices stayed.
    GroupRemove = "group.remove", Admin;
    /// A tenant was made.
    TenantAdd = "tenant.add", Admin;
    /// The limits of a tenant were replaced.
    TenantSet = "tenant.set", Admin;
    /// A tenant was removed.
    TenantRemove = "tenant.remove", Admin;
    /// An integration was made.
    IntegrationAdd = "integration.add", Admin;
    /// An integration was changed.
    IntegrationEdit = "integration.edit", Admin;
    /// An integration was paused.
    IntegrationPause = "integration.pause", Admin;
    /// An integration was resumed.
    IntegrationResume = "integration.resume", Admin;
    /// An integration was removed.
    IntegrationRemove = "integration.remove", Admin;
    /// The token of a source was replaced.
    IntegrationRotate = "integration.rotate", Admin;
    /// Messages are delivered again.
    IntegrationReplay = "integration.replay", Admin;
    /// A message that was set aside was forgotten.
    IntegrationDrop = "integration.drop", Admin;
    /// A target was tried.
    IntegrationTest = "integration.test", Admin;
    /// A code that makes a device was made.
    ActivationAdd = "activation.add", Admin;
    /// A code that makes a device was taken back.
    ActivationRemove = "activation.remove", Admin;
    /// A device was made with a code.
    ActivationUse = "activation.use", Access;
    /// Somebody entered themselves as a person of an app.
    AccountRegister = "account.register", Access;
    /// A person linked a thing, whose token they know.
    ThingLink = "thing.link", Access;
    /// A person ended such a link.
    ThingUnlink = "thing.unlink", Access;
    /// Apps may make keys for themselves on the deCONZ interface, for a while.
    DeconzUnlock = "deconz.unlock", Admin;
    /// An app got a key of the deCONZ interface.
    DeconzKeyAdd = "deconz_key.add", Admin;
    /// The key of an app was revoked.
    DeconzKeyRemove = "deconz_key.remove", Admin;
}

impl FromStr for Act {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.iter().copied().find(|act| act.as_str() == text).ok_or(UnknownWord)
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_names_one_act() {
        for act in Act::ALL {
            assert_eq!(act.as_str().parse(), Ok(*act));
        }
        for trail in Trail::ALL {
            assert_eq!(trail.as_str().parse(), Ok(trail));
        }
        assert_eq!("device".parse::<Act>(), Err(UnknownWord));
    }
}
