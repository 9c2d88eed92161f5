//! The folder of the log on the operating system's disk, and what is known there of its pages.
//!
//! A new file is zeroed past the page cache, so that its zeros cost neither a copy nor memory. An
//! append then writes whole pages, the last one filled with zeros: a page that is not in memory and
//! is written in part would be read from the disk first.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, IoSlice},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{fs::OFlags, io::Errno};

use super::{Disk, LogFile};

/// The unit of the page cache and of direct writes.
const PAGE_BYTES: usize = 4 << 10;
static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
/// Zeros go out in pieces of this size; a file that is smaller is not worth a direct write.
const PIECE_BYTES: usize = 1 << 20;

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
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        let zeroed = zero_directly(&path, byte_len)?;
        write_zeros(&file, zeroed, byte_len, &vec![0; PIECE_BYTES])?;
        file.sync_all()?;
        self.sync()?;
        Ok(Box::new(RealFile { file, byte_len }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.folder.join(name))?;
        let byte_len = file.metadata()?.len();
        Ok(Box::new(RealFile { file, byte_len }))
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

/// Writes zeros past the page cache; tells how far that went. Not every file system can.
fn zero_directly(path: &Path, byte_len: u64) -> io::Result<u64> {
    let end = byte_len - byte_len % PIECE_BYTES as u64;
    if end == 0 {
        return Ok(0);
    }
    let flags = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
    let direct = match OpenOptions::new().write(true).custom_flags(flags).open(path) {
        Err(error) if is_refusal(&error) => return Ok(0),
        direct => direct?,
    };
    let buffer = vec![0; PIECE_BYTES + PAGE_BYTES];
    let start = buffer.as_ptr().align_offset(PAGE_BYTES);
    // Without a whole piece at a page's beginning there would be no end of writing nothing.
    let Some(zeros) = buffer.get(start..).and_then(|rest| rest.get(..PIECE_BYTES)) else {
        return Ok(0);
    };
    match write_zeros(&direct, 0, end, zeros) {
        Err(error) if is_refusal(&error) => Ok(0),
        written => written.map(|()| end),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

fn write_zeros(file: &File, mut at: u64, end: u64, zeros: &[u8]) -> io::Result<()> {
    while at < end {
        let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all_at(zeros.get(..len).unwrap_or_default(), at)?;
        at += len as u64;
    }
    Ok(())
}

#[derive(Debug)]
struct RealFile {
    file: File,
    byte_len: u64,
}

impl RealFile {
    /// What follows `offset` on its page, within the file.
    fn rest_of_page(&self, offset: u64) -> &'static [u8] {
        let page = PAGE_BYTES as u64;
        let end = offset.next_multiple_of(page).min(self.byte_len);
        let len = usize::try_from(end.saturating_sub(offset)).unwrap_or(0);
        ZEROS.get(..len).unwrap_or_default()
    }
}

impl LogFile for RealFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn append_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let zeros = self.rest_of_page(offset + bytes.len() as u64);
        let parts = [IoSlice::new(bytes), IoSlice::new(zeros)];
        let written = match rustix::io::pwritev(&self.file, &parts, offset) {
            Err(Errno::INTR) => 0,
            written => written?,
        };
        match bytes.get(written..) {
            Some(rest) => self.file.write_all_at(rest, offset + written as u64),
            None => Ok(()),
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut have = 0;
        while let Some(rest) = buffer.get_mut(have..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + have as u64)? {
                0 => break,
                more => have += more,
            }
        }
        Ok(have)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn byte_len(&self) -> io::Result<u64> {
        Ok(self.byte_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(file: &dyn LogFile) -> Vec<u8> {
        let mut bytes = vec![1; usize::try_from(file.byte_len().unwrap()).unwrap() + 1];
        let have = file.read_at(0, &mut bytes).unwrap();
        bytes.truncate(have);
        bytes
    }

    #[test]
    fn a_new_file_is_zeros_to_its_end_and_has_its_blocks() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path().to_owned()).unwrap();
        let piece = PIECE_BYTES as u64;
        for byte_len in [0, 1, 4_096, piece - 1, piece, 2 * piece + 5_000] {
            let file = disk.create("a", byte_len).unwrap();
            assert_eq!(file.byte_len().unwrap(), byte_len);
            assert_eq!(read_all(file.as_ref()), vec![0; usize::try_from(byte_len).unwrap()]);
            let metadata = std::fs::metadata(folder.path().join("a")).unwrap();
            assert!(metadata.blocks() * 512 >= byte_len, "{metadata:?}");
        }
    }

    #[test]
    fn an_append_leaves_what_is_before_it_and_the_length() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path().to_owned()).unwrap();
        let file = disk.create("a", 10_000).unwrap();
        let mut expected = vec![0; 10_000];
        let mut at = 0;
        for (number, len) in [(1, 96), (2, 4_000), (3, 1), (4, 4_095), (5, 1_808)] {
            file.append_at(at as u64, &vec![number; len]).unwrap();
            expected[at..at + len].fill(number);
            at += len;
            assert_eq!(read_all(file.as_ref()), expected);
        }
        assert_eq!(at, 10_000);
        // Recovery goes on where what counts ends: what stood behind on that page is void.
        file.append_at(4_096, &[6; 10]).unwrap();
        expected[4_096..4_106].fill(6);
        expected[4_106..8_192].fill(0);
        assert_eq!(read_all(disk.open("a").unwrap().as_ref()), expected);
    }

    #[test]
    fn where_direct_writes_are_refused_there_are_none() {
        // No character device takes them; this one would swallow them.
        assert_eq!(zero_directly(Path::new("/dev/null"), 1 << 20).unwrap(), 0);
    }
}
