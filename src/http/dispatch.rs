//! Dispatches a request to the handler of its route, and turns errors into responses.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body as HttpBody;
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode, Version};

use crate::access::{Granted, Principal, Rights};
use crate::fairness::{ClientId, Requester};
use crate::http::access_log_entry::AccessLogEntry;
use crate::http::admission::{self, Refused};
use crate::http::app::App;
use crate::http::audit_entry::AuditEntry;
use crate::http::error::HandlerError;
use crate::http::error_reason::{NotFound, Reason};
use crate::http::handlers;
use crate::http::request::context::RequestCx;
use crate::http::request::route::Route;
use crate::http::request::upload_body::{UploadBody, UploadBodyError, upload_body};
use crate::http::request::{host, request_id, user_agent};
use crate::http::request_metrics::{LogEntries, MeteredBody, RequestMetrics};
use crate::http::response::body::{Body, Response};
use crate::http::response::headers::set;
use crate::http::response::status;
use crate::http::uploads::Uploads;
use crate::metrics;

impl App {
    /// Returns the response to a request, whose body is read only if it is an upload.
    ///
    /// The client was determined by `net` from the connection and the request's headers, once: permits that the response
    /// holds and its send buffers count against the same [`ClientId`].
    pub(crate) async fn respond<B>(&self, requester: Requester, request: Request<B>) -> hyper::Response<MeteredBody>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<UploadBodyError>,
    {
        let (parts, body) = request.into_parts();
        let upload = self.upload(&parts, body);
        let route = Route::parse(&parts.uri);
        let request_metrics = RequestMetrics::start(&self.metrics, &parts.method, &route);
        let Some(log) = &self.access_log else {
            let (response, audit) = self.dispatch(&parts, route, upload, &requester).await;
            let entries = LogEntries { access: None, audit };
            return request_metrics.finish(
                response,
                parts.uri.path(),
                &requester,
                &self.error_log,
                &self.active_responses,
                entries,
            );
        };
        let mut entry = Box::new(AccessLogEntry::start(log, &parts, &route, &requester));
        let dispatched = Box::pin(metrics::with_notes(self.dispatch(&parts, route, upload, &requester))).await;
        let ((response, audit), notes) = dispatched;
        entry.set_response(&response, notes, &self.store, || match &audit {
            Some(audit) => audit.request_id().to_owned(),
            None => self.request_id(&parts, &requester),
        });
        let entries = LogEntries { access: Some(entry), audit };
        request_metrics.finish(response, parts.uri.path(), &requester, &self.error_log, &self.active_responses, entries)
    }

    /// Returns the body of an upload; drops any other.
    fn upload<B>(&self, parts: &Parts, body: B) -> Option<UploadBody>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<UploadBodyError>,
    {
        (self.uploads.is_some() && parts.method == Method::PUT).then(|| upload_body(body))
    }

    /// Returns the response, and its entry in the audit log if it is recorded.
    async fn dispatch(
        &self,
        parts: &Parts,
        route: Route,
        upload: Option<UploadBody>,
        requester: &Requester,
    ) -> (Response, Option<Box<AuditEntry>>) {
        if !host::is_named(parts) {
            let mut response = status::status_text(StatusCode::BAD_REQUEST);
            if parts.version <= Version::HTTP_11 {
                set(&mut response, CONNECTION, HeaderValue::from_static("close"));
            }
            return (response, None);
        }
        let Some(access) = self.access.as_ref().filter(|_| requester.client() != ClientId::Server) else {
            return self.answer(parts, route, upload, requester, Granted::everything()).await;
        };
        Box::pin(async {
            match admission::admit(access, parts, &route, requester, &self.metrics).await {
                Ok(granted) => {
                    let (mut response, audit) = self.answer(parts, route, upload, requester, &granted).await;
                    admission::limit_readers(&mut response, Some(&granted));
                    response.extensions_mut().insert(granted);
                    (response, audit)
                }
                Err(refused) => (self.refuse((parts, upload), requester, *refused).await, None),
            }
        })
        .await
    }

    /// Returns the response to a client that may not make its request, and records it in the audit log.
    async fn refuse(
        &self,
        (parts, upload): (&Parts, Option<UploadBody>),
        requester: &Requester,
        Refused { mut response, reason }: Refused,
    ) -> Response {
        let principal = response.extensions().get::<Arc<Granted>>().map(|granted| granted.principal.clone());
        let principal = principal.unwrap_or(Principal::Anonymous);
        if let Err(error) = self.record_refusal((parts, requester), &principal, &response, &reason) {
            response = self.error(parts, requester, &error);
            admission::limit_readers(&mut response, None);
        }
        if let Some(body) = upload {
            handlers::push::end_refused(parts, body, requester, &mut response).await;
        }
        close_if_body_may_follow(parts, &mut response);
        if parts.method == Method::HEAD { response.map(|_| Body::empty()) } else { response }
    }

    /// Answers a request of a client that may make it.
    async fn answer(
        &self,
        parts: &Parts,
        route: Route,
        upload: Option<UploadBody>,
        requester: &Requester,
        granted: &Granted,
    ) -> (Response, Option<Box<AuditEntry>>) {
        if let (Some(body), Some(uploads)) = (upload, &self.uploads) {
            return (self.receive(uploads, (parts, route, body), requester, granted).await, None);
        }
        if parts.method != Method::GET && parts.method != Method::HEAD {
            let mut response =
                if parts.method == Method::OPTIONS { status::options() } else { status::method_not_allowed() };
            close_if_body_may_follow(parts, &mut response);
            return (response, None);
        }
        let audit_log = match self.audit_log_for(granted) {
            Ok(log) => log,
            Err(error) => return (self.error(parts, requester, &error), None),
        };
        let (serves_files, hash) = (matches!(route, Route::Serve(_)), route.hash());
        let cx = RequestCx { parts, client: requester.client(), granted };
        let mut response = self.handle(cx, route).await.unwrap_or_else(|error| self.error(parts, requester, &error));
        if serves_files {
            handlers::serve::protect(&mut response);
        }
        let (version, status) = (parts.version, response.status().as_u16());
        tracing::debug!(method = %parts.method, target = ?parts.uri.path(), ?version, status, "request");
        let audit =
            audit_log.and_then(|log| self.audit_entry(log, (parts, hash, requester), &granted.principal, &response));
        (if cx.is_head() { response.map(|_| Body::empty()) } else { response }, audit)
    }

    /// Returns the response to an upload, which is recorded in the audit log.
    async fn receive(
        &self,
        uploads: &Uploads,
        (parts, route, body): (&Parts, Route, UploadBody),
        requester: &Requester,
        granted: &Granted,
    ) -> Response {
        let audit_log = match self.audit_log_of_pushes() {
            Ok(log) => log,
            Err(error) => {
                let mut response = self.error(parts, requester, &error);
                handlers::push::end_refused(parts, body, requester, &mut response).await;
                return response;
            }
        };
        let hash = route.hash();
        let entry = audit_log.map(|log| self.push_entry(log, (parts, hash, requester), &granted.principal));
        let cx = RequestCx { parts, client: requester.client(), granted };
        let received = Box::pin(handlers::push::respond(self, uploads, cx, requester, (route, body))).await;
        if let Some(entry) = entry {
            entry.end(&received);
        }
        received.response
    }

    /// Calls the handler of a route. Handlers are boxed but for that of narinfos, which most requests are for: a future that
    /// holds a NAR is large.
    async fn handle(&self, cx: RequestCx<'_>, route: Route) -> Result<Response, HandlerError> {
        match route {
            Route::NarInfo { hash, json } => {
                let response = handlers::narinfo::respond(self, cx, hash, json).await?;
                if let Some(uploads) = &self.uploads {
                    uploads.pusher().record_asked_for(hash);
                }
                Ok(response)
            }
            Route::Nar { hash, nar_hash } => Box::pin(handlers::nar::respond(self, cx, hash, nar_hash)).await,
            Route::CompressedNar { hash, nar_hash, tag } => {
                Box::pin(handlers::nar::compressed::respond(self, cx, hash, nar_hash, tag.as_ref())).await
            }
            Route::UploadedNar { file } => match (&self.uploads, &self.bucket) {
                // Whoever pushes asks whether the file has to be uploaded, for which a file in the bucket does not serve.
                (Some(uploads), _) if cx.is_head() && cx.granted.may(Rights::PUSH) => {
                    handlers::push::head(uploads, cx, &file)
                }
                (_, Some(bucket)) if bucket.serves_reads() => {
                    Box::pin(handlers::nar::bucket_file::respond(self, bucket, cx, &file.to_string())).await
                }
                _ => Err(NotFound::UnknownUrl.into()),
            },
            Route::CacheInfo => Ok(handlers::cache_info::respond(self, cx)),
            Route::Listing { hash } => Box::pin(handlers::listing::respond(self, cx, hash)).await,
            Route::Realisation(output) => Box::pin(handlers::realisation::respond(self, cx, &output)).await,
            Route::BuildLog { hash } => Box::pin(handlers::build_log::respond(self, cx, hash)).await,
            Route::DebugInfo { id } => Box::pin(handlers::debug_info::respond(self, cx, &id)).await,
            Route::Serve(path) => Box::pin(handlers::serve::respond(self, cx, &path)).await,
            Route::PublicKeys => handlers::public_keys::respond(self, cx),
            Route::Version => Ok(handlers::version::respond()),
            Route::Health => Ok(status::plain_line("OK")),
            Route::Ready { path } => Ok(Box::pin(handlers::ready::respond(self, cx, path)).await),
            Route::Metrics => Ok(handlers::metrics::respond(self, cx)),
            Route::LandingPage => Ok(Box::pin(handlers::landing_page::respond(self, cx)).await),
            Route::PathPage { path } => Box::pin(handlers::path_page::respond(self, cx, &path)).await,
            Route::PastedPath(path) => handlers::pasted_path::respond(self, cx, &path).await,
            Route::Lookup { text } => Box::pin(handlers::lookup::respond(self, cx, text.as_deref())).await,
            Route::Browse { filter, from } => Box::pin(handlers::browse::respond(self, cx, &filter, from)).await,
            Route::Unknown => Err(NotFound::UnknownUrl.into()),
        }
    }

    /// Returns the response to a request whose handler failed, and writes the error to the log.
    fn error(&self, parts: &Parts, requester: &Requester, error: &HandlerError) -> Response {
        let reason = error.reason();
        self.metrics.http.record_error_response(reason.status().as_u16(), reason.label());
        if let Reason::NotFound(_) = reason {
            return status::not_found(reason);
        }
        let id = self.request_id(parts, requester);
        self.error_log.request_failed(parts.uri.path(), reason.status(), error, &id);
        status::unavailable(reason, &id, user_agent::accepts_error_bodies(&parts.headers))
    }

    /// Returns the id that a trusted proxy assigned to the request, or a new one.
    pub(crate) fn request_id(&self, parts: &Parts, requester: &Requester) -> String {
        request_id::from_proxy(&parts.headers, requester).unwrap_or_else(|| self.error_log.new_request_id())
    }
}

/// Closes the connection of a client that waits for permission to send a body: it may or may not send the body now, so that what
/// follows could be either.
fn close_if_body_may_follow(parts: &Parts, response: &mut Response) {
    if parts.version == Version::HTTP_11 && parts.headers.contains_key(EXPECT) {
        set(response, CONNECTION, HeaderValue::from_static("close"));
    }
}
