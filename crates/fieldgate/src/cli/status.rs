//! `fieldgate status`: how the gateway is, and what it dropped.
//!
//! Of the gateway on this machine through its admin.sock, of one elsewhere over HTTP with a key.

use serde_json::{Value, json};

use super::admin::Admin;
use crate::{args::StatusArgs, failure::Failure, output};

/// How many of the newest drops are shown.
const DROPS_SHOWN: usize = 10;

pub(crate) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let admin = Admin::watch(&args.place)?;
    let mut status = admin.get("/status")?;
    let drops = admin.get(&format!("/drops?limit={DROPS_SHOWN}"))?;
    let newest = drops.get("items").cloned().unwrap_or_else(|| json!([]));
    if args.place.output.json {
        if let Value::Object(fields) = &mut status {
            fields.insert("newest_drops".to_owned(), newest);
        }
        return Ok(output::line(&status.to_string())?);
    }
    for line in told(&status, &newest) {
        output::line(&line)?;
    }
    Ok(())
}

/// Looks into a status.
struct Look<'a>(&'a Value);

impl Look<'_> {
    fn at(&self, path: &str) -> &Value {
        self.0.pointer(path).unwrap_or(&Value::Null)
    }

    fn text(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or("-")
    }

    fn number(&self, path: &str) -> u64 {
        self.at(path).as_u64().unwrap_or_default()
    }

    fn is(&self, path: &str) -> bool {
        self.at(path).as_bool().unwrap_or(false)
    }

    /// First and last number of a range.
    fn range(value: &Value) -> Option<(u64, u64)> {
        Some((value.get("from")?.as_u64()?, value.get("to")?.as_u64()?))
    }
}

/// What a person reads: a line for each part, and one for each thing to act on.
fn told(status: &Value, newest: &Value) -> Vec<String> {
    let look = Look(status);
    let bound: Vec<String> = look
        .at("/listeners")
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| format!("{name} {}", output::cell(look.at("/listeners"), name)))
        .collect();
    let number = |path| look.number(path);
    let up = span(number("/uptime_ms"));
    let head = format!("fieldgate {}: {}, up {up}", look.text("/version"), look.text("/ready"));
    if look.at("/log").is_null() {
        // To another tenant than the default one the gateway tells no more.
        return std::iter::once(head).chain(tenants(&look)).collect();
    }
    let mut lines = vec![
        head,
        format!("listens  {}{}", bound.join(", "), if look.is("/tls") { " (TLS)" } else { "" }),
        format!(
            "links    {} devices, {} keys, {} users, {} nobody yet; {} read from the log, {} wait",
            number("/links/devices"),
            number("/links/keys"),
            number("/links/users"),
            number("/links/unauthenticated"),
            number("/links/behind"),
            size(number("/links/outbox_bytes")),
        ),
        format!(
            "log      {} to {}, durable {}; {} segments, {}; epoch {}",
            number("/log/oldest"),
            number("/log/seq"),
            number("/log/durable"),
            number("/log/segments"),
            size(number("/log/bytes")),
            look.text("/log/epoch"),
        ),
        format!(
            "tables   applied {}, exported {}",
            number("/tables/applied"),
            number("/tables/exported")
        ),
    ];
    if look.at("/tenants").as_object().is_some_and(|tenants| tenants.len() > 1) {
        lines.extend(tenants(&look));
    }
    lines.extend(warnings(&look));
    lines.extend(drops(look.at("/drops"), newest));
    lines
}

/// A line for each tenant.
fn tenants(look: &Look<'_>) -> Vec<String> {
    let all = look.at("/tenants").as_object().into_iter().flatten();
    let line = |(name, tenant): (&String, &Value)| {
        let tenant = Look(tenant);
        let number = |path| tenant.number(path);
        format!(
            "tenant   {name}: {} connections, {} devices, {} retained, {} messages since the start",
            number("/connections"),
            number("/devices"),
            number("/retained"),
            number("/accepted"),
        )
    };
    all.map(line).collect()
}

/// What somebody should do something about.
fn warnings(look: &Look<'_>) -> Vec<String> {
    let mut said = Vec::new();
    if look.text("/durability") == "os" {
        said.push("store.durability is \"os\": an acknowledgement does not mean stored".to_owned());
    }
    if look.at("/log/refuses").is_string() {
        said.push(format!("the log takes no messages: {}", look.text("/log/refuses")));
    }
    if look.is("/tables/failing") {
        said.push("the tables cannot be written: retention stands still".to_owned());
    }
    if look.is("/log/retention_held_back") {
        said.push("retention waits for an export".to_owned());
    }
    let damaged = look.at("/log/damaged").as_array().into_iter().flatten();
    said.extend(damaged.filter_map(Look::range).map(|(from, to)| {
        format!("{from} to {to} cannot be read: stop the gateway, then fieldgate log repair")
    }));
    if let Some((from, to)) = Look::range(look.at("/log/start/crash_gap")) {
        said.push(format!("the stop before this start was not clean: {from} to {to} are a gap"));
    }
    said.into_iter().map(|line| format!("WARNING  {line}")).collect()
}

fn drops(totals: &Value, newest: &Value) -> Vec<String> {
    let totals = totals.as_object().into_iter().flatten();
    let totals: Vec<_> = totals
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    let none = "none".to_owned();
    let mut lines =
        vec![format!("drops    {}", if totals.is_empty() { none } else { totals.join(", ") })];
    let rows: Vec<Vec<String>> = newest
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| {
            let time = item.get("time").and_then(Value::as_i64).unwrap_or_default();
            let time = jiff::Timestamp::from_millisecond(time).unwrap_or_default().to_string();
            let cell = |name| output::cell(item, name);
            vec![time, cell("reason"), cell("count"), cell("who")]
        })
        .collect();
    if !rows.is_empty() {
        let table = output::aligned(&["TIME", "REASON", "COUNT", "WHO"], &rows);
        lines.extend(table.into_iter().map(|line| format!("  {line}")));
    }
    lines
}

/// A time in its largest unit.
fn span(ms: u64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000)];
    let unit = units.iter().find(|(_, factor)| ms >= *factor);
    unit.map_or_else(
        || format!("{} s", ms / 1_000),
        |(name, factor)| format!("{} {name}", ms / factor),
    )
}

/// Bytes in their largest unit.
fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.iter().find(|(_, shift)| bytes >> shift > 0);
    unit.map_or_else(|| format!("{bytes} B"), |(name, shift)| format!("{} {name}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_an_operator_is_said_in_words() {
        let status = json!({
            "version": "1", "ready": "storage", "uptime_ms": 7_200_000, "durability": "os",
            "listeners": {"http": ["127.0.0.1:8080"]}, "tls": true,
            "links": {"devices": 3, "outbox_bytes": 2_097_152},
            "log": {
                "seq": 9, "refuses": "the disk failed", "retention_held_back": true,
                "damaged": [{"from": 4, "to": 5}],
                "start": {"crash_gap": {"from": 7, "to": 8}},
            },
            "tables": {"failing": true},
            "drops": {"conflated": 0, "expired": 2},
        });
        let newest = json!([{"time": 0, "reason": "expired", "count": 2, "who": "lamp"}]);
        let text = told(&status, &newest).join("\n");
        for said in [
            "fieldgate 1: storage, up 2 h",
            "http 127.0.0.1:8080 (TLS)",
            "3 devices",
            "2 MiB wait",
            "does not mean stored",
            "takes no messages: the disk failed",
            "tables cannot be written",
            "waits for an export",
            "4 to 5 cannot be read",
            "7 to 8 are a gap",
            "drops    expired 2\n",
            "1970-01-01T00:00:00Z  expired  2      lamp",
        ] {
            assert!(text.contains(said), "{said:?} is not in\n{text}");
        }
        let calm = json!({"durability": "fsync", "log": {}});
        let calm = told(&calm, &json!([])).join("\n");
        assert!(!calm.contains("WARNING") && calm.ends_with("drops    none"), "{calm}");
    }
}
