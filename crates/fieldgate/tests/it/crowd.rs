//! Very many connections from one address: served up to the bound that is set, refused beyond it.

use serde_json::json;

use crate::support::{Gateway, Wire, wait_for};

const WANTED: usize = 10_000;
/// Files that the other tests of this process may need meanwhile.
const FILES_KEPT: usize = 3_000;
/// About twice what a connection at rest takes.
const BYTES_PER_CONNECTION_MAX: u64 = 8 << 10;

/// As many connections as the machine lets this process and the gateway hold open.
fn count() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let allowed = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: allowed.maximum, maximum: allowed.maximum };
    let raised = setrlimit(Resource::Nofile, wanted).is_ok();
    let files = if raised { allowed.maximum } else { allowed.current };
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap());
    let count = WANTED.min(files.saturating_sub(FILES_KEPT));
    if count < WANTED {
        eprintln!("\n!!! {files} files may be open: {count} connections instead of {WANTED}\n");
    }
    count
}

#[test]
fn ten_thousand_connections_of_one_address_cost_bounded_memory_and_one_more_is_refused() {
    let count = count();
    let gateway =
        Gateway::with(&[&format!("limits.connections_per_address_max={count}"), "log.level=warn"]);
    let key = gateway.key("operator");
    let memory = gateway.memory_bytes();
    let mut wires: Vec<Wire> = std::thread::scope(|scope| {
        let part = |n: usize| count / 4 + usize::from(n < count % 4);
        let parts: Vec<_> = (0..4)
            .map(|n| {
                let (gateway, key) = (&gateway, &key);
                scope.spawn(move || (0..part(n)).map(|_| gateway.as_app(key)).collect::<Vec<_>>())
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    assert_eq!(wires.len(), count);
    let grown = gateway.memory_bytes().saturating_sub(memory);
    let each = grown / count as u64;
    eprintln!("{count} connections: {grown} bytes, {each} each");
    assert!(each < BYTES_PER_CONNECTION_MAX, "{each} bytes a connection");

    let bearer = format!("Authorization: Bearer {key}");
    let open = || Wire::open(&gateway.address, "/", &[&bearer]);
    let refused = open().err().unwrap();
    assert!(refused.contains("429"), "{refused}");
    for wire in [0, count / 2, count - 1] {
        wires[wire].send(&json!({"type": "ping"}));
        wires[wire].next_of("pong");
    }
    drop(wires.pop());
    wait_for("the place of who left", || open().ok());
}
