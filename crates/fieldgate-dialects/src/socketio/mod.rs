//! Socket.IO: Engine.IO 3 and 4 below, Socket.IO 4 and 5 above them.
//!
//! Pure. In: what a WebSocket message or the body of a polling request holds. Out: packets, and the
//! other way round. Absent: sessions, transports and namespaces, which are the server's.
//! Source: `github.com/socketio/engine.io-protocol` and `github.com/socketio/socket.io-protocol`.

mod attach;
mod engine;
mod packet;
mod payload;
mod rooms;

pub use attach::{Attached, Attaching};
pub use engine::{BadPacket, Engine, Opening, Part, write_binary, write_opening};
pub use packet::{
    Head, Kind, Packet, ROOT, arguments, head, read, write_ack, write_connect, write_connect_error,
    write_disconnect, write_event_end, write_event_start,
};
pub use payload::{
    BadPayload, Carried, Encoding, decoded_again, is_of_first_generation, read_payload,
    write_payload,
};
pub use rooms::{Look, Namespace, Positions, Room, Rooms, asked};
