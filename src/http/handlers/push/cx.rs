//! A request with a body, and whom it is from.

use hyper::header::CONTENT_ENCODING;

use super::refusal::Refusal;
use crate::access::{Granted, Principal};
use crate::fairness::{ClientId, Permit, Requester};
use crate::http::active_responses::{ActiveResponse, ResponseInfo};
use crate::http::app::App;
use crate::http::request::context::RequestCx;
use crate::http::uploads::Uploads;
use crate::push::spool::Owner;

/// A request with a body, and whom it is from.
pub(super) struct Cx<'r> {
    pub(super) app: &'r App,
    pub(super) uploads: &'r Uploads,
    pub(super) request: RequestCx<'r>,
    pub(super) requester: &'r Requester,
}

/// Returns whose files a principal sees.
pub(super) fn owner(granted: &Granted) -> Owner {
    Owner::named(&granted.principal.to_string())
}

impl Cx<'_> {
    /// Returns whose files the request is about.
    pub(super) fn owner(&self) -> Owner {
        owner(self.request.granted)
    }

    /// Returns whose turn it is: a principal's, from wherever it uploads, and an anonymous client's by its address.
    pub(super) fn client(&self) -> ClientId {
        match self.request.granted.principal {
            Principal::Anonymous => self.request.client,
            _ => ClientId::Principal(self.owner().number()),
        }
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self) -> Result<Permit, Refusal> {
        self.uploads.turn(self.client()).await.ok_or_else(Refusal::busy)
    }

    /// Lists the upload in `harmonia status` until the result is dropped.
    pub(super) fn active(&self, length: Option<u64>) -> ActiveResponse {
        let target = self.request.parts.uri.path().into();
        self.app.active_responses.start(ResponseInfo { target, client: self.requester.client(), length })
    }

    /// Returns the coding of the body in `Content-Encoding`, in lower case. `None` if it has none.
    pub(super) fn content_encoding(&self) -> Result<Option<String>, Refusal> {
        let mut values = self.request.headers().get_all(CONTENT_ENCODING).iter();
        let coding = match (values.next(), values.next()) {
            (None, _) => return Ok(None),
            (Some(value), None) => value.to_str().ok().map(|value| value.trim().to_ascii_lowercase()),
            (Some(_), Some(_)) => None,
        };
        match coding.as_deref() {
            None => Err(Refusal::unsupported_coding()),
            Some("" | "identity") => Ok(None),
            Some(_) => Ok(coding),
        }
    }
}
