//! The few pages that a person or a health check sees.

use std::fmt::Write as _;

/// What everybody reads on the page of a relay that lets everybody in.
const OPEN: &str = "<p role=\"alert\"><strong>This relay is open: everybody who reaches it may read, change and delete everything \
on it.</strong>\nTo close it, start it without <code>--open</code>.</p>\n";

/// Makes the page at `/`: what this is, and what to point a client at.
pub(crate) fn home(is_open: bool) -> String {
    let mut page = String::new();
    let warning = if is_open { OPEN } else { "" };
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Rejoin relay</title>\n\
         <h1>Rejoin relay {}</h1>\n{warning}\
         <p>This is a sync relay, and it is running. It has no pages of its own: point a client at this address with\n\
         <code>ws://</code> in place of <code>http://</code> (or <code>wss://</code> for <code>https://</code>).</p>\n\
         <p>Any Rejoin, automerge-repo or samod client works.</p>\n\
         <p>Health: <a href=\"/livez\">/livez</a>, <a href=\"/readyz\">/readyz</a></p>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    );
    page
}
