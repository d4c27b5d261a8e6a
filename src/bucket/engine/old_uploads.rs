//! Uploads in parts that nobody goes on with: `object_store` has no request for them, so this lists them (ListMultipartUploads of S3).

use std::time::{Duration, SystemTime};

use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpRequest, HttpRequestBody, HttpService as _};
use object_store::path::Path;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::timeout;

use super::answer::noting;
use super::failure::{BucketError, FailureKind, Operation};
use super::patience::{Patience, REQUEST_TIME};
use super::store::BucketStore;
use super::upload_list::UploadList;
use crate::bucket::object_name::{Day, ObjectName};

/// Answers, of a thousand uploads each, that are read.
const MAX_PAGES: usize = 100;
/// Upper bound of an answer's size, in bytes.
const MAX_PAGE: usize = 8 << 20;

/// A page of the list.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    /// Keys, identifiers, and the days on which they began.
    uploads: Vec<(String, String, Option<Day>)>,
    /// Key and identifier after which the next page begins.
    next: Option<(String, String)>,
}

impl BucketStore {
    /// Aborts uploads of NARs that began longer ago than `age`, to a day, and returns their number. Does nothing where there is no such list.
    pub(crate) async fn abort_old_uploads(&self, now: SystemTime, age: Duration) -> Result<usize, BucketError> {
        let (Some((store, list)), Some(engine)) = (self.engine.upload_list(), self.engine.parts()) else {
            return Ok(0);
        };
        let (mut aborted, mut after) = (0, None);
        for _ in 0..MAX_PAGES {
            let page = self.list_uploads(store, list, after.as_ref()).await?;
            for (key, id, began) in page.uploads {
                let is_old = began.is_some_and(|day| now.duration_since(day.end()).is_ok_and(|past| past > age));
                let name = key.strip_prefix(self.prefix.as_str()).and_then(ObjectName::parse);
                let (Some(name @ ObjectName::Nar(_)), true) = (name, is_old) else { continue };
                let path = self.path(&name)?;
                let run = || engine.abort_multipart(&path, &id);
                match self.attempts(Operation::Multipart, &name, Patience::Background, REQUEST_TIME, run).await {
                    Err(error) if error.kind != FailureKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => aborted += 1,
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(aborted)
    }

    async fn list_uploads(
        &self,
        store: &AmazonS3,
        list: &UploadList,
        after: Option<&(String, String)>,
    ) -> Result<Page, BucketError> {
        let folder = format!("{}nar/", self.prefix.as_str());
        let error = |cause: &dyn std::fmt::Display| BucketError::other(Operation::List, "uploads".to_owned(), cause);
        let key = store.credentials().get_credential().await.map_err(|cause| error(&cause))?;
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let after = after.map_or_else(String::new, |(key, id)| {
            format!("&key-marker={}&upload-id-marker={}", encode(key), encode(id))
        });
        let url = format!("{}?uploads=&prefix={}{after}", list.url, encode(&folder));
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = url.parse().map_err(|cause| error(&cause))?;
        let signer = AwsAuthorizer::new(&key, "s3", &list.region);
        signer.try_authorize(&mut request, None).map_err(|_| error(&"cannot sign the request"))?;
        let result = timeout(REQUEST_TIME, noting(list.http.call(request))).await;
        let (response, answer) = result.map_err(|_| BucketError::timeout(Operation::List, "uploads".to_owned()))?;
        let response = response.map_err(|cause| error(&cause))?;
        if !response.status().is_success() {
            let cause = answer.and_then(|answer| answer.code).unwrap_or_else(|| response.status().to_string());
            return Err(error(&cause));
        }
        let bytes = response.into_body().bytes().await.map_err(|cause| error(&cause))?;
        Ok(parse(&String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_PAGE)])))
    }
}

/// Parses an answer. Keys with escaped characters are of others.
fn parse(text: &str) -> Page {
    let uploads = text.split("<Upload>").skip(1).filter_map(|upload| {
        let began = element(upload, "Initiated").and_then(|time| Day::parse(time.get(..10)?));
        Some((element(upload, "Key")?.to_owned(), element(upload, "UploadId")?.to_owned(), began))
    });
    let uploads = uploads.filter(|(key, ..)| !key.contains('&') && Path::parse(key).is_ok()).collect();
    let head = text.split("<Upload>").next().unwrap_or_default();
    let next = element(head, "NextKeyMarker").zip(element(head, "NextUploadIdMarker"));
    let next = next.filter(|_| element(head, "IsTruncated") == Some("true"));
    Page { uploads, next: next.map(|(key, id)| (key.to_owned(), id.to_owned())) }
}

fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_lists_uploads_and_where_to_go_on() {
        let text = "<ListMultipartUploadsResult><Bucket>b</Bucket><NextKeyMarker>nar/y</NextKeyMarker><NextUploadIdMarker>u2\
            </NextUploadIdMarker><IsTruncated>true</IsTruncated><Upload><Key>nar/x</Key><UploadId>u1</UploadId><Initiator>\
            <ID>i</ID></Initiator><Initiated>2026-11-10T10:00:00.000Z</Initiated></Upload><Upload><Key>nar/a&amp;b</Key>\
            <UploadId>u2</UploadId></Upload></ListMultipartUploadsResult>";
        let page = parse(text);
        assert_eq!(page.uploads, [("nar/x".to_owned(), "u1".to_owned(), Day::parse("2026-11-10"))]);
        assert_eq!(page.next, Some(("nar/y".to_owned(), "u2".to_owned())));
        assert_eq!(parse(&text.replace("true", "false")).next, None);
        assert_eq!(parse("<Upload><Key>"), Page::default());
    }
}
