//! The ledger's files: lines of JSON, each behind its checksum, the oldest file given up for the next.
//!
//! `DATA/ledger/<first number>.jsonl`. A file begins with the totals of all before it, so that the
//! counters outlive the entries. Invariant: the number of an entry is its file's plus its line's, and
//! a line that cannot be read costs itself alone.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{DropEntry, Totals, add};

/// The longest that what is written waits for its sync: so much a power failure may take.
const SYNC_PERIOD: Duration = Duration::from_secs(10);

/// A file with less room than this is full.
const LINE_BYTES: u64 = 128;

/// Sizes of the ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct RingOptions {
    /// Most bytes of a file.
    pub(super) file_bytes_max: u64,
    /// Most files.
    pub(super) file_count_max: usize,
}

impl Default for RingOptions {
    fn default() -> Self {
        // 64 MiB in all (`guarantees.md` 7).
        Self { file_bytes_max: 4 << 20, file_count_max: 16 }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    totals: Totals,
}

#[derive(Debug)]
struct Open {
    file: File,
    byte_len: u64,
}

/// The files of one folder.
#[derive(Debug)]
pub(super) struct Ring {
    folder: PathBuf,
    options: RingOptions,
    /// The first number of each file, oldest first.
    files: VecDeque<u64>,
    /// The newest file; none if a new one is due.
    open: Option<Open>,
    next: u64,
    totals: Totals,
    synced_at: Instant,
    dirty: bool,
}

fn line(value: &impl Serialize) -> io::Result<String> {
    let text = serde_json::to_string(value)?;
    Ok(format!("{:08x} {text}\n", crc32c::crc32c(text.as_bytes())))
}

/// What a line says, if it is whole.
fn read_line<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (sum, text) = line.split_at_checked(9)?;
    let sum = std::str::from_utf8(sum.strip_suffix(b" ")?).ok()?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    (sum == crc32c::crc32c(text)).then(|| serde_json::from_slice(text).ok())?
}

/// The lines of a file behind its first one, an unfinished last one left out.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let whole = bytes.get(..end).unwrap_or_default();
    whole.split(|byte| *byte == b'\n').skip(1)
}

impl Ring {
    /// Opens the files in `folder`, or begins there.
    pub(super) fn open(folder: &Path, options: RingOptions) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        let mut files = Vec::new();
        for file in fs::read_dir(folder)? {
            let name = file?.file_name();
            let first = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
            files.extend(first.and_then(|first| first.parse::<u64>().ok()));
        }
        files.sort_unstable();
        let mut ring = Self {
            folder: folder.to_owned(),
            options,
            files: files.into(),
            open: None,
            next: 1,
            totals: Totals::new(),
            synced_at: Instant::now(),
            dirty: false,
        };
        if let Some(newest) = ring.files.back().copied() {
            ring.resume(newest)?;
        }
        Ok(ring)
    }

    /// Goes on in the newest file, behind what is whole in it.
    fn resume(&mut self, first: u64) -> io::Result<()> {
        let bytes = fs::read(self.path(first))?;
        let header = bytes.split(|byte| *byte == b'\n').next().and_then(read_line::<Header>);
        let mut unreadable = u32::from(header.is_none());
        self.totals = header.map(|header| header.totals).unwrap_or_default();
        self.next = first;
        for line in lines(&bytes) {
            self.next += 1;
            match read_line::<DropEntry>(line) {
                Some(entry) => add(&mut self.totals, &entry),
                None => unreadable += 1,
            }
        }
        if unreadable > 0 {
            tracing::warn!(file = first, lines = unreadable, "the ledger of drops is damaged");
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole == 0 {
            // Not even its first line: the next file begins with the same number.
            fs::remove_file(self.path(first))?;
            self.files.pop_back();
            return Ok(());
        }
        let file = OpenOptions::new().append(true).open(self.path(first))?;
        file.set_len(whole as u64)?;
        self.open = Some(Open { file, byte_len: whole as u64 });
        Ok(())
    }

    fn path(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{first:016}.jsonl"))
    }

    /// The sum of everything ever written.
    pub(super) const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The number of the entry that comes next.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Writes entries, into as many files as it takes; tells how many of them are written.
    pub(super) fn append(&mut self, entries: &[DropEntry]) -> (usize, io::Result<()>) {
        let mut done = 0;
        while let Some(rest) = entries.get(done..).filter(|rest| !rest.is_empty()) {
            match self.append_some(rest) {
                Ok(count) => done += count,
                Err(error) => return (done, Err(error)),
            }
        }
        (done, Ok(()))
    }

    /// Writes as many entries as the newest file takes, at least one.
    fn append_some(&mut self, entries: &[DropEntry]) -> io::Result<usize> {
        let file_bytes_max = self.options.file_bytes_max;
        let open = self.room()?;
        let (mut text, mut count) = (String::new(), 0);
        for entry in entries {
            let line = line(entry)?;
            let byte_len = open.byte_len + (text.len() + line.len()) as u64;
            if count > 0 && byte_len > file_bytes_max {
                break;
            }
            text.push_str(&line);
            count += 1;
        }
        if let Err(error) = open.file.write_all(text.as_bytes()) {
            // What was half written goes; if it does not, the next entries get a file of their own.
            if open.file.set_len(open.byte_len).is_err() {
                self.open = None;
            }
            return Err(error);
        }
        open.byte_len += text.len() as u64;
        self.dirty = true;
        self.next += count as u64;
        entries.iter().take(count).for_each(|entry| add(&mut self.totals, entry));
        Ok(count)
    }

    /// The newest file, or the next one if that is full.
    fn room(&mut self) -> io::Result<&mut Open> {
        let max = self.options.file_bytes_max;
        let open = match self.open.take() {
            Some(open) if open.byte_len + LINE_BYTES <= max => open,
            full => {
                if let Some(full) = full {
                    full.file.sync_data()?;
                }
                self.begin()?
            }
        };
        Ok(self.open.insert(open))
    }

    /// Begins a file, in the place of the oldest if there are enough.
    fn begin(&mut self) -> io::Result<Open> {
        while self.files.len() >= self.options.file_count_max {
            let Some(oldest) = self.files.front().copied() else { break };
            match fs::remove_file(self.path(oldest)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => self.files.pop_front(),
            };
        }
        let header = line(&Header { totals: self.totals.clone() })?;
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(true).write(true).mode(0o600);
        let mut file = options.open(self.path(self.next))?;
        file.write_all(header.as_bytes())?;
        if self.files.back() != Some(&self.next) {
            self.files.push_back(self.next);
        }
        Ok(Open { file, byte_len: header.len() as u64 })
    }

    /// Syncs what was written, if it is time or `now`.
    pub(super) fn sync(&mut self, now: bool) -> io::Result<()> {
        if !self.dirty || !now && self.synced_at.elapsed() < SYNC_PERIOD {
            return Ok(());
        }
        if let Some(open) = &self.open {
            open.file.sync_data()?;
        }
        self.dirty = false;
        self.synced_at = Instant::now();
        Ok(())
    }

    /// Hands out entries below `before`, newest first, until `visit` has enough (`false`) or
    /// `file_count` files were read; returns the number to go on below, if there is more.
    pub(super) fn read(
        &self,
        before: u64,
        file_count: usize,
        mut visit: impl FnMut(u64, DropEntry) -> bool,
    ) -> io::Result<Option<u64>> {
        let older = self.files.iter().rev().copied().filter(|first| *first < before);
        for (count, first) in older.enumerate() {
            if count >= file_count {
                let end = self.files.iter().copied().find(|later| *later > first);
                return Ok(end);
            }
            let bytes = match fs::read(self.path(first)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read?,
            };
            let numbered: Vec<(u64, &[u8])> = (first..).zip(lines(&bytes)).collect();
            for (number, line) in numbered.into_iter().rev() {
                let Some(entry) = (number < before).then(|| read_line(line)).flatten() else {
                    continue;
                };
                if !visit(number, entry) {
                    let oldest = self.files.front().is_none_or(|oldest| *oldest >= number);
                    return Ok((!oldest).then_some(number));
                }
            }
        }
        Ok(None)
    }
}
