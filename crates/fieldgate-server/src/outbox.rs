//! What one link still has to send: the bytes of this tick, and what its socket did not take.
//!
//! Bounded in bytes; what waits does so in the lanes of `core::lane`, made when the socket is full
//! and gone when it keeps up again. Written to by the hub, drained by the link. Absent: what a
//! refusal means for the link, and frames of what is encoded late, which are the hub's.

use std::{
    cell::{Cell, RefCell},
    io,
    sync::Arc,
};

use bytes::{Buf, Bytes};
use fieldgate_core::{
    id::Seq,
    lane::{Lanes, Losses, Pushed, Record, Slow, Way},
    message::{Kind, Message, Priority, Qos},
};
use fieldgate_dialects::native::{self, Merge};

use crate::{
    share::{Held, Share},
    signal::Signal,
    sink::Socket,
};

/// What an item costs beside its bytes.
const ITEM_BYTES: usize = 192;
/// What a message costs beside its payload.
const MESSAGE_BYTES: usize = 512;
/// So much may wait above twice the bound before it can only be answers.
const ANSWERS_BYTES: usize = 512 * 1024;
/// Small frames that waited leave together, up to so many bytes.
const WRITE_BYTES: usize = 16 * 1024;

/// Something that waits.
#[derive(Debug)]
pub(crate) enum Item {
    /// Frames as they are.
    Ready(Bytes),
    /// One frame that may be dropped.
    Frame(Seq, Bytes),
    /// A message whose frame is made when its turn has come.
    Late(Box<Late>),
    /// Numbers of messages that were dropped here.
    Gap(Seq, Seq),
}

/// A message that waits without a frame: its marks are not known before.
#[derive(Debug)]
pub(crate) struct Late {
    pub(crate) seq: Seq,
    pub(crate) qos: Qos,
    pub(crate) message: Message,
    /// How many messages it stands for.
    pub(crate) count: u32,
    /// Whether it is out of its turn wherever it goes.
    pub(crate) ahead: bool,
}

impl Late {
    pub(crate) fn new(seq: Seq, qos: Qos, message: &Message) -> Self {
        Self { seq, qos, message: message.clone(), count: 1, ahead: false }
    }
}

/// What a message counts that waits without a frame.
pub(crate) fn late_byte_len(message: &Message) -> usize {
    MESSAGE_BYTES + message.payload.len()
}

impl Item {
    pub(crate) fn late(seq: Seq, qos: Qos, message: &Message) -> Self {
        Self::Late(Box::new(Late::new(seq, qos, message)))
    }

    /// What it counts in the bound.
    pub(crate) fn byte_len(&self) -> usize {
        match self {
            Self::Ready(bytes) | Self::Frame(_, bytes) => ITEM_BYTES + bytes.len(),
            Self::Late(late) => late_byte_len(&late.message),
            Self::Gap(..) => ITEM_BYTES,
        }
    }
}

/// What a full outbox cost.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    pub(crate) conflated_count: u64,
    pub(crate) dropped_count: u64,
}

impl Lost {
    /// Lets a message stand for an older one of its topic too.
    pub(crate) fn conflate(&mut self, newer: &mut Late, older: &Late) {
        self.conflated_count += 1;
        newer.count = newer.count.saturating_add(older.count);
        let (message, older) = (&mut newer.message, &older.message);
        // Only telemetry has resources; anything else is as new as it is.
        if message.kind == Kind::Telemetry
            && let Merge::Merged(both) = native::merge_latest(&older.payload, &message.payload)
        {
            message.payload = both.into();
        }
    }
}

impl Losses<Item> for Lost {
    fn merge(&mut self, newer: &mut Item, older: Item) -> usize {
        if let (Item::Late(newer), Item::Late(older)) = (&mut *newer, older) {
            self.conflate(newer, &older);
        }
        newer.byte_len()
    }

    fn drop_item(&mut self, item: Item, before: Option<&mut Item>) -> Record<Item> {
        let seq = match item {
            Item::Frame(seq, _) => seq,
            Item::Late(late) => late.seq,
            Item::Ready(_) | Item::Gap(..) => return Record::None,
        };
        self.dropped_count += 1;
        if let Some(gap @ Item::Gap(..)) = before {
            if let Item::Gap(_, last) = gap {
                *last = seq;
            }
            return Record::Before(gap.byte_len());
        }
        let gap = Item::Gap(seq, seq);
        let byte_len = gap.byte_len();
        Record::Here(gap, byte_len)
    }
}

/// Makes the frame of an item; told whether it goes ahead.
pub(crate) type Encode<'a> = &'a dyn Fn(Item, bool) -> Bytes;

/// What goes out at the end of this tick.
#[derive(Debug, Default)]
pub(crate) enum Tick {
    #[default]
    Empty,
    /// One run of frames, which other links have too.
    Shared(Bytes),
    /// Anything else.
    Own(Vec<u8>),
}

impl Tick {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }

    fn slice_from(&self, start: usize) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::Shared(bytes) => bytes.slice(start..),
            Self::Own(bytes) => Bytes::copy_from_slice(bytes.get(start..).unwrap_or_default()),
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes.into(),
        }
    }
}

/// What a socket did not take.
#[derive(Debug)]
struct Backlog {
    /// What goes next whatever comes: it may begin within a frame.
    next: Bytes,
    lanes: Lanes<Item>,
    held: Held,
}

impl Backlog {
    fn new(bytes_max: usize, share: &Arc<Share>) -> Self {
        Self { next: Bytes::new(), lanes: Lanes::new(bytes_max), held: Held::new(share) }
    }

    fn byte_len(&self) -> usize {
        self.next.len() + self.lanes.queued_bytes()
    }

    fn wait(&mut self, bytes: Bytes) {
        let item = Item::Ready(bytes);
        let byte_len = item.byte_len();
        self.lanes.push_in_turn(item, byte_len);
    }

    /// Writes until the socket is full or nothing waits.
    fn drain(&mut self, socket: &Socket, encode: Encode<'_>) -> io::Result<()> {
        loop {
            if self.next.is_empty() {
                self.next = self.take_next(encode);
            }
            if self.next.is_empty() {
                return Ok(());
            }
            match taken(socket.try_write(&self.next))? {
                0 => return Ok(()),
                taken => self.next.advance(taken),
            }
        }
    }

    /// Takes what goes next out of the lanes, small frames joined.
    fn take_next(&mut self, encode: Encode<'_>) -> Bytes {
        let Some((item, ahead)) = self.lanes.pop() else { return Bytes::new() };
        let first = encode(item, ahead);
        if first.len() >= WRITE_BYTES || self.lanes.is_empty() {
            return first;
        }
        let mut joined = Vec::with_capacity(WRITE_BYTES);
        joined.extend_from_slice(&first);
        while joined.len() < WRITE_BYTES
            && let Some((item, ahead)) = self.lanes.pop()
        {
            joined.extend_from_slice(&encode(item, ahead));
        }
        joined.into()
    }
}

/// How much a socket took: nothing, if it is full.
pub(crate) fn taken(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}

/// Frames on their way to one socket.
#[derive(Debug)]
pub(crate) struct Outbox {
    tick: RefCell<Tick>,
    backlog: RefCell<Option<Box<Backlog>>>,
    waiting_bytes: Cell<usize>,
    bytes_max: usize,
    share: Arc<Share>,
    /// For those who wait for room.
    freed: Signal,
}

impl Outbox {
    pub(crate) fn new(bytes_max: usize, share: &Arc<Share>) -> Self {
        Self {
            tick: RefCell::default(),
            backlog: RefCell::default(),
            waiting_bytes: Cell::new(0),
            bytes_max,
            share: Arc::clone(share),
            freed: Signal::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.byte_len() == 0
    }

    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting_bytes.get() > 0
    }

    /// Bytes that wait, those of this tick included.
    pub(crate) fn byte_len(&self) -> usize {
        self.waiting_bytes.get() + self.tick.borrow().len()
    }

    /// How many may wait now.
    pub(crate) fn bytes_max(&self) -> usize {
        self.share.bound(self.bytes_max)
    }

    /// Whether at least half of it is free.
    pub(crate) fn has_room(&self) -> bool {
        self.byte_len() <= self.bytes_max() / 2
    }

    /// Told when at least half of it is free again, and when its link ends.
    pub(crate) const fn freed(&self) -> &Signal {
        &self.freed
    }

    /// Something left: tells those who wait if there is room now. A bound that grows as others hold less
    /// is seen the next time, which comes as long as anything waits here.
    fn tell_room(&self) {
        if self.freed.is_awaited() && self.has_room() {
            self.freed.tell();
        }
    }

    /// Whether more waits than deliveries alone can bring: answers that are not read.
    pub(crate) fn is_flooded(&self) -> bool {
        self.byte_len() > self.bytes_max.saturating_mul(2) + ANSWERS_BYTES
    }

    /// Adds a frame to what goes out at the end of this tick; what `write` says of it.
    pub(crate) fn push_tick<T>(&self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut tick = self.tick.borrow_mut();
        if let Tick::Own(bytes) = &mut *tick {
            return write(bytes);
        }
        let mut bytes = tick.as_slice().to_vec();
        let said = write(&mut bytes);
        *tick = Tick::Own(bytes);
        said
    }

    /// Adds frames that other links get too; nothing is copied while they are all there is.
    pub(crate) fn push_shared(&self, frames: Bytes) {
        let empty = matches!(*self.tick.borrow(), Tick::Empty);
        if empty {
            self.tick.replace(Tick::Shared(frames));
        } else {
            self.push_tick(|own| own.extend_from_slice(&frames));
        }
    }

    fn with_backlog<T>(&self, work: impl FnOnce(&mut Backlog) -> T) -> T {
        let mut slot = self.backlog.borrow_mut();
        let fresh = || Box::new(Backlog::new(self.bytes_max, &self.share));
        let backlog = slot.get_or_insert_with(fresh);
        let result = work(backlog);
        let byte_len = backlog.byte_len();
        backlog.held.set(byte_len);
        self.waiting_bytes.set(byte_len);
        if byte_len == 0 && !backlog.lanes.is_elsewhere() {
            *slot = None;
        }
        result
    }

    /// Keeps the rest of a frame of which the socket took the beginning, where nothing waits.
    pub(crate) fn begun(&self, rest: Bytes) {
        self.with_backlog(|backlog| backlog.next = rest);
    }

    /// Queues what has to go behind everything else, whatever the bound.
    pub(crate) fn wait(&self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.with_backlog(|backlog| backlog.wait(bytes));
        }
    }

    /// Where a message of this priority and size would go now.
    pub(crate) fn way(&self, priority: Priority, byte_len: usize) -> Way {
        self.with_backlog(|backlog| backlog.lanes.way(priority, byte_len))
    }

    /// Queues an item on its way, behind what this tick has so far.
    pub(crate) fn queue(&self, item: Item, way: Way, slow: Slow, lost: &mut Lost) -> Pushed {
        self.wait(self.tick.take().into_bytes());
        let byte_len = item.byte_len();
        let bytes_max = self.bytes_max();
        self.with_backlog(|backlog| {
            backlog.lanes.set_bytes_max(bytes_max);
            backlog.lanes.push(item, byte_len, way, slow, lost)
        })
    }

    /// Says whether a backlog stands in the log.
    pub(crate) fn set_elsewhere(&self, elsewhere: bool) {
        self.with_backlog(|backlog| backlog.lanes.set_elsewhere(elsewhere));
    }

    /// Ends a tick: gives what is to be written now, of which [`Self::keep`] is to be told. Behind
    /// what waits, it waits too.
    pub(crate) fn take_tick(&self) -> Tick {
        let tick = self.tick.take();
        if self.has_waiting() {
            self.wait(tick.into_bytes());
            return Tick::Empty;
        }
        tick
    }

    /// Keeps what the socket did not take of a tick.
    pub(crate) fn keep(&self, tick: &Tick, taken: usize) {
        if taken == 0 {
            self.wait(tick.slice_from(0));
        } else if taken < tick.len() {
            self.begun(tick.slice_from(taken));
        }
        self.tell_room();
    }

    /// Writes as much of what waits as the socket takes.
    pub(crate) fn drain(&self, socket: &Socket, encode: Encode<'_>) -> io::Result<()> {
        if self.has_waiting() {
            self.with_backlog(|backlog| backlog.drain(socket, encode))?;
            self.tell_room();
        }
        if !self.has_waiting() {
            socket.try_send()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
