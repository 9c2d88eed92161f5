//! `fieldgate status`: how the gateway is, and what it dropped.

use serde_json::{Value, json};

use super::admin::Admin;
use crate::{args::StatusArgs, failure::Failure, output};

pub(crate) fn run(args: &StatusArgs) -> Result<(), Failure> {
    super::admin::check_tenant(&args.place.tenant)?;
    let admin = Admin::running(&args.place.data)?;
    let status = admin.get("/status")?;
    let drops = admin.get("/drops")?;
    if args.place.output.json {
        let mut both = status;
        if let Value::Object(fields) = &mut both {
            fields.insert("drops".to_owned(), drops);
            return Ok(output::line(&both.to_string())?);
        }
        return Ok(output::line(&json!({"status": both, "drops": drops}).to_string())?);
    }
    print("", &status)?;
    output::line("drops")?;
    print("  ", &drops)
}

/// One line for each value, nested names indented.
fn print(indent: &str, value: &Value) -> Result<(), Failure> {
    if let Value::Array(items) = value {
        return items.iter().try_for_each(|item| Ok(output::line(&format!("{indent}{item}"))?));
    }
    let Some(fields) = value.as_object() else {
        return Ok(output::line(&format!("{indent}{value}"))?);
    };
    for (name, value) in fields {
        if value.is_object() {
            output::line(&format!("{indent}{name}"))?;
            print(&format!("{indent}  "), value)?;
        } else {
            let width = 24_usize.saturating_sub(indent.len());
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            output::line(&format!("{indent}{name:<width$} {text}"))?;
        }
    }
    Ok(())
}
