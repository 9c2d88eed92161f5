//! What rooms the links of a worker are in: those in the same ones share a name for them, and with it
//! the bytes of every event.

use std::{collections::HashMap, rc::Rc};

use fieldgate_dialects::{
    socketio::Rooms,
    wire::{Form, RoomsId},
};

use super::Hub;
use crate::link::Link;

/// Sets of rooms, each with its name and how many links are in it.
#[derive(Debug, Default)]
pub(super) struct Interned {
    ids: HashMap<Rc<Rooms>, RoomsId>,
    sets: HashMap<RoomsId, (Rc<Rooms>, usize)>,
    last: u32,
}

impl Interned {
    fn enter(&mut self, rooms: Rooms) -> RoomsId {
        if let Some(id) = self.ids.get(&rooms) {
            if let Some((_, count)) = self.sets.get_mut(id) {
                *count += 1;
            }
            return *id;
        }
        while self.sets.contains_key(&RoomsId(self.last)) {
            self.last = self.last.wrapping_add(1);
        }
        let (id, rooms) = (RoomsId(self.last), Rc::new(rooms));
        self.last = self.last.wrapping_add(1);
        self.ids.insert(Rc::clone(&rooms), id);
        self.sets.insert(id, (rooms, 1));
        id
    }

    fn leave(&mut self, id: RoomsId) {
        let Some((rooms, count)) = self.sets.get_mut(&id) else { return };
        *count -= 1;
        if *count == 0 {
            self.ids.remove(rooms);
            self.sets.remove(&id);
        }
    }
}

impl Hub {
    /// What a link of this form is in.
    pub(super) fn rooms_of(&self, form: Form) -> Option<Rc<Rooms>> {
        let Form::Rooms(id) = form else { return None };
        self.rooms.borrow().sets.get(&id).map(|(rooms, _)| Rc::clone(rooms))
    }

    /// A link is in these rooms from now on, and in no others.
    pub(crate) fn enter_rooms(&self, link: &Link, rooms: Rooms) {
        let mut interned = self.rooms.borrow_mut();
        let form =
            if rooms.rooms.is_empty() { Form::Session } else { Form::Rooms(interned.enter(rooms)) };
        if let Form::Rooms(before) = link.form.replace(form) {
            interned.leave(before);
        }
    }

    /// A link is in no rooms any more.
    pub(super) fn leave_rooms(&self, link: &Link) {
        if let Form::Rooms(id) = link.form.get() {
            link.form.set(Form::Session);
            self.rooms.borrow_mut().leave(id);
        }
    }

    /// A form for these rooms while it is held.
    pub(crate) fn hold_rooms(self: &Rc<Self>, rooms: Rooms) -> Held {
        Held { hub: Rc::clone(self), id: self.rooms.borrow_mut().enter(rooms) }
    }
}

/// A form for rooms that no link need be in.
#[derive(Debug)]
pub(crate) struct Held {
    hub: Rc<Hub>,
    id: RoomsId,
}

impl Held {
    pub(crate) const fn form(&self) -> Form {
        Form::Rooms(self.id)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hub.rooms.borrow_mut().leave(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fieldgate_core::id::Seq;
    use fieldgate_dialects::socketio::{Namespace, Positions, Room};

    use super::*;

    fn rooms(name: &str) -> Rooms {
        let rooms = BTreeMap::from([(Room::Resource(name.into()), Seq(0))]);
        let (namespace, positions) = (Namespace::Things, Positions::Silent);
        Rooms { namespace, positions, asks: false, rooms }
    }

    #[test]
    fn the_same_rooms_have_one_name_while_somebody_is_in_them() {
        let mut interned = Interned::default();
        let one = interned.enter(rooms("a"));
        assert_eq!(interned.enter(rooms("a")), one);
        let other = interned.enter(rooms("b"));
        assert_ne!(other, one);
        interned.leave(one);
        assert!(interned.sets.contains_key(&one));
        interned.leave(one);
        assert!(!interned.sets.contains_key(&one) && interned.ids.len() == 1);
    }
}
