//! Passwords, hashed and compared where nobody else waits for it.
//!
//! Each takes a core and 19 MiB for tens of milliseconds: at most [`AT_ONCE_MAX`] at a time, off the
//! runtime's threads. Bounded: so many wait for their turn, the rest is told to come back.

use std::sync::LazyLock;

use fieldgate_core::fault::{Code, Fault};
use fieldgate_store::secret::{PasswordHash, hash_password, verify_password};
use tokio::sync::{Semaphore, SemaphorePermit};

const AT_ONCE_MAX: usize = 2;
const WAITING_MAX: usize = 64;

static AT_ONCE: Semaphore = Semaphore::const_new(AT_ONCE_MAX);
static WAITING: Semaphore = Semaphore::const_new(WAITING_MAX);
/// Compared with where there is nobody of a name, so that this takes as long.
static NOBODY: LazyLock<Option<PasswordHash>> = LazyLock::new(|| hash_password("nobody's").ok());

fn busy(text: &'static str) -> Fault {
    Fault::new(Code::Busy, text)
}

/// Whether a password is the one that is kept. The work is the same where none is.
fn fits(password: &str, kept: Option<&PasswordHash>) -> bool {
    let compared = kept.or(NOBODY.as_ref());
    compared.is_some_and(|compared| verify_password(password, compared)) && kept.is_some()
}

/// The right to hash or compare one password.
#[derive(Debug)]
pub(crate) struct Turn(SemaphorePermit<'static>);

impl Turn {
    /// Waits for a turn.
    ///
    /// # Errors
    ///
    /// `busy`: too many wait already.
    pub(crate) async fn wait() -> Result<Self, Fault> {
        let full = |_| busy("too many passwords wait to be looked at: try again");
        let _waiting = WAITING.try_acquire().map_err(full)?;
        let permit = AT_ONCE.acquire().await;
        permit.map(Self).map_err(|_| busy("passwords are not looked at any more"))
    }

    /// Hashes a password.
    pub(crate) async fn hash(self, password: String) -> Result<PasswordHash, Fault> {
        let hash = self.work(move || hash_password(&password)).await?;
        hash.map_err(|error| Fault::new(Code::Busy, error.to_string()))
    }

    /// Whether a password is the one that is kept; with none kept, after the same work, never.
    pub(crate) async fn verify(
        self,
        password: String,
        kept: Option<PasswordHash>,
    ) -> Result<bool, Fault> {
        self.work(move || fits(&password, kept.as_ref())).await
    }

    /// Which of those that are kept a password is, if any; after the work for `count` of them,
    /// however many there are.
    pub(crate) async fn find(
        self,
        password: String,
        kept: Vec<PasswordHash>,
        count: usize,
    ) -> Result<Option<usize>, Fault> {
        self.work(move || {
            let looked_at = kept.len().max(count);
            let each = (0..looked_at).map(|nth| fits(&password, kept.get(nth)));
            // All of them are looked at, also behind the right one.
            each.enumerate().fold(None, |found, (nth, fits)| found.or(fits.then_some(nth)))
        })
        .await
    }

    async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        // Who asked may be gone before the work is done: the turn is the work's.
        let work = tokio::task::spawn_blocking(move || {
            let _turn = self.0;
            work()
        });
        work.await.map_err(|_| busy("a password could not be looked at"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};

    use super::*;

    #[test]
    fn nobody_costs_as_much_as_somebody() {
        let kept = hash_password("correct horse").unwrap();
        LazyLock::force(&NOBODY);
        // What this thread worked, however busy the machine is.
        let worked = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
        let cost = |kept: Option<&PasswordHash>| {
            let once = || {
                let before = worked();
                assert!(!fits("a wrong guess", kept));
                worked().saturating_sub(before)
            };
            (0..5).map(|_| once()).min().unwrap()
        };
        // A machine that is slow for a while slows one of them at times; a shorter way is always shorter.
        let mut costs = Vec::new();
        let is_alike = (0..20).any(|_| {
            let (somebody, nobody) = (cost(Some(&kept)), cost(None));
            costs.push((somebody, nobody));
            nobody * 2 > somebody && somebody * 2 > nobody
        });
        assert!(is_alike, "{costs:?}");
    }

    #[tokio::test]
    async fn of_several_the_one_that_fits_is_found_whatever_its_place() {
        let turn = || async { Turn::wait().await.unwrap() };
        let mut kept = Vec::new();
        for password in ["first horse", "second horse"] {
            kept.push(turn().await.hash(password.to_owned()).await.unwrap());
        }
        for (password, expected) in
            [("first horse", Some(0)), ("second horse", Some(1)), ("nobody's", None), ("", None)]
        {
            let found = turn().await.find(password.to_owned(), kept.clone(), 3).await.unwrap();
            assert_eq!(found, expected, "{password}");
        }
        let none = turn().await.find("first horse".to_owned(), Vec::new(), 1).await.unwrap();
        assert_eq!(none, None);
    }

    #[tokio::test]
    async fn a_password_fits_its_own_hash_and_nobody_has_one() {
        let turn = || async { Turn::wait().await.unwrap() };
        let kept = turn().await.hash("correct horse".to_owned()).await.unwrap();
        let verify = |text: &str, kept: Option<PasswordHash>| {
            let text = text.to_owned();
            async move { turn().await.verify(text, kept).await.unwrap() }
        };
        assert!(verify("correct horse", Some(kept.clone())).await);
        assert!(!verify("correct house", Some(kept)).await);
        assert!(!verify("nobody's", None).await);
    }
}
