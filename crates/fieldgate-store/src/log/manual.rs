//! A log on any disk without threads, for tests: the test takes the writer's steps one by one.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use super::{LocalLog, LogOptions, OpenError, Recovery, intake::Intake, recover, writer::Writer};
use crate::disk::Disk;

/// The log and its writer.
#[derive(Debug)]
pub(crate) struct ManualLog {
    pub(crate) log: Arc<LocalLog>,
    writer: Writer,
}

impl ManualLog {
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        options: LogOptions,
    ) -> Result<(Self, Recovery), OpenError> {
        let (segments, writer, recovery) = recover::recover(disk, options)?;
        let log = Arc::new(LocalLog {
            epoch: recovery.epoch,
            intake: Arc::new(Intake::new(&recovery, options)),
            segments: Arc::new(segments),
            threads: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        Ok((Self { log, writer }, recovery))
    }

    /// Writes what waits, as one batch.
    pub(crate) fn step(&mut self) {
        let taken = self.log.intake.take_now();
        if !taken.entries.is_empty() {
            self.writer.step(&taken, &self.log.intake, &self.log.segments);
        }
    }

    /// Goes on after a failure, if the disk lets it.
    pub(crate) fn keep_house(&mut self) {
        self.writer.keep_house(&self.log.intake, &self.log.segments);
    }

    /// A clean end: everything is written, then the end mark.
    pub(crate) fn finish(&mut self) {
        self.log.intake.close();
        let (intake, segments) = (&self.log.intake, &self.log.segments);
        while !self.writer.step(&intake.take_now(), intake, segments) {}
        self.gone();
    }

    /// Nothing will be written any more: whoever waits for that ends.
    pub(crate) fn gone(&self) {
        self.log.closed.store(true, Ordering::SeqCst);
    }
}
