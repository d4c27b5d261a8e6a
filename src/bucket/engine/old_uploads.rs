//! Uploads in parts that nobody goes on with: `object_store` has no request for them, so this lists them (ListMultipartUploads of S3).

use std::time::{Duration, SystemTime};

use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpRequest, HttpRequestBody, HttpService as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::timeout;

use super::answer::noting;
use super::failure::{BucketError, FailureKind, Operation};
use super::patience::{Patience, REQUEST_TIME};
use super::store::BucketStore;
use super::upload_list::UploadList;
use crate::bucket::object_name::{Day, ObjectName};

/// Answers, of a thousand uploads each, that are read.
const MAX_PAGES: usize = 100;

/// A page of the list, `ListMultipartUploadsResult` of S3.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default, rename = "Upload")]
    uploads: Vec<Upload>,
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    #[serde(rename = "UploadId")]
    id: String,
    /// When it began, in UTC as RFC 3339 has it.
    initiated: Option<String>,
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
            for upload in &page.uploads {
                let is_old = upload.day().is_some_and(|day| now.duration_since(day.end()).is_ok_and(|past| past > age));
                let name = upload.key.strip_prefix(self.prefix.as_str()).and_then(ObjectName::parse);
                let (Some(name @ ObjectName::Nar(_)), true) = (name, is_old) else { continue };
                let path = self.path(&name)?;
                let run = || engine.abort_multipart(&path, &upload.id);
                match self.attempts(Operation::Multipart, &name, Patience::Background, REQUEST_TIME, run).await {
                    Err(error) if error.kind != FailureKind::NotFound => return Err(error),
                    Ok(()) | Err(_) => aborted += 1,
                }
            }
            let next = page.next();
            if next.is_none() || next == after {
                break;
            }
            after = next;
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
        // The client bounds what is no object.
        let bytes = response.into_body().bytes().await.map_err(|cause| error(&cause))?;
        quick_xml::de::from_reader(&*bytes).map_err(|cause| error(&cause))
    }
}

impl Page {
    /// Returns the key and the identifier after which the next page begins.
    fn next(self) -> Option<(String, String)> {
        self.next_key_marker.zip(self.next_upload_id_marker).filter(|_| self.is_truncated)
    }
}

impl Upload {
    fn day(&self) -> Option<Day> {
        Day::parse(self.initiated.as_ref()?.get(..10)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Page> {
        quick_xml::de::from_reader(text.as_bytes()).ok()
    }

    #[test]
    fn an_answer_lists_uploads_and_where_to_go_on() {
        let text = "<?xml version='1.0' encoding='UTF-8'?>\n<ListMultipartUploadsResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>\
            <Bucket>b</Bucket><NextKeyMarker>nar/y</NextKeyMarker><NextUploadIdMarker>u2</NextUploadIdMarker>\
            <IsTruncated>true</IsTruncated><Upload><Key>nar/x</Key><UploadId>u1</UploadId><Initiator><ID>i</ID></Initiator>\
            <Initiated>2026-11-10T10:00:00.000Z</Initiated></Upload><CommonPrefixes/><Upload><Key>nar/a&amp;b</Key>\
            <UploadId>u2</UploadId></Upload></ListMultipartUploadsResult>";
        let page = parse(text).unwrap();
        let uploads: Vec<_> = page.uploads.iter().map(|it| (&*it.key, &*it.id, it.day())).collect();
        assert_eq!(uploads, [("nar/x", "u1", Day::parse("2026-11-10")), ("nar/a&b", "u2", None)]);
        assert_eq!(page.next(), Some(("nar/y".to_owned(), "u2".to_owned())));
        assert_eq!(parse(&text.replace("true", "false")).unwrap().next(), None);
        assert_eq!(parse("<ListMultipartUploadsResult/>"), Some(Page::default()));
        for malformed in ["", "<Upload><Key>", "<ListMultipartUploadsResult><Upload/></ListMultipartUploadsResult>"] {
            assert_eq!(parse(malformed), None, "{malformed}");
        }
    }
}
