//! Start: what the tables say, if they can be trusted, or what an export and the log say instead.

use fieldgate_core::id::{Epoch, Seq, UnixMs};

use super::{
    Table, Tables, TablesError,
    rows::{APPLIED_KEY, Applied, decode, decode_ids},
};
use crate::state::{
    changes::{Row, RowKey},
    window::KnownId,
};

/// A row of known ids, as the applier follows it.
#[derive(Debug, Clone)]
pub(crate) struct IdChunk {
    pub(crate) key: Vec<u8>,
    pub(crate) newest: UnixMs,
    pub(crate) len: usize,
}

/// What the tables hold.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) applied: Seq,
    pub(crate) rows: Vec<(RowKey, Row)>,
    pub(crate) chunks: Vec<IdChunk>,
}

/// What the log says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogFacts {
    pub(crate) epoch: Epoch,
    /// How far the tables had come when the last batch was written.
    pub(crate) applied: Seq,
    /// The newest number on stable storage.
    pub(crate) end: Seq,
}

/// Why the tables are rebuilt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("there are none")]
    Missing,
    #[error("they belong to another log")]
    OtherLog,
    #[error("they have lost what came between {applied} and {expected}")]
    Behind { applied: u64, expected: u64 },
    #[error("they are ahead of the log: {applied} is behind its end {end}")]
    Ahead { applied: u64, end: u64 },
    #[error("they cannot be read")]
    Damaged(#[from] TablesError),
}

/// Reads the tables. Whatever is doubtful in them makes them unusable as a whole, with what `learn`
/// was told until then: there may be millions of ids, which nobody holds at once.
pub(crate) fn load(
    tables: &dyn Tables,
    log: LogFacts,
    learn: &mut dyn FnMut(KnownId),
) -> Result<Loaded, Unusable> {
    let mut applied = None;
    tables.scan(Table::Meta, &mut |key, value| {
        if key == APPLIED_KEY {
            applied = Some(Applied::decode(value)?);
        }
        Ok(())
    })?;
    let applied = applied.ok_or(Unusable::Missing)?;
    if applied.epoch != log.epoch {
        return Err(Unusable::OtherLog);
    }
    let applied = applied.seq;
    if applied < log.applied {
        return Err(Unusable::Behind { applied: applied.0, expected: log.applied.0 });
    }
    if applied > log.end {
        return Err(Unusable::Ahead { applied: applied.0, end: log.end.0 });
    }
    let mut loaded = Loaded { applied, rows: Vec::new(), chunks: Vec::new() };
    let whole = [
        Table::Registry,
        Table::Retained,
        Table::Command,
        Table::Reported,
        Table::Audit,
        Table::Desired,
    ];
    for table in whole {
        tables.scan(table, &mut |key, value| {
            loaded.rows.push(decode(table, key, value)?);
            Ok(())
        })?;
    }
    tables.scan(Table::MsgId, &mut |key, value| {
        let ids = decode_ids(value)?;
        let newest = ids.iter().map(|known| known.arrived).max().unwrap_or_default();
        loaded.chunks.push(IdChunk { key: key.to_vec(), newest, len: ids.len() });
        ids.into_iter().for_each(&mut *learn);
        Ok(())
    })?;
    Ok(loaded)
}
