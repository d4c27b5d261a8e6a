//! Uploads that harmonia has no use for, since it makes the same from the store: listings and the index of debug info.

use super::cx::Cx;
use super::receive::Receiver;
use super::refusal::Refusal;

/// Longest body that is received, in bytes: the listing of a million files.
const MAX_LENGTH: u64 = 128 << 20;
/// Size of a piece, in bytes.
const PIECE: usize = 64 << 10;

/// Receives a body and discards it.
pub(super) async fn put(cx: &Cx<'_>, body: &mut Receiver) -> Result<(), Refusal> {
    if body.length().is_some_and(|length| length > MAX_LENGTH) {
        return Err(too_long());
    }
    let permit = cx.turn().await?;
    body.hold(&permit);
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        piece.clear();
        piece = body.fill(piece, PIECE).await?;
        if piece.is_empty() {
            return Ok(());
        }
        if body.received() > MAX_LENGTH {
            return Err(too_long());
        }
    }
}

fn too_long() -> Refusal {
    Refusal::too_long("the body", MAX_LENGTH)
}
