//! Tests of the encoder: what it writes, and what it holds while nobody reads.

use super::*;
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::io::Read;

/// RFC 9659: what a decoder of the content coding must be able to hold.
const WINDOW_LOG_OF_CONTENT_CODINGS: u32 = 23;

/// A body of given chunks, which is pending once before each.
struct Chunks {
    chunks: VecDeque<Result<Bytes, &'static str>>,
    rested: bool,
}

impl Chunks {
    fn new(chunks: impl IntoIterator<Item = Result<Bytes, &'static str>>) -> Self {
        Self { chunks: chunks.into_iter().collect(), rested: false }
    }

    /// `bytes` cut into pieces of the given lengths, over and over.
    fn cut(bytes: &Bytes, lengths: &[usize]) -> Self {
        let mut rest = bytes.clone();
        let mut lengths = lengths.iter().cycle();
        let chunk = || match (rest.len(), lengths.next()) {
            (0, _) | (_, None) => None,
            (left, Some(&length)) => Some(Ok(rest.split_to(length.min(left)))),
        };
        Self::new(std::iter::from_fn(chunk))
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.rested = !self.rested;
        if self.rested {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let chunk = self.chunks.pop_front();
        Poll::Ready(chunk.map(|it| it.map(Frame::data)))
    }
}

fn permits(count: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count))
}

/// Bytes that compress somewhat and differ along the way.
fn sample(length: usize) -> Bytes {
    let mut state = 1_u32;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 28) as u8
    });
    bytes.take(length).collect()
}

async fn all<B>(mut body: Compressed<B>) -> Result<Bytes, CompressError<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut output = Vec::new();
    while let Some(frame) = body.frame().await {
        let data = frame?.into_data().unwrap();
        assert!(!data.is_empty());
        output.extend_from_slice(&data);
    }
    Ok(output.into())
}

fn decoded(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::stream::read::Decoder::new(bytes)?;
    decoder.window_log_max(WINDOW_LOG_OF_CONTENT_CODINGS)?;
    let mut plain = Vec::new();
    decoder.read_to_end(&mut plain)?;
    Ok(plain)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_output_depends_on_the_bytes_and_not_on_how_they_are_cut(
        length in prop_oneof![0_usize..5000, UNIT - 2..UNIT + 2, 2 * UNIT..4 * UNIT],
        lengths in prop::collection::vec(1_usize..400_000, 1..8),
        stated: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let plain = sample(length);
        let stated = stated.then_some(length as u64);
        let settings = Zstd { level: 1, ..Zstd::default() };
        let encode = |body| runtime.block_on(all(Compressed::new(body, stated, settings, permits(1))));
        let cut = encode(Chunks::cut(&plain, &lengths)).unwrap();
        let whole = encode(Chunks::new([Ok(plain.clone())])).unwrap();
        prop_assert_eq!(&cut, &whole);
        prop_assert_eq!(decoded(&cut).unwrap(), plain);
    }
}

#[tokio::test]
async fn a_source_that_fails_ends_the_body_in_its_error_and_not_the_frame() {
    for before in [0, 10, UNIT, 3 * UNIT + 5] {
        let chunks = Chunks::new([Ok(sample(before)), Err("the daemon went away")]);
        let mut body = Compressed::new(chunks, None, Zstd::default(), permits(1));
        let mut output = Vec::new();
        let error = loop {
            match body.frame().await.unwrap() {
                Ok(frame) => output.extend_from_slice(frame.data_ref().unwrap()),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, CompressError::Source("the daemon went away")));
        assert!(body.frame().await.is_none());
        // Whatever was sent is no frame.
        assert!(output.is_empty() || decoded(&output).is_err());
    }
}

#[tokio::test]
async fn a_length_that_is_not_met_is_an_error() {
    for stated in [99, 101] {
        let body = Full::new(sample(100));
        let body = Compressed::new(body, Some(stated), Zstd::default(), permits(1));
        assert!(matches!(all(body).await, Err(CompressError::Encoder(_))));
    }
}

#[tokio::test]
async fn a_length_that_is_known_is_stated_in_the_frame() {
    let body = Full::new(sample(1000));
    let body = Compressed::new(body, Some(1000), Zstd::default(), permits(1));
    let frame = all(body).await.unwrap();
    let stated = zstd::zstd_safe::get_frame_content_size(&frame).unwrap();
    assert_eq!(stated, Some(1000));
}

#[tokio::test]
async fn the_window_never_exceeds_8_mib() {
    let plain = sample(UNIT + 1);
    for (level, window_log, long_distance_matching) in [(22, Some(23), false), (3, Some(23), true), (19, None, false)] {
        let settings = Zstd { level, long_distance_matching, window_log };
        // Without a length the header states the window, which the decoder refuses above its bound.
        let body = Compressed::new(Full::new(plain.clone()), None, settings, permits(1));
        assert_eq!(decoded(&all(body).await.unwrap()).unwrap(), plain);
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_holds_no_permit() {
    let encoders = permits(1);
    let chunks = || Chunks::cut(&sample(8 * UNIT), &[100_000]);
    let settings = Zstd::default();
    let mut stalled = Compressed::new(chunks(), None, settings, Arc::clone(&encoders));
    assert!(stalled.frame().await.is_some());
    assert_eq!(encoders.available_permits(), 1);
    let other = Compressed::new(chunks(), None, settings, Arc::clone(&encoders));
    assert_eq!(decoded(&all(other).await.unwrap()).unwrap().len(), 8 * UNIT);
}

#[tokio::test]
async fn nothing_is_encoded_without_a_permit() {
    let encoders = permits(0);
    let settings = Zstd::default();
    let body = Compressed::new(Full::new(sample(10)), None, settings, Arc::clone(&encoders));
    let task = tokio::spawn(all(body));
    // A body that is far longer is through before this one has begun.
    let chunks = Chunks::new([Ok(sample(4 * UNIT))]);
    let longer = Compressed::new(chunks, None, settings, permits(1));
    assert!(all(longer).await.is_ok());
    assert!(!task.is_finished());
    encoders.add_permits(1);
    let frame = task.await.unwrap().unwrap();
    assert_eq!(decoded(&frame).unwrap(), sample(10));
}

#[test]
fn a_small_text_is_one_frame_that_states_its_length() {
    let text = sample(3000);
    let frame = compress_small(&text, &Zstd::default()).unwrap();
    assert_eq!(decoded(&frame).unwrap(), text);
    let stated = zstd::zstd_safe::get_frame_content_size(&frame).unwrap();
    assert_eq!(stated, Some(3000));
}
