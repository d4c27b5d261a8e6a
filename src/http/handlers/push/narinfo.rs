//! `<hash>.narinfo`: the last request of a push, after which the path is valid.

use std::io::{self, Read as _};

use harmonia_protocol::narinfo::Compression;
use harmonia_protocol::{HashPart, StorePath};
use hyper::StatusCode;

use super::cx::Cx;
use super::receive::Receiver;
use super::refusal::Refusal;
use crate::human_size::human_size;
use crate::push::spool::FileHash;
use crate::push::{MAX_NARINFO, Outcome, PushError, Sender, Spooled, decode};
use crate::store::StoreError;

/// Receives a narinfo, and has the path added with the file that was uploaded before.
pub(super) async fn put(cx: &Cx<'_>, hash: HashPart, body: &mut Receiver) -> Result<(), Refusal> {
    let coding = cx.content_encoding()?.map(|coding| compression(&coding)).transpose()?;
    if body.length().is_some_and(|length| length > MAX_NARINFO as u64) {
        return Err(too_long());
    }
    let (owner, client) = (cx.owner(), cx.client());
    let permit = cx.turn().await?;
    body.hold(&permit);
    let text = body.fill(Vec::new(), MAX_NARINFO + 1).await?;
    // From here on the server works, so that the turn is not reclaimed: its decoders take memory.
    body.release(&permit);
    let text = match coding {
        Some(compression) => decoded(text, compression).await?,
        None => text,
    };
    if text.len() > MAX_NARINFO {
        return Err(too_long());
    }
    let (spool, pusher) = (cx.uploads.spool(), cx.uploads.pusher());
    let checked = pusher.check(&text, hash).map_err(|fault| Refusal::from_push(&fault.into()))?;
    let file = FileHash::from_digest(*checked.file().sha256());
    let spooled = spool.read(owner, file).await?.map(|spooled| Spooled { file: spooled.file, size: spooled.size });
    let accept = async {
        let unavailable = |cause| PushError::Daemon { path: checked.path().clone(), cause };
        let sees_path = cx.app.sees(hash, cx.request).await.map_err(unavailable)?;
        let unseen_references = unseen(cx, checked.references()).await.map_err(unavailable)?;
        pusher.accept(checked.clone(), spooled, Sender { client, owner, sees_path, unseen_references }).await
    };
    let outcome = accept.await;
    drop(permit);
    // What the client did wrong it will not do right with the same file.
    if outcome.as_ref().map_or_else(|error| error.status() < 500, |_| true) {
        spool.accepted(owner, file).await;
    }
    match outcome {
        Ok(Outcome::Added(valid)) => {
            let (principal, size) = (&cx.request.granted.principal, human_size(valid.info.nar_size));
            tracing::info!(%principal, "{} was pushed ({size})", valid.path);
            Ok(())
        }
        Ok(Outcome::AlreadyValid) => Ok(()),
        Err(error) => Err(Refusal::from_push(&error)),
    }
}

/// Returns the paths that the principal does not see.
async fn unseen(cx: &Cx<'_>, paths: &[StorePath]) -> Result<Vec<StorePath>, StoreError> {
    let known = cx.app.known_sight(cx.request);
    let mut unseen: Vec<_> = paths.iter().filter(|path| !known.sees(path.hash_part())).cloned().collect();
    if !unseen.is_empty() {
        let sight = cx.app.sight(cx.request).await?;
        unseen.retain(|path| !sight.sees(path.hash_part()));
    }
    Ok(unseen)
}

fn too_long() -> Refusal {
    Refusal::too_long("the narinfo", MAX_NARINFO as u64)
}

/// Returns the compression that a `Content-Encoding` names.
fn compression(coding: &str) -> Result<Compression, Refusal> {
    match coding {
        "xz" => Ok(Compression::Xz),
        "zstd" => Ok(Compression::Zstd),
        "bzip2" => Ok(Compression::Bzip2),
        "gzip" | "x-gzip" => Ok(Compression::Gzip),
        "br" => Ok(Compression::Brotli),
        _ => Err(Refusal::unsupported_coding()),
    }
}

/// Decodes a text, up to the first byte that is too many.
async fn decoded(text: Vec<u8>, compression: Compression) -> Result<Vec<u8>, Refusal> {
    let decode = move || -> io::Result<Vec<u8>> {
        let mut decoded = Vec::new();
        decode::decoder(compression, io::Cursor::new(text))?.take(MAX_NARINFO as u64 + 1).read_to_end(&mut decoded)?;
        Ok(decoded)
    };
    let decoded = tokio::task::spawn_blocking(decode).await.map_err(io::Error::other).and_then(|decoded| decoded);
    decoded.map_err(|cause| {
        let text = "the body is not what its Content-Encoding says: push again";
        Refusal::new(StatusCode::BAD_REQUEST, "content_encoding", text).with_cause(&cause)
    })
}
