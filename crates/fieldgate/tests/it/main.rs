//! Tests of the whole binary over real sockets, with clients of ours and of others.

mod cli;
mod foreign;
mod limits;
mod native;
mod restart;
mod shutdown;
mod support;
mod tidy;
mod tls;
