//! All lights, all sensors, or both, as the text that answers.
//!
//! Read a few at a time, so that the mirror waits no longer than for those, and written while it goes on.
//! Each is as it was when its turn came, none as it was before the first: whoever listens from that
//! number on hears what changed meanwhile.

use fieldgate_core::id::Seq;
use fieldgate_dialects::deconz::{Error, Map};
use serde_json::Value;

use super::{reply::Reply, visit::Visit};
use crate::deconz::{
    shown::{Place, Shown},
    view::View,
};

/// So many are read while the mirror waits.
const PARTS_MAX: usize = 256;

/// One of the two lists.
#[derive(Debug)]
pub(super) struct Listing {
    is_light: bool,
    /// The number that is read next; nothing once all are read.
    from: Option<u64>,
    /// What was read and is not written yet.
    read: Vec<(u64, Map)>,
    text: String,
}

impl Listing {
    pub(super) const fn of(is_light: bool) -> Self {
        Self { is_light, from: Some(0), read: Vec::new(), text: String::new() }
    }

    /// The object of all of them.
    pub(super) fn into_text(mut self) -> String {
        self.text.push_str(if self.text.is_empty() { "{}" } else { "}" });
        self.text
    }

    /// Reads so many; tells how many more there is room for.
    fn read(&mut self, view: &View, room: usize) -> usize {
        let Some(from) = self.from.filter(|_| room > 0) else { return room };
        let mut parts = view.parts_from(self.is_light, from);
        let whole =
            |(number, shown, place): (u64, &Shown, Place)| Some((number, shown.resource(place)?));
        self.read.extend(parts.by_ref().take(room).filter_map(whole));
        self.from = parts.next().map(|(number, ..)| number);
        room.saturating_sub(self.read.len())
    }

    fn write(&mut self) {
        for (number, whole) in self.read.drain(..) {
            let before = if self.text.is_empty() { '{' } else { ',' };
            let one = format!("{before}\"{number}\":{}", Value::Object(whole));
            self.text.push_str(&one);
        }
    }
}

/// Answers with every light, or every sensor.
pub(super) async fn answer(visit: &Visit<'_>, is_light: bool) -> Result<Reply, Error> {
    let mut lists = [Listing::of(is_light)];
    read(visit, &mut lists, |_| ()).await?;
    let [list] = lists;
    Ok(Reply::tagged_text(list.into_text()))
}

/// Reads these lists, and beside their beginning what `first` looks at; with up to where all of it is
/// known.
pub(super) async fn read<T>(
    visit: &Visit<'_>,
    lists: &mut [Listing],
    first: impl FnOnce(&View) -> T,
) -> Result<(T, Seq), Error> {
    let some = |lists: &mut [Listing], view: &View| {
        lists.iter_mut().fold(PARTS_MAX, |room, list| list.read(view, room));
    };
    let known = visit.look(|view| {
        some(lists, view);
        (first(view), view.position)
    })?;
    loop {
        lists.iter_mut().for_each(Listing::write);
        if lists.iter().all(|list| list.from.is_none()) {
            return Ok(known);
        }
        tokio::task::yield_now().await;
        visit.look(|view| some(lists, view))?;
    }
}
