//! Tries what harmonia needs of an object store, and finds out what it lacks.

use std::time::Duration;

use bytes::Bytes;

use super::cache_info::MAX_CACHE_INFO;
use super::engine::{BucketError, BucketStore, Patience, Put, Replace, WebCache};
use super::object_name::{OWN, ObjectName};
use crate::config::{HostName, HttpUrl, RedirectFrom};

/// Size of the object that is put, in bytes.
const SIZE: usize = 4096;
/// Part of it that is got.
const PART: std::ops::Range<u64> = 1000..1100;
/// Time for which a URL is signed.
const SIGNED: Duration = Duration::from_secs(60);
/// Names that are listed.
const LISTED: usize = 1_000;

/// Settings of a trial.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial<'a> {
    /// Host whose object is put.
    pub(crate) host: &'a HostName,
    /// Puts and deletes an object; otherwise nothing is changed.
    pub(crate) writes: bool,
    /// Base URL at which clients can read the objects.
    pub(crate) public_url: Option<&'a HttpUrl>,
    /// Whether clients are redirected.
    pub(crate) redirect_from: RedirectFrom,
}

/// Result of a trial.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Probed {
    /// Requests that worked.
    pub(crate) works: Vec<&'static str>,
    /// Features that the server lacks, with the consequences.
    pub(crate) lacks: Vec<String>,
    /// Reason why clients cannot be redirected to the server, though they would be.
    pub(crate) refused: Option<String>,
}

impl BucketStore {
    /// Tries the requests that a host makes. Fails with the first that does not work and has to.
    pub(crate) async fn probe(&self, trial: Trial<'_>) -> Result<Probed, BucketError> {
        let mut probed = Probed::default();
        // Soon says whether there is a server.
        let info = self.get(&ObjectName::CacheInfo, MAX_CACHE_INFO, Patience::Client).await?;
        probed.works.push("get");
        self.list(&format!("{OWN}hosts/"), None, LISTED).await?;
        probed.works.push("list");
        if !trial.writes {
            if let Some(info) = info {
                self.probe_redirect(trial, &ObjectName::CacheInfo, &info, &mut probed).await?;
            }
            return Ok(probed);
        }
        let name = ObjectName::Probe(trial.host.clone());
        let object: Bytes = (0..SIZE).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
        self.put(&name, object.clone(), Replace::Always).await?;
        probed.works.push("put");
        // Whatever fails, the object does not stay.
        let tried = self.probe_object(trial, &name, &object, &mut probed).await;
        self.delete(&name).await?;
        probed.works.push("delete");
        tried.map(|()| probed)
    }

    async fn probe_object(
        &self,
        trial: Trial<'_>,
        name: &ObjectName,
        object: &Bytes,
        probed: &mut Probed,
    ) -> Result<(), BucketError> {
        let Probed { works, lacks, .. } = probed;
        if self.put(name, object.clone(), Replace::IfAbsent).await? == Put::Existed {
            works.push("If-None-Match");
        } else {
            lacks.push("ignores If-None-Match: hosts that publish the same at a time all send it".to_owned());
        }
        if self.get(name, SIZE, Patience::Background).await?.as_ref() != Some(object) {
            lacks.push("does not return what was put: it must not be used".to_owned());
        }
        let part = self.read(name, Some(PART), Patience::Background).await?;
        if part.is_some_and(|part| *part.range() == PART) {
            works.push("ranges");
        } else {
            lacks.push("sends no parts of objects: whoever goes on with a download reads all of it".to_owned());
        }
        let listed = self.list(&format!("{OWN}probes/"), None, LISTED).await?;
        if !listed.iter().any(|(listed, _)| listed == name) {
            lacks.push("does not list at once what was put: hosts find paths of others later".to_owned());
        }
        match self.begin_upload(name, SIZE as u64, None).await {
            Ok(upload) => {
                self.abort_upload(upload).await?;
                works.push("uploads in parts");
            }
            Err(error) => lacks.push(format!("has no uploads in parts, which large NARs need: {error}")),
        }
        self.probe_redirect(trial, name, object, probed).await
    }

    /// Gets an object as a client that is redirected.
    async fn probe_redirect(
        &self,
        trial: Trial<'_>,
        name: &ObjectName,
        object: &Bytes,
        probed: &mut Probed,
    ) -> Result<(), BucketError> {
        if trial.redirect_from == RedirectFrom::Never {
            return Ok(());
        }
        let url = match trial.public_url {
            Some(base) => Some(format!("{base}/{name}")),
            None => self.sign_get(name, SIGNED).await?,
        };
        let base = url.as_ref().and_then(|url| url.split_inclusive('/').take(3).collect::<String>().parse().ok());
        let (Some(url), Some(base)) = (url, base) else {
            probed.lacks.push("has no URLs for clients: this host sends all NARs itself".to_owned());
            return Ok(());
        };
        let got = match WebCache::new(base) {
            Ok(client) => client.get_part(&url, 0..10).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match got {
            Ok(got) if got == object[..10] => probed.works.push("URLs for clients"),
            Ok(got) if got == *object => {
                probed.works.push("URLs for clients");
                probed.lacks.push("sends whole objects to clients that ask for a part".to_owned());
            }
            Ok(_) => probed.refused = Some("another object was sent".to_owned()),
            Err(error) => probed.refused = Some(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;

    fn trial(host: &HostName, writes: bool) -> Trial<'_> {
        Trial { host, writes, public_url: None, redirect_from: RedirectFrom::default() }
    }

    #[tokio::test]
    async fn everything_that_works_is_said_and_nothing_stays() {
        let (memory, host) = (Arc::new(InMemory::new()), "a".parse().unwrap());
        let store = BucketStore::in_memory(&memory, 100);
        let probed = store.probe(trial(&host, true)).await.unwrap();
        let works = ["get", "list", "put", "If-None-Match", "ranges", "uploads in parts", "delete"];
        assert_eq!((probed.works.as_slice(), probed.refused), (works.as_slice(), None));
        assert_eq!(probed.lacks, ["has no URLs for clients: this host sends all NARs itself"]);
        let mut objects = 0;
        store.walk("", |_, _| objects += 1).await.unwrap();
        assert_eq!(objects, 0);
    }

    #[tokio::test]
    async fn a_host_that_only_reads_writes_nothing() {
        let host = "a".parse().unwrap();
        let store = BucketStore::in_memory(&Arc::new(InMemory::new()), 1);
        assert_eq!(store.probe(trial(&host, false)).await.unwrap().works, ["get", "list"]);
    }

    #[tokio::test]
    async fn a_request_that_has_to_work_and_fails_is_the_error() {
        let host = "a".parse().unwrap();
        let store = BucketStore::in_memory(&Arc::new(InMemory::new()), 0);
        assert!(store.probe(trial(&host, true)).await.is_err());
    }
}
