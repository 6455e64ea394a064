//! Lists in pages.

use kalamdb_engine::{Error, Reason};

const DEFAULT_SIZE: usize = 100;
const MAX_SIZE: usize = 1_000;

/// One page of a list, and the token of the next; the token is empty on the last page.
///
/// `items` are in the order of `key`, which tells them apart. The token is the key of the page's last item, so that
/// a page goes on at the right place when items come and go between two calls.
///
/// # Errors
/// INVALID_REQUEST when the size is more than 1,000.
pub(super) fn page<T>(
    items: Vec<T>,
    key: impl Fn(&T) -> String,
    page_size: u32,
    page_token: &str,
) -> Result<(Vec<T>, String), Error> {
    let size = page_of(page_size)?;
    let mut rest = items.into_iter().skip_while(|item| !page_token.is_empty() && key(item).as_str() <= page_token);
    let page: Vec<T> = rest.by_ref().take(size).collect();
    let token = match (rest.next(), page.last()) {
        (Some(_), Some(last)) => key(last),
        _ => String::new(),
    };
    Ok((page, token))
}

/// How many items a page has at most.
///
/// # Errors
/// INVALID_REQUEST when the size is more than 1,000.
pub(super) fn page_of(page_size: u32) -> Result<usize, Error> {
    match usize::try_from(page_size) {
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) if size <= MAX_SIZE => Ok(size),
        _ => Err(Error::new(
            Reason::InvalidRequest,
            format!("page_size {page_size} is too large; it may be 1 to {MAX_SIZE}."),
        )
        .with("field", "page_size")),
    }
}

#[cfg(test)]
mod tests;
