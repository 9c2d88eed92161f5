//! fieldgate
fn main() {}
