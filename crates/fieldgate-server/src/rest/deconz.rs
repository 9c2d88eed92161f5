//! deCONZ apps: the time in which they make keys for themselves, and these keys, listed and revoked.
//!
//! Absent: how an app gets one, which is a request of its own interface.

use std::time::{Duration, Instant};

use axum::Json;
use fieldgate_core::{
    audit::Act,
    fault::{Code, Fault},
};
use fieldgate_store::{
    audit::Said,
    registry::{BridgeKey, BridgeStep, Change},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Changed, Problems,
    asker::{Admin, Asker, Body, Path, bad},
    list::{List, Page, PageQuery},
};
use crate::{
    deconz::unlock::{UNLOCK_S, UNLOCK_S_MAX},
    fabric::now,
    http::Problem,
};

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(unlock)).routes(routes!(list)).routes(routes!(revoke))
}

/// For how long apps may make keys for themselves.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewUnlock {
    /// From now on, whatever was said before.
    #[serde(default = "unlock_s")]
    #[schema(minimum = 1, maximum = 600, default = 60)]
    seconds: u64,
}

const fn unlock_s() -> u64 {
    UNLOCK_S
}

/// Apps may make keys for themselves.
#[derive(Serialize, ToSchema)]
struct Unlocked {
    /// Until then, in Unix ms.
    until: u64,
}

/// The key of an app, without what the app shows.
#[derive(Debug, Serialize, ToSchema)]
struct DeconzKeyView {
    /// Its id.
    id: String,
    /// What the app says that it is.
    name: String,
    /// When it was made, in Unix ms.
    created: u64,
    /// When it was last used, to some minutes, in Unix ms; null: never.
    #[schema(required = true)]
    used: Option<u64>,
    /// Where it was used from, 64 addresses at most.
    addresses: Vec<SeenView>,
}

/// A key was used from an address.
#[derive(Debug, Serialize, ToSchema)]
struct SeenView {
    /// The IP address.
    address: String,
    /// When last, to some minutes, in Unix ms.
    used: u64,
}

impl DeconzKeyView {
    fn of(key: &BridgeKey) -> Self {
        let BridgeKey { id, name, hash: _, created_ms: created, used_ms, addresses } = key.clone();
        let seen = addresses.into_iter();
        let addresses = seen.map(|(address, used)| SeenView { address, used });
        let used = (used_ms > 0).then_some(used_ms);
        Self { id, name, created, used, addresses: addresses.collect() }
    }
}

/// Lets deCONZ apps make keys for themselves for a while: the link button that the gateway has not.
///
/// Refused where `listen.deconz` is off, and in another tenant than `deconz.tenant`.
#[utoipa::path(post, path = "/v1/deconz/unlock", tag = "access", operation_id = "unlockDeconz",
    request_body(content = NewUnlock, example = json!({"seconds": 60})),
    responses((status = 200, description = "They may, from now on.", body = Unlocked,
        example = json!({"until": 1_763_712_060_000_u64})), Problems))]
async fn unlock(
    Admin(asker): Admin,
    Body(new): Body<NewUnlock>,
) -> Result<Json<Unlocked>, Problem> {
    if !(1..=UNLOCK_S_MAX).contains(&new.seconds) {
        return Err(bad(format!("seconds is 1 to {UNLOCK_S_MAX}")).into());
    }
    must_be_served(&asker)?;
    let time = Duration::from_secs(new.seconds);
    let said = Said::done(Act::DeconzUnlock, &asker.author(), "");
    asker.enter(said.with("seconds", &new.seconds.to_string())).await?;
    asker.shared.unlock.open(Instant::now(), time);
    Ok(Json(Unlocked { until: now().0.saturating_add(new.seconds * 1_000) }))
}

/// Refuses where no app could come.
fn must_be_served(asker: &Asker) -> Result<(), Fault> {
    let config = &asker.shared.config;
    if config.listen.deconz.is_empty() {
        let text = "there is no deCONZ interface: set listen.deconz, and start the gateway anew";
        return Err(Fault::new(Code::Conflict, text));
    }
    if config.deconz.tenant != asker.tenant().as_str() {
        let text = "deCONZ apps are of another tenant: deconz.tenant says which";
        return Err(Fault::new(Code::Conflict, text));
    }
    Ok(())
}

/// The keys of deCONZ apps, by id.
#[utoipa::path(get, path = "/v1/deconz/keys", tag = "access", operation_id = "listDeconzKeys",
    params(PageQuery),
    responses((status = 200, description = "A page.", body = List<DeconzKeyView>), Problems))]
async fn list(Admin(asker): Admin, page: Page) -> Json<List<DeconzKeyView>> {
    let keys = asker.shared.state.bridge_keys(asker.tenant());
    let List { items, next } = page.cut(keys.iter(), |key| &key.id);
    Json(List { items: items.into_iter().map(|key| DeconzKeyView::of(key)).collect(), next })
}

/// Revokes the key of an app; what it opened ends within a second.
#[utoipa::path(delete, path = "/v1/deconz/keys/{id}", tag = "access",
    operation_id = "revokeDeconzKey", params(("id" = String, Path)),
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn revoke(Admin(asker): Admin, Path(id): Path<String>) -> Result<Json<Changed>, Problem> {
    let change = Change::Bridge(BridgeStep::KeyRemove(id));
    Ok(Json(Changed { seq: asker.change(change).await? }))
}

#[cfg(test)]
mod tests {
    use fieldgate_core::id::TenantId;
    use fieldgate_store::registry::RegistryChange;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::Gateway;

    async fn ask(gateway: &Gateway, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        gateway.running.admin(method, path, body).await.unwrap()
    }

    #[tokio::test]
    async fn apps_may_make_keys_for_as_long_as_was_said() {
        let gateway = Gateway::start(&["listen.deconz=127.0.0.1:0"], 1).await;
        let unlock = |body| ask(&gateway, "POST", "/v1/deconz/unlock", body);
        let is_open = || gateway.shared().unlock.is_open(Instant::now());
        for body in [json!({"seconds": 0}), json!({"seconds": 601}), json!({"seconds": "60"})] {
            assert_eq!(unlock(body).await.0, 400);
        }
        assert!(!is_open(), "what is refused opens nothing");
        let before = now().0;
        let (status, told) = unlock(json!({})).await;
        let until = told["until"].as_u64().unwrap();
        assert_eq!(status, 200, "{told}");
        assert!(until >= before + 60_000 && until <= now().0 + 60_000 && is_open());
        let (_, audit) = ask(&gateway, "GET", "/v1/audit?trail=admin&limit=1", Value::Null).await;
        let entry = &audit["items"][0];
        assert_eq!(
            (&entry["act"], &entry["details"]),
            (&json!("deconz.unlock"), &json!([{"name": "seconds", "value": "60"}]))
        );
    }

    #[tokio::test]
    async fn where_no_app_can_come_none_is_let_in() {
        for (settings, words) in [
            (["listen.deconz=[]", "deconz.tenant=default"], "listen.deconz"),
            (["listen.deconz=127.0.0.1:0", "deconz.tenant=acme"], "deconz.tenant"),
        ] {
            let gateway = Gateway::start(&settings, 1).await;
            let (status, told) = ask(&gateway, "POST", "/v1/deconz/unlock", json!({})).await;
            assert_eq!((status, &told["code"]), (409, &json!("conflict")), "{told}");
            assert!(told["detail"].as_str().unwrap().contains(words), "{told}");
            assert!(!gateway.shared().unlock.is_open(Instant::now()));
        }
    }

    #[tokio::test]
    async fn keys_are_listed_without_what_apps_show_and_revoked() {
        let gateway = Gateway::start(&[], 1).await;
        let hash = gateway.shared().state.master_key().hash_bridge("shown");
        let change = |step| RegistryChange::local("default", Change::Bridge(step));
        for (id, hash) in [("app-1", hash), ("app-2", [9; 32])] {
            let (id, name) = (id.to_owned(), format!("the hub {id}"));
            let key = BridgeKey { id, name, hash, created_ms: 5, ..BridgeKey::default() };
            gateway.shared().change_registry(change(BridgeStep::KeyAdd(key))).await.unwrap();
        }
        let (id, address) = ("app-1".to_owned(), "192.0.2.7".to_owned());
        let seen = BridgeStep::Seen { id, address };
        gateway.shared().change_registry(change(seen)).await.unwrap();
        let (status, page) = ask(&gateway, "GET", "/v1/deconz/keys?limit=1", Value::Null).await;
        assert_eq!(status, 200, "{page}");
        let used = page["items"][0]["used"].as_u64().unwrap();
        let addresses = json!([{"address": "192.0.2.7", "used": used}]);
        let first = json!({"id": "app-1", "name": "the hub app-1", "created": 5, "used": used, "addresses": addresses});
        assert_eq!(page["items"], json!([first]));
        assert!(page["next"].is_string());
        let revoke = || ask(&gateway, "DELETE", "/v1/deconz/keys/app-1", Value::Null);
        assert_eq!(revoke().await.0, 200);
        assert_eq!(revoke().await.0, 404);
        assert!(gateway.shared().state.verify_bridge_key("shown").is_none());
        let (_, page) = ask(&gateway, "GET", "/v1/deconz/keys", Value::Null).await;
        assert_eq!(
            (&page["items"][0]["id"], &page["items"][0]["used"]),
            (&json!("app-2"), &Value::Null)
        );
        assert_eq!(gateway.shared().state.bridge_keys(&TenantId::default_tenant()).len(), 1);
        let (_, audit) = ask(&gateway, "GET", "/v1/audit?limit=1", Value::Null).await;
        let entry = &audit["items"][0];
        assert_eq!(
            (&entry["act"], &entry["target"]),
            (&json!("deconz_key.remove"), &json!("app-1"))
        );
    }
}
