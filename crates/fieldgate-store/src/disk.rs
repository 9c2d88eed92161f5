//! The folder of the log behind a small trait, so that faults can be injected.
//!
//! [`RealDisk`] is a folder; `faulty::FaultyDisk` a simulated one for the tests.

#[cfg(any(test, fuzzing))]
pub(crate) mod faulty;

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
};

/// One file: positioned reads and writes, and the sync that makes them last.
pub trait LogFile: Send + Sync + fmt::Debug {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// The disk's.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

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

/// A folder of the operating system.
#[derive(Debug)]
pub struct RealDisk {
    folder: PathBuf,
}

impl RealDisk {
    /// Uses `folder`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn new(folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, name: &str, byte_len: u64) -> io::Result<Box<dyn LogFile>> {
        let path = self.folder.join(name);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        let zeros = vec![0; 1 << 20];
        let mut at = 0;
        while at < byte_len {
            let len = usize::try_from(byte_len - at).unwrap_or(usize::MAX).min(zeros.len());
            file.write_all_at(zeros.get(..len).unwrap_or_default(), at)?;
            at += len as u64;
        }
        file.sync_all()?;
        self.sync()?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.folder.join(name))?;
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.folder.join(from), self.folder.join(to))?;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.folder.join(name))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

#[derive(Debug)]
struct RealFile(File);

impl LogFile for RealFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut have = 0;
        while let Some(rest) = buffer.get_mut(have..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset + have as u64)? {
                0 => break,
                more => have += more,
            }
        }
        Ok(have)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn byte_len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
