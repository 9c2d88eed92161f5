//! The rooms that one session is in, and how long it has been told of each.
//!
//! Most clients are in one room, and there are many of them at rest: a sorted list takes what it
//! holds, where a map begins with room for eleven. Bounded by who enters.

use fieldgate_core::id::Seq;
use fieldgate_dialects::socketio::Room;

use crate::signal::Signal;

/// Being in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stay {
    /// Which one, of a room that was left and entered again.
    pub(super) number: u64,
    /// Up to where its past was told; nothing while it is.
    pub(super) told: Option<Seq>,
}

/// Rooms in their order, each once, and who waits for one of them to be left.
#[derive(Debug, Default)]
pub(super) struct Stays(Vec<(Room, Stay)>, Signal);

impl Drop for Stays {
    fn drop(&mut self) {
        self.1.tell();
    }
}

impl Stays {
    fn place_of(&self, room: &Room) -> Result<usize, usize> {
        self.0.binary_search_by(|(of, _)| of.cmp(room))
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, room: &Room) -> bool {
        self.place_of(room).is_ok()
    }

    pub(super) fn get(&self, room: &Room) -> Option<Stay> {
        self.place_of(room).ok().and_then(|at| self.0.get(at)).map(|(_, stay)| *stay)
    }

    pub(super) fn get_mut(&mut self, room: &Room) -> Option<&mut Stay> {
        let at = self.place_of(room).ok()?;
        self.0.get_mut(at).map(|(_, stay)| stay)
    }

    /// Enters a room that it is not in.
    pub(super) fn insert(&mut self, room: Room, stay: Stay) {
        if let Err(at) = self.place_of(&room) {
            // Growing by doubling starts at four.
            self.0.reserve_exact(usize::from(self.0.is_empty()));
            self.0.insert(at, (room, stay));
        }
    }

    /// Leaves the rooms of which `keep` does not say that it stays.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Room) -> bool) {
        let before = self.0.len();
        self.0.retain(|(room, _)| keep(room));
        if self.0.len() < before {
            self.1.tell();
        }
    }

    /// Told when rooms are left, or all of this is gone.
    pub(super) const fn left(&self) -> &Signal {
        &self.1
    }

    pub(super) fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.0.iter().map(|(room, _)| room)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Room, Stay)> {
        self.0.iter()
    }

    pub(super) fn stays_mut(&mut self) -> impl Iterator<Item = &mut Stay> {
        self.0.iter_mut().map(|(_, stay)| stay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_found_by_its_name_until_it_is_left() {
        let room = |name: &str| Room::Resource(name.into());
        let mut stays = Stays::default();
        for (number, name) in (0..).zip(["m", "a", "z"]) {
            stays.insert(room(name), Stay { number, told: None });
        }
        let names: Vec<Room> = stays.rooms().cloned().collect();
        assert_eq!(names, ["a", "m", "z"].map(room));
        stays.get_mut(&room("a")).unwrap().told = Some(Seq(7));
        assert_eq!(stays.get(&room("a")), Some(Stay { number: 1, told: Some(Seq(7)) }));
        stays.retain(|of| *of != room("m"));
        assert!(!stays.contains(&room("m")) && stays.len() == 2);
        assert_eq!(stays.get(&room("m")), None);
    }

    #[tokio::test]
    async fn who_waits_for_a_room_to_be_left_is_told_of_each_way_out() {
        let room = Room::Resource("a".into());
        let mut stays = Stays::default();
        stays.insert(room.clone(), Stay { number: 0, told: None });
        let left = stays.left().next();
        stays.retain(|of| *of == room);
        assert!(stays.left().is_awaited(), "nothing was left");
        stays.retain(|of| *of != room);
        left.await;
        let left = stays.left().next();
        drop(stays);
        left.await;
    }

    #[test]
    fn one_room_takes_the_space_of_one() {
        let mut stays = Stays::default();
        stays.insert(Room::Resource("a".into()), Stay { number: 0, told: None });
        assert_eq!(stays.0.capacity(), 1);
    }
}
