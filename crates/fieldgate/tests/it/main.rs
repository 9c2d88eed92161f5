//! Tests of the whole binary over real sockets.
