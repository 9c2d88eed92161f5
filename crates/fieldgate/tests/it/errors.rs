//! The page of errors is the catalogue of the code.

use std::{fmt::Write as _, path::Path};

use fieldgate_core::{close::CloseReason, fault::Code};

const HEAD: &str = "# Errors and endings

Made of the catalogue in the code by a test (`FIELDGATE_WRITE=1 cargo test -p fieldgate --test it -- errors::`): \
what stands here is what is sent. A program decides by the code, which never changes its meaning; the \
message beside it is for people, says what was wrong and where, and may be worded anew.

## Codes

In an `error` frame, an `ack` of a batch, a `problem+json`, and on stderr of the command line \
(`{\"error\":{\"code\",\"message\",\"hint\"}}`) the same word means the same. **Again**: the same request \
may succeed later; over HTTP `Retry-After` then says when to try.

| code | HTTP | again | what it means | what to do |
| --- | --- | --- | --- | --- |
";

const STATUSES: &str = "
Some statuses come with a code of the list that has another one: 401 (`not_allowed`: no credential, or \
none that is valid), 405 (`bad_value`: the address does not take the method; `Allow` tells what it takes), \
412 (`conflict`: it has changed since `If-Match` was read), 421 (`not_found`: the host name is not served, \
see `listen.hosts`) and 422 (`conflict`: the `Idempotency-Key` was used for another request).

## Close codes

What a WebSocket is closed with, and what the last event of a stream tells. **Again**: a client may \
come back by itself, with jitter; else somebody has to mend something first. The word stands in logs and \
in `fieldgate_closed_total{reason}`.

| code | word | text | again | what it means |
| --- | --- | --- | --- | --- |
";

fn page() -> String {
    let again = |may| if may { "yes" } else { "no" };
    let mut page = HEAD.to_owned();
    for code in Code::ALL {
        let (status, again) = (code.http_status(), again(code.is_temporary()));
        let (about, remedy) = (code.about(), code.remedy());
        writeln!(page, "| `{code}` | {status} | {again} | {about} | {remedy} |").unwrap();
    }
    page.push_str(STATUSES);
    for reason in CloseReason::ALL {
        let (code, word, text) = (reason.code(), reason.label(), reason.text());
        let (about, again) = (reason.about(), again(reason.may_return()));
        writeln!(page, "| {code} | `{word}` | {text} | {again} | {about} |").unwrap();
    }
    page
}

#[test]
fn the_page_of_errors_is_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol/errors.md");
    if std::env::var_os("FIELDGATE_WRITE").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == page(), "{} is not the catalogue: see FIELDGATE_WRITE", path.display());
}

#[test]
fn every_code_says_what_it_means_and_what_to_do() {
    for code in Code::ALL {
        assert!(code.about().ends_with('.') && !code.remedy().is_empty(), "{code}");
    }
}
