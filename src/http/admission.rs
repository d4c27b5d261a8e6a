//! Admission of requests, if `[access]` is configured: which right each needs, responses to those without it, and the headers that
//! keep a response from those it is not for.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderValue,
    RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use crate::access::{Access, Denied, Granted, Principal, Rights};
use crate::fairness::Requester;
use crate::http::request::route::Route;
use crate::http::response::body::Response;
use crate::http::response::cache_control::CacheControl;
use crate::http::response::headers::{PLAIN_TEXT, set, text_response};
use crate::metrics::Metrics;

/// Asks for a name and a password (RFC 7617, section 2).
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"harmonia\", charset=\"UTF-8\"");
const VARIES: HeaderValue = HeaderValue::from_static("authorization");

/// A request that is not admitted.
pub(super) struct Refused {
    pub(super) response: Response,
    /// Reason, for the audit log. Shows nothing of the credentials.
    pub(super) reason: Box<str>,
}

/// Returns the rights that a request needs.
fn needed(method: &Method, route: &Route) -> Rights {
    match (method, route) {
        (&Method::PUT, _) => Rights::PUSH,
        // OPTIONS is also the preflight request of a browser, which never has credentials.
        (&Method::OPTIONS, _) | (_, Route::Health) => Rights::NONE,
        (_, Route::Metrics) => Rights::METRICS,
        _ => Rights::READ,
    }
}

/// Returns what the client may do, or the response if that is not enough for its request.
pub(super) async fn admit(
    access: &Access,
    parts: &Parts,
    route: &Route,
    requester: &Requester,
    metrics: &Metrics,
) -> Result<Arc<Granted>, Box<Refused>> {
    let needed = needed(&parts.method, route);
    let Ok(authorization) = only_value(&parts.headers) else {
        metrics.access.record(Granted::everything().principal.class().label(), "malformed");
        let text = "two Authorization headers: check the proxy in front";
        return Err(Box::new(refuse(StatusCode::BAD_REQUEST, text)));
    };
    let certificate = requester.certificate_name();
    let granted = if needed == Rights::NONE {
        // Probes and preflight requests get the same response whoever asks.
        access.authorize(None, None, None).await
    } else {
        access.authorize(authorization, certificate, requester.address()).await
    };
    let granted = granted.map_err(|denied| {
        let (class, result) = denied.labels();
        metrics.access.record(class.label(), result);
        Box::new(deny(&denied))
    })?;
    let (may, class) = (granted.may(needed), granted.principal.class().label());
    let is_anonymous = granted.principal == Principal::Anonymous;
    metrics.access.record(
        class,
        if may {
            "granted"
        } else if is_anonymous {
            "missing"
        } else {
            "forbidden"
        },
    );
    if may {
        return Ok(granted);
    }
    let mut refused = if is_anonymous {
        challenge("credentials are missing: add the user and password of this cache to netrc-file on the client")
    } else {
        refuse(
            StatusCode::FORBIDDEN,
            // A name in a token or certificate is whatever its issuer wrote.
            &format!(
                "{} lacks the right to {needed}: ask the operator of this cache",
                granted.principal.to_string().escape_debug()
            ),
        )
    };
    if !is_anonymous {
        refused.reason = format!("lacks the right to {needed}").into();
    }
    limit_readers(&mut refused.response, Some(&granted));
    refused.response.extensions_mut().insert(granted);
    Err(Box::new(refused))
}

/// Returns the value of `Authorization`, or an error if there are two: a proxy may have understood the other.
fn only_value(headers: &HeaderMap) -> Result<Option<&[u8]>, ()> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(()),
        (value, None) => Ok(value.map(HeaderValue::as_bytes)),
    }
}

fn deny(denied: &Denied) -> Refused {
    let mut refused = match denied {
        Denied::Throttled => refuse(StatusCode::TOO_MANY_REQUESTS, &denied.to_string()),
        _ if denied.retry_after().is_some() => refuse(StatusCode::SERVICE_UNAVAILABLE, &denied.to_string()),
        _ => challenge(&denied.to_string()),
    };
    if let Some(seconds) = denied.retry_after() {
        set(&mut refused.response, RETRY_AFTER, HeaderValue::from(seconds));
    }
    refused
}

fn challenge(text: &str) -> Refused {
    let mut refused = refuse(StatusCode::UNAUTHORIZED, text);
    set(&mut refused.response, WWW_AUTHENTICATE, CHALLENGE);
    refused
}

/// Returns a response with a line of text, the reason and after a colon what to do, which no cache keeps and no page of another
/// site reads.
fn refuse(status: StatusCode, text: &str) -> Refused {
    let mut response = text_response(status, CacheControl::NoStore, PLAIN_TEXT, Bytes::from(format!("{text}\n")));
    limit_readers(&mut response, None);
    Refused { response, reason: text.split_once(": ").map_or(text, |(reason, _)| reason).into() }
}

/// Sets the headers that keep a response from others than those with these rights; `None` if they are not known.
///
/// Shared caches may keep only what an anonymous client got by anonymous rights. All else is closed to web pages of other sites
/// too: a browser sends certificates and passwords that it knows with their requests.
pub(super) fn limit_readers(response: &mut Response, granted: Option<&Granted>) {
    let headers = response.headers_mut();
    let vary: Vec<_> = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok()).collect();
    let is_listed =
        vary.iter().any(|names| names.split(',').any(|name| name.trim().eq_ignore_ascii_case("authorization")));
    if !is_listed {
        let all = vary.iter().copied().chain(["authorization"]).collect::<Vec<_>>().join(", ");
        headers.insert(VARY, HeaderValue::from_str(&all).unwrap_or(VARIES));
    }
    if granted.is_some_and(|granted| granted.principal == Principal::Anonymous) {
        return;
    }
    headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
    headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
    let private = match headers.get(CACHE_CONTROL).map(HeaderValue::as_bytes) {
        Some(b"no-store") => return,
        Some(value) => value.strip_prefix(b"public").map(|rest| [b"private", rest].concat()),
        None => None,
    };
    let private = private.and_then(|value| HeaderValue::from_bytes(&value).ok());
    headers.insert(CACHE_CONTROL, private.unwrap_or(HeaderValue::from_static("private, no-cache")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::response::body::Body;
    use crate::http::response::headers::{new_response, set_vary};

    fn limited(
        cache_control: CacheControl,
        vary: Option<&'static str>,
        granted: Option<&Granted>,
    ) -> [Option<String>; 3] {
        let mut response = new_response(StatusCode::OK, cache_control, Body::empty());
        if let Some(vary) = vary {
            set_vary(&mut response, vary);
        }
        limit_readers(&mut response, granted);
        [CACHE_CONTROL, VARY, ACCESS_CONTROL_ALLOW_ORIGIN]
            .map(|name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()))
    }

    #[test]
    fn only_what_anybody_may_read_is_for_shared_caches_and_other_sites() {
        let user = Granted { principal: Principal::User("a".into()), ..Granted::everything().clone() };
        let some = |values: [&str; 3]| values.map(|value| Some(value).filter(|it| !it.is_empty()).map(str::to_owned));
        for (cache_control, vary, granted, expected) in [
            (CacheControl::OneHour, None, Some(Granted::everything()), ["public, max-age=3600", "authorization", "*"]),
            (CacheControl::OneHour, None, Some(&user), ["private, max-age=3600", "authorization", ""]),
            (
                CacheControl::Immutable,
                Some("accept-encoding"),
                Some(&user),
                ["private, max-age=31536000, immutable", "accept-encoding, authorization", ""],
            ),
            (CacheControl::Revalidate, Some("Authorization"), Some(&user), ["private, no-cache", "Authorization", ""]),
            (CacheControl::NoStore, None, None, ["no-store", "authorization", ""]),
        ] {
            assert_eq!(limited(cache_control, vary, granted), some(expected));
        }
    }

    #[test]
    fn each_request_needs_a_right_but_probes_and_preflights() {
        for (method, url, expected) in [
            (Method::GET, "/health", Rights::NONE),
            (Method::HEAD, "/health", Rights::NONE),
            (Method::PUT, "/health", Rights::PUSH),
            (Method::GET, "/metrics", Rights::METRICS),
            (Method::GET, "/nix-cache-info", Rights::READ),
            (Method::GET, "/ready", Rights::READ),
            (Method::GET, "/anything", Rights::READ),
            (Method::POST, "/nix-cache-info", Rights::READ),
            (Method::OPTIONS, "/nix-cache-info", Rights::NONE),
            (Method::PUT, "/nar/x.nar", Rights::PUSH),
        ] {
            assert_eq!(needed(&method, &Route::parse(&url.parse().unwrap())), expected, "{method} {url}");
        }
    }
}
