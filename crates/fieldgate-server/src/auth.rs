//! Tokens of outside issuers: whose they are, whether they hold, and who presents them.
//!
//! A token names its issuer; everything else is decided by what the configuration says of that one:
//! the algorithm, the kind of key, the audience, the tenant, the rights. Why a token is refused goes
//! to the log at `debug`; who presented it is told the same words for every reason.

mod address;
mod keys;
mod passwords;
mod provider;
mod token;

use fieldgate_core::{
    access::Principal,
    fault::{Code, Fault},
    id::UnixMs,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::AuthConfig;
pub(crate) use address::check_email;
pub(crate) use passwords::Turn;
use provider::{Provider, Tempo};

/// Why a token was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotTaken {
    /// It is worth nothing.
    Wrong(&'static str),
    /// Nobody can tell: the keys of its issuer never came.
    NoKeys,
}

/// The outside issuers.
#[derive(Debug)]
pub(crate) struct Auth {
    providers: Vec<Provider>,
    /// Ends what asks them for their keys.
    _asking: Option<DropGuard>,
}

impl Auth {
    /// Reads the keys that are files, and begins to ask for the others. With issuers that are asked,
    /// called on a runtime.
    pub(crate) fn open(config: &AuthConfig) -> std::io::Result<Self> {
        Self::at_tempo(config, Tempo::default())
    }

    fn at_tempo(config: &AuthConfig, tempo: Tempo) -> std::io::Result<Self> {
        let stop = CancellationToken::new();
        let open = |issuer| Provider::open(issuer, tempo, &stop);
        let providers = config.issuers.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let asking = (!providers.is_empty()).then(|| stop.drop_guard());
        Ok(Self { providers, _asking: asking })
    }

    /// Whether this may be a token of an outside issuer. No credential of our own looks like one.
    pub(crate) fn concerns(&self, token: &str) -> bool {
        !self.providers.is_empty() && token.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Who presents this token; nobody if it is worth nothing. Waits for its issuer's keys where they
    /// are on their way.
    ///
    /// # Errors
    ///
    /// `busy`: nobody can tell, because these keys never came.
    pub(crate) async fn verify(
        &self,
        token: &str,
        now: UnixMs,
    ) -> Result<Option<Principal>, Fault> {
        match self.principal(token, now).await {
            Ok(principal) => Ok(Some(principal)),
            Err(NotTaken::Wrong(why)) => {
                tracing::debug!(why, "a token was refused");
                Ok(None)
            }
            Err(NotTaken::NoKeys) => {
                Err(Fault::new(Code::Busy, "the issuer of this token does not answer"))
            }
        }
    }

    async fn principal(&self, token: &str, now: UnixMs) -> Result<Principal, NotTaken> {
        let claimed = token::claimed(token).map_err(NotTaken::Wrong)?;
        let provider = self.providers.iter().find(|provider| provider.is(&claimed.issuer));
        let provider = provider.ok_or(NotTaken::Wrong("no such issuer is configured"))?;
        let key = provider.key(claimed.key_id.as_deref()).await?;
        token::verify(provider.issuer(), token, &key, now).map_err(NotTaken::Wrong)
    }
}

#[cfg(test)]
mod tests;
