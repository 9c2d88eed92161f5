//! Exports: the whole state at one number in one checksummed file, apart from the tables.
//!
//! An export and the log behind it rebuild tables that are lost (`storage.md`, decision 2), so the
//! log may only forget what an export holds. File: magic, epoch, number, row count; each row with its
//! table and lengths; a crc32c over all of it. Invariant: a file under its final name is whole, or
//! its checksum says that it is not.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use fieldgate_core::id::{Epoch, Seq};

use crate::{
    disk,
    state::changes::{Row, RowKey, Snapshot},
    tables::{
        Table,
        rows::{Applied, decode, encode_key, encode_row},
    },
};

const MAGIC: &[u8; 8] = b"FGEXPRT1";
const KEPT: usize = 2;
/// Longer than any row that can be written.
const FIELD_BYTES_MAX: u32 = 64 << 20;

/// What an export holds.
#[derive(Debug)]
pub(crate) struct Export {
    pub(crate) applied: Applied,
    pub(crate) rows: Vec<(RowKey, Row)>,
}

/// The folder of exports.
#[derive(Debug)]
pub(crate) struct Exports {
    folder: PathBuf,
}

struct Summed<T> {
    inner: T,
    sum: u32,
}

impl<T: io::Write> io::Write for Summed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.sum = crc32c::crc32c_append(self.sum, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Summed<T> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.sum = crc32c::crc32c_append(self.sum, &bytes);
        Ok(bytes)
    }

    /// Reads a field without trusting its length before the bytes are there.
    fn field(&mut self) -> io::Result<Vec<u8>> {
        let len = u32::from_le_bytes(self.take()?);
        if len > FIELD_BYTES_MAX {
            return Err(invalid("a row is too long"));
        }
        let mut bytes = Vec::new();
        (&mut self.inner).take(len.into()).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != u64::from(len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.sum = crc32c::crc32c_append(self.sum, &bytes);
        Ok(bytes)
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Exports {
    pub(crate) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes an export and removes all but the newest; returns when it is on stable storage.
    pub(crate) fn write(&self, epoch: Epoch, snapshot: &Snapshot) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        disk::sync_folder_of(&self.folder)?;
        let unfinished = self.folder.join("unfinished.tmp");
        let mut out = Summed { inner: BufWriter::new(File::create(&unfinished)?), sum: 0 };
        write_rows(&mut out, epoch, snapshot)?;
        let sum = out.sum;
        let mut file = out.inner;
        file.write_all(&sum.to_le_bytes())?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        let name = format!("{:016}.export", snapshot.applied.0);
        std::fs::rename(unfinished, self.folder.join(name))?;
        File::open(&self.folder)?.sync_all()?;
        for old in self.names()?.iter().skip(KEPT) {
            std::fs::remove_file(self.folder.join(old))?;
        }
        Ok(())
    }

    /// The names of the exports, newest first.
    fn names(&self) -> io::Result<Vec<String>> {
        let folder = match std::fs::read_dir(&self.folder) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in folder {
            names.extend(entry?.file_name().into_string().ok().filter(|n| n.ends_with(".export")));
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }

    /// The number and the age of the newest export of this log, by its head alone.
    pub(crate) fn newest(&self, epoch: Epoch, end: Seq) -> io::Result<Option<(Seq, SystemTime)>> {
        for name in self.names()? {
            let path = self.folder.join(name);
            let modified = std::fs::metadata(&path)?.modified()?;
            match read_head(&mut open(&path)?) {
                Ok((applied, _)) if applied.epoch == epoch && applied.seq <= end => {
                    return Ok(Some((applied.seq, modified)));
                }
                Ok(_) => (),
                Err(error) => tracing::error!(%error, path = %path.display(), "export unreadable"),
            }
        }
        Ok(None)
    }

    /// Reads the newest export that is whole and belongs to this log.
    pub(crate) fn read(&self, epoch: Epoch, end: Seq) -> io::Result<Option<Export>> {
        for name in self.names()? {
            let path = self.folder.join(name);
            match open(&path).and_then(read_all) {
                Ok(export) if export.applied.epoch == epoch && export.applied.seq <= end => {
                    return Ok(Some(export));
                }
                Ok(_) => tracing::warn!(path = %path.display(), "export of another log"),
                Err(error) => tracing::error!(%error, path = %path.display(), "export damaged"),
            }
        }
        Ok(None)
    }
}

fn write_rows(
    out: &mut Summed<BufWriter<File>>,
    epoch: Epoch,
    snapshot: &Snapshot,
) -> io::Result<()> {
    out.write_all(MAGIC)?;
    out.write_all(&epoch.0.to_le_bytes())?;
    out.write_all(&snapshot.applied.0.to_le_bytes())?;
    out.write_all(&(snapshot.rows.len() as u64).to_le_bytes())?;
    for (key, row) in &snapshot.rows {
        let (table, key) = encode_key(key);
        out.write_all(&[table as u8])?;
        for field in [key, encode_row(row)] {
            let len = u32::try_from(field.len()).ok().filter(|len| *len <= FIELD_BYTES_MAX);
            let len = len.ok_or_else(|| invalid("a row is too long"))?;
            out.write_all(&len.to_le_bytes())?;
            out.write_all(&field)?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<Summed<BufReader<File>>> {
    Ok(Summed { inner: BufReader::new(File::open(path)?), sum: 0 })
}

fn read_head(file: &mut Summed<impl Read>) -> io::Result<(Applied, u64)> {
    if file.take()? != *MAGIC {
        return Err(invalid("no export of a version known here"));
    }
    let epoch = Epoch(u32::from_le_bytes(file.take()?));
    let seq = Seq(u64::from_le_bytes(file.take()?));
    Ok((Applied { epoch, seq }, u64::from_le_bytes(file.take()?)))
}

fn read_all(mut file: Summed<impl Read>) -> io::Result<Export> {
    let (applied, row_count) = read_head(&mut file)?;
    let mut rows = Vec::new();
    for _ in 0..row_count {
        let [table] = file.take()?;
        let table = Table::ALL.into_iter().find(|known| *known as u8 == table);
        let (key, value) = (file.field()?, file.field()?);
        let row = table.and_then(|table| decode(table, &key, &value).ok());
        rows.push(row.ok_or_else(|| invalid("a row is damaged"))?);
    }
    let sum = file.sum;
    if u32::from_le_bytes(file.take()?) != sum {
        return Err(invalid("the checksum does not hold"));
    }
    Ok(Export { applied, rows })
}

/// Any bytes as an export, as they are and with a checksum that holds.
#[cfg(any(test, fuzzing))]
pub(crate) fn any_bytes(data: &[u8]) {
    let _ = read_all(Summed { inner: data, sum: 0 });
    let mut mended = data.get(..data.len().saturating_sub(4)).unwrap_or_default().to_vec();
    mended.extend_from_slice(&crc32c::crc32c(&mended).to_le_bytes());
    if let Ok(export) = read_all(Summed { inner: &mended[..], sum: 0 }) {
        assert!(export.rows.len() <= data.len(), "a row takes bytes");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fieldgate_core::{
        id::{TenantId, UnixMs},
        message::Qos,
    };

    use super::*;
    use crate::{record::Entry, testing::message_at};

    fn snapshot(applied: u64, topics: &[&str]) -> Snapshot {
        let rows = topics.iter().map(|topic| {
            let record = message_at(topic, Qos::AtLeastOnce, "{}");
            let entry = Entry { seq: Seq(1), arrived: UnixMs(1), record };
            let key = RowKey::Retained(TenantId::default_tenant(), topic.parse().unwrap());
            (key, Row::Retained(Arc::new(entry)))
        });
        Snapshot { applied: Seq(applied), rows: rows.collect(), slots: Vec::new() }
    }

    #[test]
    fn a_damaged_export_gives_way_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let exports = Exports::new(folder.path().join("exports"));
        let epoch = Epoch(5);
        for (applied, topics) in [(3, &["a"][..]), (7, &["a", "b"]), (9, &["a", "b", "c"])] {
            exports.write(epoch, &snapshot(applied, topics)).unwrap();
        }
        assert_eq!(exports.names().unwrap().len(), KEPT);
        let read = |end| exports.read(epoch, Seq(end)).unwrap();
        assert_eq!(read(9).unwrap().rows.len(), 3);
        assert_eq!(read(8).unwrap().applied.seq, Seq(7));
        assert!(exports.read(Epoch(6), Seq(9)).unwrap().is_none());

        let newest = folder.path().join("exports").join(&exports.names().unwrap()[0]);
        let whole = std::fs::read(&newest).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&newest, &bytes).unwrap();
            let found = read(9).unwrap();
            assert_eq!((found.applied.seq, found.rows.len()), (Seq(7), 2), "byte {at}");
        }
        for len in 0..whole.len() {
            std::fs::write(&newest, &whole[..len]).unwrap();
            assert_eq!(read(9).unwrap().applied.seq, Seq(7), "cut to {len}");
        }
    }
}
