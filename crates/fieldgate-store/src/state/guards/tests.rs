//! Claims are taken once, whatever is read again; tokens open nothing that must be signed.

use fieldgate_core::{id::Seq, replay::WINDOW_MS};

use super::*;
use crate::{
    port::Followed,
    record::{Entry, Record},
    registry::{Device, RegistryChange},
    secret::{MasterKey, work},
};

const NOW: UnixMs = UnixMs(1_000_000);
const SECRET: &str = "a secret to sign with";

/// A state, and the number of its last record.
struct Life {
    state: State,
    seq: u64,
    changes: Vec<Arc<Entry>>,
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn lamp() -> DeviceId {
    "lamp".parse().unwrap()
}

impl Life {
    fn begin() -> Self {
        let state = State::new(MasterKey::ephemeral().unwrap(), StateLimits::default());
        Self { state, seq: 0, changes: Vec::new() }
    }

    fn change_at(&mut self, arrived: UnixMs, change: Change) -> Result<(), Code> {
        self.seq += 1;
        let change = RegistryChange { tenant: "default".to_owned(), change, author: None };
        let record = Record::Registry(Box::new(change));
        let entry = Arc::new(Entry { seq: Seq(self.seq), arrived, record });
        self.changes.push(Arc::clone(&entry));
        self.state.apply(&Followed::Entry(entry));
        self.state.outcome(Seq(self.seq)).unwrap().map_err(|fault| fault.code)
    }

    fn change(&mut self, change: Change) -> Result<(), Code> {
        self.change_at(NOW, change)
    }

    fn secret(&self, credential: &str, secret: &str) -> HmacSecret {
        let key = self.state.master_key();
        HmacSecret {
            credential: credential.to_owned(),
            hash: key.hash_signing(&tenant(), &lamp(), secret),
            sealed: key.seal_signing(&tenant(), &lamp(), credential, secret).unwrap(),
        }
    }

    /// The lamp, which signs.
    fn with_lamp(integrity: bool) -> Self {
        let mut life = Self::begin();
        let device = Device { id: "lamp".to_owned(), ..Device::default() };
        let (secret, describing) = (life.secret("hmac-1", SECRET), true);
        let add = Change::DeviceAddSigning { device, secret, describing, integrity };
        assert_eq!(life.change(add), Ok(()));
        life
    }

    fn claim(&mut self, nonce: u8, time: UnixMs, at: UnixMs) -> Result<(), Code> {
        let (device, nonce) = ("lamp".to_owned(), [nonce; 16]);
        self.change_at(at, Change::ClaimTaken { device, nonce, timestamp_ms: time.0 })
    }

    /// The secrets that a claim is tried with, as text.
    fn secrets(&self) -> Vec<String> {
        let all = self.state.signing_secrets(&tenant(), &lamp());
        assert_eq!(all.len(), SIGNING_MAX);
        let known = all.into_iter().filter(|one| one.proof.is_some());
        known.map(|one| String::from_utf8(one.secret).unwrap()).collect()
    }

    fn proof(&self) -> Option<u64> {
        self.state.signing_secrets(&tenant(), &lamp())[0].proof
    }

    /// Whether a token of the lamp opens anything.
    fn opens(&self, token: &str) -> bool {
        let lamp = lamp();
        let verify = |device| self.state.verify_token(&tenant(), device, token, NOW).is_some();
        verify(Some(&lamp)) || verify(None)
    }

    fn add_token(&mut self, token: &str) -> Result<(), Code> {
        let hash = self.state.master_key().hash(token);
        let (device, credential) = ("lamp".to_owned(), format!("token-{token}"));
        self.change(Change::CredentialAdd { device, credential, hash, describing: false })
    }
}

#[test]
fn a_claim_is_taken_once_and_the_log_read_again_says_the_same() {
    let mut life = Life::with_lamp(false);
    assert_eq!(life.claim(1, NOW, NOW), Ok(()));
    assert_eq!(life.claim(1, NOW, NOW), Err(Code::Replayed));
    assert_eq!(life.claim(2, UnixMs(NOW.0 - WINDOW_MS - 1), NOW), Err(Code::Replayed));
    assert_eq!(life.claim(3, NOW, NOW), Ok(()));
    // A master key of another process: what claims were taken does not depend on it.
    let again = State::new(MasterKey::ephemeral().unwrap(), StateLimits::default());
    for entry in &life.changes {
        again.apply(&Followed::Entry(Arc::clone(entry)));
        assert_eq!(again.outcome(entry.seq), life.state.outcome(entry.seq));
    }
    assert_eq!(again.guard(&tenant(), &lamp()), life.state.guard(&tenant(), &lamp()));
    let check = |nonce| again.check_claim(&tenant(), &lamp(), &[nonce; 16], NOW, NOW);
    assert_eq!((check(1), check(9)), (Err(Replay::Seen), Ok(())));
}

#[test]
fn more_claims_than_are_remembered_raise_the_time_from_which_they_are_taken() {
    let mut life = Life::with_lamp(false);
    let time = |n: u64| UnixMs(NOW.0 + n);
    let nonce = |n: u64| {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&n.to_le_bytes());
        nonce
    };
    for n in 0..=CLAIMS_MAX as u64 {
        let (device, timestamp_ms) = ("lamp".to_owned(), time(n).0);
        let claim = Change::ClaimTaken { device, nonce: nonce(n), timestamp_ms };
        assert_eq!(life.change(claim), Ok(()));
    }
    for n in 0..=CLAIMS_MAX as u64 {
        let taken = life.state.check_claim(&tenant(), &lamp(), &nonce(n), time(n), NOW);
        assert!(taken.is_err(), "{n} would be taken again");
    }
    assert!(life.state.guard(&tenant(), &lamp()).unwrap().nonces.parts().1.len() <= CLAIMS_MAX);
}

#[test]
fn where_each_frame_must_be_signed_no_token_opens_anything() {
    let mut life = Life::with_lamp(true);
    assert_eq!(life.add_token("one"), Ok(()));
    assert!(!life.opens("one") && !life.opens(SECRET), "nor does the secret as a token");
    let signed = life.state.signing_device(&tenant(), &lamp(), life.proof().unwrap()).unwrap();
    assert_eq!(life.state.refresh(&signed, NOW), Some(signed.clone()));
    let required = |required| Change::Integrity { device: "lamp".to_owned(), required };
    assert_eq!(life.change(required(false)), Ok(()));
    assert!(life.opens("one"));
    let by_token = life.state.verify_token(&tenant(), None, "one", NOW).unwrap();
    assert_eq!(life.change(required(true)), Ok(()));
    assert_eq!(life.state.refresh(&by_token, NOW), None, "what the token opened ends");
    assert!(life.state.refresh(&signed, NOW).is_some());
    let credential = "hmac-1".to_owned();
    let remove = Change::CredentialRemove { device: "lamp".to_owned(), credential };
    assert_eq!(life.change(remove), Ok(()));
    assert_eq!(life.state.refresh(&signed, NOW), None);
    assert!(life.secrets().is_empty() && !life.opens("one"), "it is open to nobody");
}

#[test]
fn only_who_can_sign_can_be_made_to() {
    let mut life = Life::begin();
    let required = || Change::Integrity { device: "lamp".to_owned(), required: true };
    assert_eq!(life.change(required()), Err(Code::NotFound));
    let device = Device { id: "lamp".to_owned(), ..Device::default() };
    life.change(Change::DeviceAdd(device)).unwrap();
    assert_eq!(life.change(required()), Err(Code::Conflict));
    assert_eq!(life.claim(1, NOW, NOW), Err(Code::NotFound));
}

#[test]
fn secrets_are_added_up_to_a_bound_rotated_and_gone_with_their_device() {
    let mut life = Life::with_lamp(false);
    let add = |life: &Life, nth: usize| Change::SigningAdd {
        device: "lamp".to_owned(),
        secret: life.secret(&format!("hmac-{nth}"), &format!("{SECRET} {nth}")),
        describing: false,
    };
    for nth in 2..=SIGNING_MAX {
        let change = add(&life, nth);
        assert_eq!(life.change(change), Ok(()));
    }
    assert_eq!(life.secrets()[3], format!("{SECRET} 4"));
    let change = add(&life, 9);
    assert_eq!(life.change(change), Err(Code::QueueFull));
    let (device, secret) = ("lamp".to_owned(), life.secret("hmac-9", "another secret"));
    assert_eq!(life.change(Change::SigningRotate { device, secret }), Ok(()));
    assert_eq!(life.secrets(), ["another secret"]);
    let proof = life.proof().unwrap();
    let principal = life.state.signing_device(&tenant(), &lamp(), proof).unwrap();
    assert_eq!(principal.grants.len(), 1, "it may still replace the profile");
    let hash = life.state.master_key().hash("t");
    let (id, credential) = ("lamp".to_owned(), "token-1".to_owned());
    assert_eq!(life.change(Change::DeviceRotate { id, credential, hash }), Ok(()));
    assert_eq!(life.state.guard(&tenant(), &lamp()), None);
    let mut life = Life::with_lamp(true);
    life.claim(1, NOW, NOW).unwrap();
    life.change(Change::DeviceRemove("lamp".to_owned())).unwrap();
    assert_eq!(life.state.guard(&tenant(), &lamp()), None);
}

#[test]
fn a_wrong_credential_costs_the_same_work_as_one_of_nobody() {
    let mut life = Life::with_lamp(false);
    life.add_token("known").unwrap();
    life.add_token("second").unwrap();
    let bob: DeviceId = "bob".parse().unwrap();
    let work_of = |device: Option<&DeviceId>, token: &str| {
        work::of(|| life.state.verify_token(&tenant(), device, token, NOW)).1
    };
    assert_eq!(work_of(Some(&lamp()), "wrong"), work_of(Some(&bob), "wrong"));
    assert_eq!(work_of(Some(&lamp()), "known"), work_of(Some(&bob), "known"));
    assert_eq!(work_of(None, "wrong"), work_of(None, "known"));
    let other: TenantId = "other".parse().unwrap();
    let opened = |tenant: &TenantId, device: &DeviceId| {
        work::of(|| life.state.signing_secrets(tenant, device)).1
    };
    assert_eq!(opened(&tenant(), &lamp()), SIGNING_MAX as u64);
    assert_eq!(opened(&tenant(), &bob), SIGNING_MAX as u64);
    assert_eq!(opened(&other, &bob), SIGNING_MAX as u64);
}
