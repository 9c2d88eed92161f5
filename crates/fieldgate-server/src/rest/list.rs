//! The one form of a list: a page of items, and where the next page begins.

use axum::{extract::FromRequestParts, http::request::Parts};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fieldgate_core::fault::{Code, Fault};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    asker::bad,
    query::{once, parameters},
};
use crate::http::Problem;

const LEN: usize = 100;
const LEN_MAX: usize = 1_000;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List<T> {
    /// What is on this page.
    pub(crate) items: Vec<T>,
    /// What `cursor` is to be for the next page; null on the last one.
    #[schema(required = true)]
    pub(crate) next: Option<String>,
}

/// Which page of a list.
#[derive(Debug, IntoParams)]
#[expect(dead_code, reason = "described, not read: `Page` refuses with better words")]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Most items of the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// A page that was asked for.
#[derive(Debug)]
pub(crate) struct Page {
    len: usize,
    /// The key of the last item of the page before.
    after: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let (mut limit, mut cursor) = (None, None);
        for (name, value) in parameters(&parts.uri)? {
            match name.as_str() {
                "limit" => once(&mut limit, &name, value.parse::<usize>().ok())?,
                "cursor" => once(&mut cursor, &name, value)?,
                // Another one that the address takes: what there are is looked at before.
                _ => (),
            }
        }
        let Some(len) = limit.unwrap_or(Some(LEN)).filter(|len| (1..=LEN_MAX).contains(len)) else {
            return Err(bad(format!("limit is 1 to {LEN_MAX}")).into());
        };
        let after = cursor.map(|cursor| decode(&cursor)).transpose()?;
        Ok(Self { len, after })
    }
}

fn decode(cursor: &str) -> Result<String, Fault> {
    let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| Fault::new(Code::BadValue, "cursor is the next of an earlier page"))
}

impl Page {
    /// Cuts the page out of items in the order of their keys. What comes or goes between two pages is
    /// seen or not; nothing else is skipped or told twice.
    pub(crate) fn cut<T>(
        &self,
        items: impl Iterator<Item = T>,
        key: impl Fn(&T) -> &str,
    ) -> List<T> {
        let behind = items.filter(|item| self.after.as_deref().is_none_or(|last| key(item) > last));
        self.end(behind.take(self.len + 1).collect(), key)
    }

    /// Ends the page, given its items and, if there is one, the first behind it.
    pub(crate) fn end<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> &str) -> List<T> {
        let more = items.len() > self.len;
        items.truncate(self.len);
        let next = items.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(key(last)));
        List { items, next }
    }

    /// Most items of the page.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The key of the last item of the page before.
    pub(crate) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_also_while_items_come_and_go() {
        let mut names: Vec<String> = (0..25).map(|n| format!("item-{n:02}")).collect();
        let page = |after: Option<String>, names: &[String]| {
            let after = after.map(|cursor| decode(&cursor).unwrap());
            Page { len: 10, after }.cut(names.iter().cloned(), |name| name)
        };
        let first = page(None, &names);
        assert_eq!(first.items, names[..10]);
        names.retain(|name| name != "item-09" && name != "item-12");
        names.insert(0, "before".to_owned());
        let second = page(first.next, &names);
        assert_eq!(second.items[..3], ["item-10", "item-11", "item-13"]);
        let third = page(second.next, &names);
        assert_eq!((third.items.len(), third.next), (4, None));
        assert!(decode("%").is_err());
    }
}
