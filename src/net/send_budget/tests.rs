use std::convert::Infallible;
use std::future::poll_fn;
use std::task::Waker;

use super::*;
use crate::net::deadlines::{Activity, EndRequest};

const PIECE: usize = 128 << 10;

/// Chunks of this many bytes without end, of which nobody says how many.
struct Endless(usize);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(vec![7; self.0].into()))))
    }
}

/// A source that has nothing until it is given something.
#[derive(Clone, Default)]
struct Waits(Arc<Mutex<Option<Bytes>>>);

impl Body for Waits {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.lock().take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}

/// A text of a known length.
struct Text(Option<Bytes>);

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}

fn budget() -> SendBudget {
    SendBudget::new(&Metrics::default())
}

fn client(last: u8) -> ClientId {
    ClientId::from_addr([192, 0, 2, last].into())
}

fn connection() -> Arc<Activity> {
    Activity::new(Instant::now(), &Metrics::default().connections)
}

/// A body on a connection that may have others.
fn body<B: Body<Data = Bytes> + Unpin>(
    body: B,
    last: u8,
    memory: &SendBudget,
    connection: &Arc<Activity>,
) -> BudgetedBody<B> {
    BudgetedBody::new(body, client(last), memory.clone(), ReadProgress::start(connection, true))
}

/// The next bytes, if they come at once.
fn next<B: Body<Data = Bytes, Error = Infallible> + Unpin>(body: &mut BudgetedBody<B>) -> Option<Bytes> {
    match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
        _ => None,
    }
}

async fn awaited<B: Body<Data = Bytes, Error = Infallible> + Unpin>(body: &mut BudgetedBody<B>) -> Bytes {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
    frame.unwrap().unwrap().into_data().unwrap()
}

/// Bodies of this client on one connection each, until there is no memory; each has given a chunk that nobody takes.
fn unread(last: u8, memory: &SendBudget) -> Vec<(Arc<Activity>, BudgetedBody<Endless>, Bytes)> {
    let of_one = |_| {
        let connection = connection();
        let mut body = body(Endless(PIECE), last, memory, &connection);
        next(&mut body).map(|bytes| (connection, body, bytes))
    };
    (0..32_768).map_while(of_one).collect()
}

#[tokio::test]
async fn all_memory_is_released() {
    let memory = budget();
    for round in 0..3 {
        let held = unread(round, &memory);
        // Bodies that wait are given up.
        let connection = connection();
        let mut waiting: Vec<_> = (0..10).map(|_| body(Endless(PIECE), round, &memory, &connection)).collect();
        assert!(held.len() >= TOTAL / PIECE / 2 && waiting.iter_mut().all(|body| next(body).is_none()));
        drop((held, waiting));
        assert_eq!((memory.0.available(), memory.0.waiting()), (units(TOTAL as u64), 0));
    }
}

#[tokio::test(start_paused = true)]
async fn memory_of_bodies_without_data_is_reclaimed_for_others() {
    let (memory, connection) = (budget(), connection());
    let source = Waits::default();
    let mut waiting: Vec<_> = (0..600).map(|_| body(source.clone(), 1, &memory, &connection)).collect();
    assert!(waiting.iter_mut().all(|body| next(body).is_none()));
    assert_eq!(memory.0.available(), 0);
    let mut other = body(Endless(PIECE), 1, &memory, &connection);
    let began = Instant::now();
    for _ in 0..100 {
        assert!(!awaited(&mut other).await.is_empty());
    }
    // Within a second, not after those of a stopped fill.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // One that gave up goes on when its source does.
    *source.0.lock() = Some(vec![7; 10].into());
    assert_eq!(awaited(&mut waiting[0]).await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_reads_nothing_is_cut_for_those_that_wait_for_memory() {
    let memory = budget();
    let held = unread(1, &memory);
    let mut other = body(Endless(PIECE), 2, &memory, &connection());
    let (began, mut told) = (Instant::now(), false);
    let bytes = loop {
        if let Ok(bytes) = tokio::time::timeout(Duration::from_millis(100), awaited(&mut other)).await {
            break bytes;
        }
        // A connection that is told to ends drops what it has.
        for (connection, _, _) in &held {
            if !told && tokio::time::timeout(Duration::ZERO, connection.end_requested()).await == Ok(EndRequest::Abort)
            {
                told = true;
            }
        }
        assert!(began.elapsed() < Duration::from_secs(60));
        if told {
            assert!(began.elapsed() >= Duration::from_secs(1));
            break Bytes::from_static(b"cut");
        }
    };
    assert!(!bytes.is_empty() && told);
}

#[tokio::test]
async fn a_multiplexed_response_is_given_in_slices_that_are_counted_together() {
    let (memory, connection) = (budget(), connection());
    let mut body = body(Text(Some(vec![7; PIECE].into())), 1, &memory, &connection);
    let slices: Vec<_> = std::iter::from_fn(|| next(&mut body)).collect();
    assert!(slices.len() == PIECE / SLICE && slices.iter().all(|slice| slice.len() == SLICE));
    assert_eq!(memory.0.available(), units(TOTAL as u64) - units(PIECE as u64));
    drop(slices);
    assert_eq!(memory.0.available(), units(TOTAL as u64));
}

#[tokio::test]
async fn short_texts_need_no_memory_and_others_their_length() {
    let (memory, connection) = (budget(), connection());
    let text = |length: usize| body(Text(Some(vec![7; length].into())), 1, &memory, &connection);
    let (mut short, mut long) = (text(4096), text(10_000));
    let total = units(TOTAL as u64);
    let held = next(&mut short).unwrap();
    assert_eq!((held.len(), memory.0.available()), (4096, total));
    let held = next(&mut long).unwrap();
    assert_eq!((held.len(), memory.0.available()), (10_000, total - 10));
    assert!(next(&mut long).is_none());
    assert_eq!(memory.0.available(), total - 10);
}
