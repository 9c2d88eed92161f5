//! The one place that counts refused acts: what a request asks to do, by its address, and who asks.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    http::{Method, StatusCode},
    response::Response,
};
use fieldgate_core::{audit::Act, fault::Code, id::TenantId};
use fieldgate_store::audit::Author;

use super::asker::Entrance;
use crate::refusals::Refusal;

/// Most parts of an address below `/v1`.
const PARTS_MAX: usize = 8;

/// What is known of who asks, as far as the request was read.
#[derive(Debug, Clone, Default)]
struct Known {
    tenant: Option<TenantId>,
    name: Option<String>,
    target: Option<String>,
}

/// Goes along with a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Known>>);

impl Trace {
    fn with(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes who asks.
    pub(super) fn asks(&self, tenant: &TenantId, name: &str) {
        self.with(|known| {
            (known.tenant, known.name) = (Some(tenant.clone()), Some(name.to_owned()));
        });
    }

    /// Notes whom a sign-in is for, of whom it is known that they exist.
    pub(super) fn concerns(&self, tenant: &TenantId, target: Option<&str>) {
        self.with(|known| {
            (known.tenant, known.target) = (Some(tenant.clone()), target.map(str::to_owned));
        });
    }
}

/// A request that may have to be counted.
pub(super) struct Watched {
    entrance: Entrance,
    act: Act,
    target: String,
    /// Whether it only reads: then it counts if there was no right to.
    reads: bool,
    trace: Trace,
}

impl Watched {
    /// Looks at a request, if it asks for an act that is audited.
    pub(super) fn of(entrance: &Entrance, method: &Method, path: &str) -> Option<Self> {
        let (act, target) = act_of(method, path)?;
        let (entrance, trace) = (entrance.clone(), Trace::default());
        Some(Self { entrance, act, target, reads: *method == Method::GET, trace })
    }

    /// What goes along with it.
    pub(super) fn trace(&self) -> Trace {
        self.trace.clone()
    }

    /// Counts it if it was refused.
    pub(super) fn answered(self, response: &Response) {
        let Some(code) = response.extensions().get::<Code>().copied() else { return };
        let status = response.status();
        let signs_in =
            matches!(self.act, Act::SignIn | Act::LoginLinkUse | Act::SignInRenew | Act::SignOut);
        // A wrong credential is counted where it is looked at.
        if status == StatusCode::METHOD_NOT_ALLOWED
            || status == StatusCode::UNAUTHORIZED && !signs_in
            || self.reads && status != StatusCode::FORBIDDEN
        {
            return;
        }
        let known = self.trace.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (shared, address) = match &self.entrance {
            Entrance::Local(shared) => (shared, None),
            Entrance::Listener(caller, address) => (caller.shared(), Some(*address)),
        };
        let name = known.name.unwrap_or_else(|| match address {
            Some(_) => String::new(),
            None => Author::local().name,
        });
        let tenant = known.tenant.unwrap_or_else(TenantId::default_tenant);
        let (author, act) = (Author { name, address }, self.act);
        let target = known.target.unwrap_or(self.target);
        shared.refuse(Refusal { tenant, author, act, code, target });
    }
}

/// What a request asks to do that is audited, and to what.
fn act_of(method: &Method, path: &str) -> Option<(Act, String)> {
    let path = path.strip_prefix("/v1/")?;
    let (mut parts, mut len) = ([""; PARTS_MAX], 0);
    for part in path.split('/') {
        *parts.get_mut(len)? = part;
        len += 1;
    }
    let (act, target) = match (method.as_str(), parts.get(..len)?) {
        ("POST", ["devices"]) => (Act::DeviceAdd, ""),
        ("DELETE", ["devices", id]) => (Act::DeviceRemove, *id),
        ("POST", ["devices", id, "rotate"]) => (Act::DeviceRotate, *id),
        ("POST", ["devices", id, "credentials"]) => (Act::CredentialAdd, *id),
        ("DELETE", ["devices", id, "credentials", _]) => (Act::CredentialRemove, *id),
        ("POST", ["activation-codes"]) => (Act::ActivationAdd, ""),
        ("DELETE", ["activation-codes", id]) => (Act::ActivationRemove, *id),
        ("POST", ["deconz", "unlock"]) => (Act::DeconzUnlock, ""),
        ("DELETE", ["deconz", "keys", id]) => (Act::DeconzKeyRemove, *id),
        ("PUT", ["devices", id, "integrity"]) => (Act::DeviceIntegrity, *id),
        ("PUT", ["devices", id, "profile"]) => (Act::ProfileSet, *id),
        ("PUT" | "PATCH", ["groups", id]) | ("PUT" | "DELETE", ["groups", id, "devices", _]) => {
            (Act::GroupSet, *id)
        }
        ("DELETE", ["groups", id]) => (Act::GroupRemove, *id),
        ("PUT", ["scenes", id]) | ("POST", ["scenes", id, "store"]) => (Act::SceneSet, *id),
        ("DELETE", ["scenes", id]) => (Act::SceneRemove, *id),
        ("POST", ["keys"]) => (Act::KeyAdd, ""),
        ("PATCH", ["devices", id]) => (Act::DeviceEdit, *id),
        ("PATCH", ["keys", id]) => (Act::KeyEdit, *id),
        ("PATCH", ["users", name]) => (Act::UserEdit, *name),
        ("DELETE", ["keys", id]) => (Act::KeyRevoke, *id),
        ("POST", ["users"]) => (Act::UserAdd, ""),
        ("DELETE", ["users", name]) => (Act::UserRemove, *name),
        ("POST", ["users", name, "password"]) => (Act::UserPassword, *name),
        ("POST", ["users", name, "login-link"]) => (Act::LoginLinkAdd, *name),
        ("POST", ["login"]) => (Act::SignIn, ""),
        ("POST", ["login-link"]) => (Act::LoginLinkUse, ""),
        ("POST", ["refresh"]) => (Act::SignInRenew, ""),
        ("POST", ["logout"]) => (Act::SignOut, ""),
        ("DELETE", ["clients", id]) => (Act::ClientDisconnect, *id),
        ("POST", ["tenants"]) => (Act::TenantAdd, ""),
        ("PUT", ["tenants", name]) => (Act::TenantSet, *name),
        ("DELETE", ["tenants", name]) => (Act::TenantRemove, *name),
        ("POST", ["integrations"]) => (Act::IntegrationAdd, ""),
        ("PATCH", ["integrations", name]) => (Act::IntegrationEdit, *name),
        ("DELETE", ["integrations", name]) => (Act::IntegrationRemove, *name),
        ("POST", ["integrations", name, act]) => (integration_act(act)?, *name),
        ("POST", ["integrations", name, "set-aside", _, "retry"]) => {
            (Act::IntegrationReplay, *name)
        }
        ("DELETE", ["integrations", name, "set-aside", _]) => (Act::IntegrationDrop, *name),
        ("GET", ["audit", ..]) => (Act::AuditRead, ""),
        (
            "GET",
            ["keys" | "users" | "tenants" | "integrations" | "activation-codes" | "deconz", ..]
            | ["devices", _, "credentials", ..],
        ) => (Act::AdminRead, path),
        _ => return None,
    };
    Some((act, target.to_owned()))
}

fn integration_act(word: &str) -> Option<Act> {
    Some(match word {
        "pause" => Act::IntegrationPause,
        "resume" => Act::IntegrationResume,
        "rotate" => Act::IntegrationRotate,
        "replay" => Act::IntegrationReplay,
        "test" => Act::IntegrationTest,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_the_act_and_its_target() {
        let act = |method, path| act_of(&method, path);
        assert_eq!(act(Method::POST, "/v1/keys"), Some((Act::KeyAdd, String::new())));
        let removed = act(Method::DELETE, "/v1/devices/lamp-1");
        assert_eq!(removed, Some((Act::DeviceRemove, "lamp-1".to_owned())));
        // Messages are in the log, with their senders; a ticket lets nobody do what they may not.
        let no_act = [
            "/v1/publish",
            "/v1/commands",
            "/v1/devices/{id}/desired",
            "/v1/scenes/{id}/recall",
            "/v1/tickets",
        ];
        for (path, item) in &crate::rest::openapi().paths.paths {
            let asked = [
                (Method::PUT, item.put.is_some()),
                (Method::POST, item.post.is_some()),
                (Method::PATCH, item.patch.is_some()),
                (Method::DELETE, item.delete.is_some()),
            ];
            for (method, _) in asked.into_iter().filter(|(_, is_there)| *is_there) {
                let known = act_of(&method, path).is_some() || no_act.contains(&path.as_str());
                assert!(known, "{method} {path} changes something: which act is it?");
            }
        }
        for path in ["/v1/devices", "/v1/status", "/v1/keys/a/b", "/v1", "/"] {
            assert_eq!(act(Method::DELETE, path), None, "{path}");
        }
    }
}
