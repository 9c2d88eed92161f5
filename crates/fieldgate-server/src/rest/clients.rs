//! Who is connected.

use axum::Json;
use fieldgate_core::{access::Verb, audit::Act, close::CloseReason, fault::Fault};
use fieldgate_store::audit::Said;
use tokio::sync::oneshot;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Problems,
    asker::{Admin, Asker, Path, bad},
    list::{List, Page, PageQuery},
    no_such,
};
use crate::{
    http::Problem,
    hub::{Client, RollCall},
    present::LinkRef,
    worker::Control,
};

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, disconnect))
}

/// The connections of this tenant that have proved whose they are: what each has subscribed to, and
/// whether it keeps up. One that comes or goes between two pages is seen or not.
#[utoipa::path(get, path = "/v1/clients", tag = "operation", operation_id = "listClients",
    params(PageQuery),
    responses((status = 200, description = "A page.", body = List<Client>), Problems))]
async fn list(asker: Asker, page: Page) -> Result<Json<List<Client>>, Problem> {
    asker.must(Verb::Read)?;
    let from = page.after().map(link_of).transpose()?;
    let mut items = Vec::new();
    for worker in from.map_or(0, |link| link.worker)..asker.shared.inboxes.len() {
        let after = from.filter(|link| link.worker == worker).map_or(0, |link| link.link);
        let wanted = page.len() + 1 - items.len();
        items.extend(call(&asker, worker, after, wanted).await);
        if items.len() > page.len() {
            break;
        }
    }
    Ok(Json(page.end(items, |client| &client.id)))
}

/// One connection.
#[utoipa::path(get, path = "/v1/clients/{id}", tag = "operation", operation_id = "showClient",
    params(("id" = String, Path)),
    responses((status = 200, description = "It is there.", body = Client), Problems))]
async fn show(asker: Asker, Path(id): Path<String>) -> Result<Json<Client>, Problem> {
    asker.must(Verb::Read)?;
    Ok(Json(client(&asker, &id).await?.1))
}

/// Ends a connection with close code 1008. It may come back: to keep it out, withdraw its credential.
#[utoipa::path(delete, path = "/v1/clients/{id}", tag = "operation",
    operation_id = "disconnectClient", params(("id" = String, Path)),
    responses((status = 200, description = "It is told to end.", body = Client), Problems))]
async fn disconnect(Admin(asker): Admin, Path(id): Path<String>) -> Result<Json<Client>, Problem> {
    let (link, client) = client(&asker, &id).await?;
    let said = Said::done(Act::ClientDisconnect, &asker.author(), &id);
    asker.enter(said.with("principal", &client.who)).await?;
    asker.shared.tell(link, Control::Kick(link.link, CloseReason::Disconnected));
    Ok(Json(client))
}

fn link_of(id: &str) -> Result<LinkRef, Fault> {
    let parsed = id.split_once('-').and_then(|(worker, link)| {
        Some(LinkRef { worker: worker.parse().ok()?, link: link.parse().ok()? })
    });
    parsed.ok_or_else(|| bad("the id of a connection is NUMBER-NUMBER"))
}

/// The connection with this id, if it is one of the asker's tenant.
async fn client(asker: &Asker, id: &str) -> Result<(LinkRef, Client), Fault> {
    let link = link_of(id)?;
    let after = link.link.wrapping_sub(1);
    let found = call(asker, link.worker, after, 1).await;
    let client = found.into_iter().find(|client| client.number == link.link);
    client.map(|client| (link, client)).ok_or_else(|| no_such("connection", id))
}

/// Asks a worker for its connections. One that ends tells none.
async fn call(asker: &Asker, worker: usize, after: u64, len_max: usize) -> Vec<Client> {
    let Some(inbox) = asker.shared.inboxes.get(worker) else { return Vec::new() };
    let (answer, answered) = oneshot::channel();
    let call = RollCall { tenant: asker.tenant().clone(), after, len_max, answer };
    inbox.control(Control::RollCall(Box::new(call)));
    answered.await.unwrap_or_default()
}
