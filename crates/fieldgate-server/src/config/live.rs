//! The configuration in force, and what becomes of it when it is read again.
//!
//! Whoever looks at a value needs neither a lock nor a count: a new configuration takes the next of a
//! bounded number of places, and those before it stay until the process ends.

use std::{
    ops::Deref,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    Config,
    about::{self, look, put, table_of},
};

/// How often a configuration can change without a restart.
const CHANGES_MAX: usize = 256;

/// What reading the configuration again brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloaded {
    /// Keys whose new values hold now.
    pub changed: Vec<String>,
    /// Keys whose new values need a restart.
    pub needs_restart: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct LiveConfig {
    first: Box<Config>,
    later: Vec<OnceLock<Box<Config>>>,
    /// How many of `later` are set; the last of them holds.
    count: AtomicUsize,
    /// Held by whoever changes it.
    changing: Mutex<()>,
}

impl Deref for LiveConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        let place = self.count.load(Ordering::Acquire).checked_sub(1);
        let later = place.and_then(|place| self.later.get(place)?.get());
        later.unwrap_or(&self.first)
    }
}

impl From<Config> for LiveConfig {
    fn from(config: Config) -> Self {
        Self {
            first: Box::new(config),
            later: (0..CHANGES_MAX).map(|_| OnceLock::new()).collect(),
            count: AtomicUsize::new(0),
            changing: Mutex::default(),
        }
    }
}

impl LiveConfig {
    /// Takes a configuration that was read again: what may change does, and the rest is named.
    pub(crate) fn reload(&self, new: &Config) -> Reloaded {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, after) = (table_of(self), table_of(new));
        let mut told = Reloaded::default();
        let mut next = after.clone();
        for key in about::keys() {
            let (old, new) = (look(&before, &key.path), look(&after, &key.path));
            if old == new {
                continue;
            }
            if key.is_live() {
                told.changed.push(key.path);
                continue;
            }
            put(&mut next, &key.path, old.cloned());
            told.needs_restart.push(key.path);
        }
        if told.changed.is_empty() {
            return told;
        }
        let place = self.count.load(Ordering::Acquire);
        let next = toml::Value::Table(next).try_into::<Config>().map(Box::new);
        let set = next
            .is_ok_and(|next| self.later.get(place).is_some_and(|place| place.set(next).is_ok()));
        if set {
            self.count.store(place + 1, Ordering::Release);
        } else {
            told.needs_restart.append(&mut told.changed);
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(auth_ms: u64, http: &str) -> Config {
        let mut config = Config::default();
        config.limits.auth_ms = auth_ms;
        config.listen.http = vec![http.to_owned()];
        config
    }

    #[test]
    fn what_may_change_holds_at_once_and_the_rest_stays_until_a_restart() {
        let live = LiveConfig::from(config(1, "a:1"));
        let told = live.reload(&config(2, "b:1"));
        assert_eq!(
            (told.changed, told.needs_restart),
            (vec!["limits.auth_ms".to_owned()], vec!["listen.http".to_owned()],)
        );
        assert_eq!((live.limits.auth_ms, &live.listen.http), (2, &vec!["a:1".to_owned()]));
        // It is told again until somebody restarts, or takes it back.
        let told = live.reload(&config(2, "b:1"));
        assert_eq!((told.changed, told.needs_restart.len()), (Vec::new(), 1));
        assert_eq!(live.reload(&config(2, "a:1")), Reloaded::default());
    }

    #[test]
    fn more_changes_than_there_are_places_need_a_restart() {
        let live = LiveConfig::from(config(0, "a:1"));
        for auth_ms in 1..=CHANGES_MAX as u64 {
            assert_eq!(live.reload(&config(auth_ms, "a:1")).changed.len(), 1);
        }
        assert_eq!(live.reload(&config(9_999, "a:1")).needs_restart, ["limits.auth_ms"]);
        assert_eq!(live.limits.auth_ms, CHANGES_MAX as u64);
    }
}
