//! Lists, paged by key: a page stays where it is however much is added meanwhile.

use super::error::ApiError;
use rouse_store::Page;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// One page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Listing<T> {
    pub items: Vec<T>,
    /// What to pass as `before` for the next page; null where this was the last.
    pub next: Option<i64>,
}

impl<T> Listing<T> {
    /// Of what is short enough to be given whole.
    pub(super) fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    /// From rows, newest first; `None` leaves one out, for those who may not see it.
    pub(super) fn of<R>(
        rows: Vec<R>,
        page: Page,
        id: impl Fn(&R) -> i64,
        view: impl FnMut(R) -> Option<T>,
    ) -> Self {
        let full = i64::try_from(rows.len()).is_ok_and(|n| n >= page.limit);
        let next = if full { rows.last().map(id) } else { None };
        Self { items: rows.into_iter().filter_map(view).collect(), next }
    }
}

/// Which page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// At most so many, 1 to 500; 50 where it is not given.
    pub limit: Option<i64>,
    /// Only what is older than this id: the `next` of the page before.
    pub before: Option<i64>,
}

impl PageQuery {
    pub(super) fn page(self) -> Result<Page, ApiError> {
        page(self.limit, self.before)
    }
}

/// Checks what a query says of its page.
pub(super) fn page(limit: Option<i64>, before: Option<i64>) -> Result<Page, ApiError> {
    let page = Page { before, limit: limit.unwrap_or(Page::default().limit) };
    if !(1..=500).contains(&page.limit) {
        return Err(ApiError::invalid(format!("`limit` is {}; it can be 1 to 500", page.limit)));
    }
    Ok(page)
}
