//! The folder of the log behind a small trait, so that faults can be injected.
//!
//! [`RealDisk`] is a folder; `faulty::FaultyDisk` a simulated one for the tests.

#[cfg(any(test, fuzzing))]
pub(crate) mod faulty;
mod real;

use std::{fmt, fs::File, io, path::Path};

pub use real::RealDisk;

/// One file: positioned reads and writes, and the sync that makes them last.
pub trait LogFile: Send + Sync + fmt::Debug {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// The disk's.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, from where on nothing counts: zeros may be written behind
    /// them, never beyond the end of the file.
    ///
    /// # Errors
    ///
    /// The disk's.
    fn append_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads up to `buffer.len()` bytes at `offset`; short only at the end of the file.
    ///
    /// # Errors
    ///
    /// The disk's.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Returns once everything written is on stable storage.
    ///
    /// # Errors
    ///
    /// The disk's; then nothing written since the last success can be trusted.
    fn sync(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    ///
    /// The disk's.
    fn byte_len(&self) -> io::Result<u64>;
}

/// One folder of files.
pub trait Disk: Send + Sync + fmt::Debug {
    /// The names of the files, sorted.
    ///
    /// # Errors
    ///
    /// The disk's.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a file of `byte_len` zeros, on stable storage with its name.
    ///
    /// # Errors
    ///
    /// The disk's.
    fn create(&self, name: &str, byte_len: u64) -> io::Result<Box<dyn LogFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    ///
    /// The disk's.
    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>>;

    /// Gives a file another name, on stable storage.
    ///
    /// # Errors
    ///
    /// The disk's; then either name may stand.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Returns once every name that [`Disk::list`] tells is on stable storage.
    ///
    /// # Errors
    ///
    /// The disk's.
    fn sync(&self) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// The disk's.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Bytes that may still be stored.
    ///
    /// # Errors
    ///
    /// The disk's.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// Returns once the name of `path` is on stable storage.
///
/// # Errors
///
/// The disk's.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
