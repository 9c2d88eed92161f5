//! A simulated folder with seeded faults: short and torn writes, lost unsynced pages, errors on
//! read, write and sync, a full disk, flipped bits, a crash at any call.
//!
//! A failed sync marks its pages clean without keeping them all, as Linux does. Deterministic for
//! one seed and one order of calls.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Disk, LogFile};

const PAGE: usize = 512;

/// A small generator of numbers, the same for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound.max(1)
    }

    /// True about once in `n`; never for zero.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }
}

/// How often each fault comes: once in so many calls; zero is never.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub(crate) write_error: u64,
    pub(crate) sync_error: u64,
    pub(crate) read_error: u64,
    pub(crate) create_error: u64,
    pub(crate) crash: u64,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    rates: Rates,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    crashed: bool,
    life: u64,
    free: u64,
}

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct FaultyDisk(Arc<Mutex<State>>);

fn eio() -> io::Error {
    io::Error::other("simulated disk error")
}

impl Inode {
    fn page(bytes: &[u8], page: usize) -> &[u8] {
        let start = (page * PAGE).min(bytes.len());
        &bytes[start..(start + PAGE).min(bytes.len())]
    }

    /// Brings the first `len` bytes of a page onto the platter.
    fn keep(&mut self, page: usize, len: usize) {
        let new = Self::page(&self.current, page).to_vec();
        let at = page * PAGE;
        let len = len.min(new.len());
        if self.durable.len() < at + len {
            self.durable.resize(at + len, 0);
        }
        self.durable[at..at + len].copy_from_slice(&new[..len]);
    }
}

impl State {
    fn gate(&mut self, life: u64) -> io::Result<()> {
        if self.life != life || self.crashed {
            return Err(io::Error::other("simulated crash"));
        }
        if self.dice.one_in(self.rates.crash) {
            self.crashed = true;
            return Err(io::Error::other("simulated crash"));
        }
        Ok(())
    }
}

impl FaultyDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            dice: Dice::new(seed ^ 0xD15C),
            rates: Rates::default(),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            crashed: false,
            life: 0,
            free: u64::MAX,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_rates(&self, rates: Rates) {
        self.lock().rates = rates;
    }

    /// How much room there is. Without any, no file is made, and a write ends somewhere within.
    pub(crate) fn set_free(&self, free: u64) {
        self.lock().free = free;
    }

    /// Whether a crash came at some call.
    pub(crate) fn is_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// From now on every call fails.
    pub(crate) fn crash(&self) {
        self.lock().crashed = true;
    }

    /// The process is gone; what it wrote stays in the page cache.
    pub(crate) fn kill(&self) {
        let mut state = self.lock();
        state.life += 1;
        state.crashed = false;
    }

    /// Power is gone: of what was not synced, any page may be whole, torn or lost.
    pub(crate) fn power_loss(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.life += 1;
        state.crashed = false;
        if state.dice.one_in(2) {
            state.names = state.durable_names.clone();
        } else {
            state.durable_names = state.names.clone();
        }
        for inode in &mut state.inodes {
            for page in std::mem::take(&mut inode.dirty) {
                match state.dice.below(3) {
                    0 => inode.keep(page, PAGE),
                    1 => {
                        let torn = usize::try_from(state.dice.below(PAGE as u64)).unwrap();
                        inode.keep(page, torn);
                    }
                    _ => (),
                }
            }
            let len = inode.current.len().max(inode.durable.len());
            inode.durable.resize(len, 0);
            inode.current = inode.durable.clone();
        }
    }

    /// Flips one bit in the written part of some file with this ending; tells which, and where.
    pub(crate) fn flip_bit(&self, ending: &str) -> Option<(String, u64)> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let files: Vec<(&String, &usize)> =
            state.names.iter().filter(|(name, _)| name.ends_with(ending)).collect();
        let chosen = usize::try_from(state.dice.below(files.len() as u64)).unwrap();
        let (name, inode) = files.get(chosen).map(|(name, inode)| ((*name).clone(), **inode))?;
        let inode = &mut state.inodes[inode];
        let used = inode.current.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
        let at = usize::try_from(state.dice.below(used)).unwrap();
        let bit = 1 << state.dice.below(8);
        inode.current[at] ^= bit;
        if let Some(byte) = inode.durable.get_mut(at) {
            *byte ^= bit;
        }
        Some((name, at as u64))
    }
}

impl Disk for FaultyDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str, byte_len: u64) -> io::Result<Box<dyn LogFile>> {
        let mut state = self.lock();
        let life = state.life;
        state.gate(life)?;
        let rate = state.rates.create_error;
        if state.dice.one_in(rate) || state.free == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let zeros = vec![0; usize::try_from(byte_len).unwrap()];
        state.inodes.push(Inode { durable: zeros.clone(), current: zeros, ..Inode::default() });
        let inode = state.inodes.len() - 1;
        state.names.insert(name.to_owned(), inode);
        state.durable_names.insert(name.to_owned(), inode);
        Ok(Box::new(FaultyFile { disk: self.clone(), inode, life }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let mut state = self.lock();
        let life = state.life;
        state.gate(life)?;
        let inode = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), inode, life }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        let life = state.life;
        state.gate(life)?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        drop(state);
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        let (life, rate) = (state.life, state.rates.sync_error);
        if state.dice.one_in(rate) {
            return Err(eio());
        }
        state.gate(life)?;
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        let life = state.life;
        state.gate(life)?;
        state.names.remove(name).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().free)
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    inode: usize,
    life: u64,
}

impl LogFile for FaultyFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut guard = self.disk.lock();
        let state = &mut *guard;
        let gate = state.gate(self.life);
        if gate.is_err() && state.life != self.life {
            return gate;
        }
        let full = state.free == 0;
        let failed = gate.is_err() || full || state.dice.one_in(state.rates.write_error);
        let len =
            if failed { state.dice.below(bytes.len() as u64 + 1) } else { bytes.len() as u64 };
        let (at, len) = (usize::try_from(offset).unwrap(), usize::try_from(len).unwrap());
        let inode = &mut state.inodes[self.inode];
        if inode.current.len() < at + len {
            inode.current.resize(at + len, 0);
        }
        inode.current[at..at + len].copy_from_slice(&bytes[..len]);
        if len > 0 {
            inode.dirty.extend(at / PAGE..=(at + len - 1) / PAGE);
        }
        gate?;
        match (failed, full) {
            (false, _) => Ok(()),
            (true, false) => Err(eio()),
            (true, true) => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn append_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let filled = end.next_multiple_of(PAGE as u64).min(self.byte_len()?).max(end);
        let mut padded = bytes.to_vec();
        padded.resize(usize::try_from(filled - offset).unwrap(), 0);
        self.write_at(offset, &padded)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut guard = self.disk.lock();
        let state = &mut *guard;
        state.gate(self.life)?;
        if state.dice.one_in(state.rates.read_error) {
            return Err(eio());
        }
        let current = &state.inodes[self.inode].current;
        let at = usize::try_from(offset).unwrap().min(current.len());
        let len = buffer.len().min(current.len() - at);
        buffer[..len].copy_from_slice(&current[at..at + len]);
        Ok(len)
    }

    fn sync(&self) -> io::Result<()> {
        let mut guard = self.disk.lock();
        let state = &mut *guard;
        state.gate(self.life)?;
        let failed = state.dice.one_in(state.rates.sync_error);
        let inode = &mut state.inodes[self.inode];
        for page in std::mem::take(&mut inode.dirty) {
            if !failed || state.dice.one_in(2) {
                inode.keep(page, PAGE);
            }
        }
        if failed { Err(eio()) } else { Ok(()) }
    }

    fn byte_len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().inodes[self.inode].current.len() as u64)
    }
}
