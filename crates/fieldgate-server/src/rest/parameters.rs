//! Which parameters each address takes: those of its description, and no others.
//!
//! In: the description, once; then requests before their handlers. What a parameter has to be is its
//! handler's to say.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use utoipa::openapi::{
    OpenApi, RefOr,
    path::{Operation, ParameterIn, PathItem},
};

use super::query::{parameters, unknown};
use crate::http::Problem;

/// The names by address and method.
#[derive(Debug)]
pub(super) struct Known(HashMap<(String, Method), Vec<String>>);

impl Known {
    pub(super) fn of(openapi: &OpenApi) -> Self {
        let paths = openapi.paths.paths.iter();
        let all = paths.flat_map(|(path, item)| {
            let named = move |(method, operation)| ((path.clone(), method), names(operation));
            operations(item).into_iter().map(named)
        });
        Self(all.collect())
    }

    /// What an address takes; nothing where it is not described.
    fn names(&self, path: &str, method: &Method) -> Option<&[String]> {
        let method = if method == Method::HEAD { Method::GET } else { method.clone() };
        self.0.get(&(path.to_owned(), method)).map(Vec::as_slice)
    }
}

fn operations(item: &PathItem) -> Vec<(Method, &Operation)> {
    let all = [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::DELETE, &item.delete),
        (Method::PATCH, &item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?))).collect()
}

fn names(operation: &Operation) -> Vec<String> {
    let all = operation.parameters.iter().flatten();
    all.filter_map(|one| match one {
        RefOr::T(one) if one.parameter_in == ParameterIn::Query => Some(one.name.clone()),
        // None is told by reference (`tests`).
        RefOr::T(_) | RefOr::Ref(_) => None,
    })
    .collect()
}

/// Refuses a request with a parameter that its address does not take.
pub(super) async fn check(
    State(known): State<Arc<Known>>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    if request.uri().query().is_none() {
        return next.run(request).await;
    }
    let Some(names) = known.names(path.as_str(), request.method()) else {
        return next.run(request).await;
    };
    let given = match parameters(request.uri()) {
        Ok(given) => given,
        Err(fault) => return Problem::from(fault).into_response(),
    };
    // A ticket tells who asks; where none is taken nobody is known by it.
    let other = given.iter().find(|(name, _)| name != "ticket" && !names.contains(name));
    match other {
        Some((name, _)) if names.is_empty() => Problem::from(unknown(name, "none")).into_response(),
        Some((name, _)) => Problem::from(unknown(name, &names.join(", "))).into_response(),
        None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_of_the_description_is_known() {
        let openapi = crate::rest::openapi();
        let known = Known::of(openapi);
        let limited = known.names("/v1/devices", &Method::HEAD).unwrap();
        assert_eq!(limited, ["limit", "cursor"]);
        assert_eq!(known.names("/v1/status", &Method::GET).unwrap(), [""; 0]);
        for (path, item) in &openapi.paths.paths {
            for (method, operation) in operations(item) {
                let by_reference = operation.parameters.iter().flatten();
                let mut by_reference = by_reference.filter(|one| matches!(one, RefOr::Ref(_)));
                assert!(by_reference.next().is_none(), "{method} {path}");
            }
        }
    }
}
