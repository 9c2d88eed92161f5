//! What stands for a ring where there is none.

use std::io;

use crate::Send;

/// A ring that cannot be made here.
#[derive(Debug)]
pub enum Ring {}

impl Ring {
    /// # Errors
    ///
    /// Always [`io::ErrorKind::Unsupported`].
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Cannot be called.
    pub fn send_each<'a>(
        &mut self,
        _sends: impl IntoIterator<Item = Send<'a>>,
    ) -> impl Iterator<Item = io::Result<usize>> {
        let nothing: [io::Result<usize>; 0] = match *self {};
        nothing.into_iter()
    }
}
