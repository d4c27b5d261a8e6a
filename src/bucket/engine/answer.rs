//! Answers of the server that are errors, which `object_store` does not hand out.
//!
//! The client notes them for the request of the same task.

use std::cell::RefCell;

/// Longest text of a server that is kept, in characters.
const MAX_TEXT: usize = 300;

tokio::task_local! {
    static LAST: RefCell<Option<Answer>>;
}

/// An error that the server answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Status of HTTP. With 200 the error is in the body.
    pub(super) status: u16,
    /// Code of S3, such as `NoSuchBucket`.
    pub(super) code: Option<String>,
    /// Message for people, on one line.
    pub(super) message: Option<String>,
}

impl Answer {
    /// Parses the body of an error.
    pub(super) fn parse(status: u16, body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        Self { status, code: element(&body, "Code"), message: element(&body, "Message") }
    }
}

/// Runs a request, and returns the last error that the server answered with.
pub(super) async fn noting<T>(request: impl Future<Output = T>) -> (T, Option<Answer>) {
    let request = async {
        let result = request.await;
        (result, LAST.with(RefCell::take))
    };
    LAST.scope(RefCell::default(), request).await
}

/// Notes an error for the request of this task.
pub(super) fn note(answer: Answer) {
    // A key for temporary credentials may be asked for outside of a request.
    let _ = LAST.try_with(|last| last.replace(Some(answer)));
}

/// Returns the text of the first element of this name, cut and on one line.
fn element(body: &str, name: &str) -> Option<String> {
    let (_, rest) = body.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.chars().map(|it| if it.is_control() { ' ' } else { it }).take(MAX_TEXT).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_server_stay_on_a_line() {
        let answer = Answer::parse(503, b"<Error><Code>SlowDown</Code><Message>a\nb</Message></Error>");
        assert_eq!((answer.code.as_deref(), answer.message.as_deref()), (Some("SlowDown"), Some("a b")));
        assert_eq!(Answer::parse(500, b"<Code>\xFF").code, None);
        let long = format!("<Message>{}</Message>", "x".repeat(1000));
        assert_eq!(Answer::parse(500, long.as_bytes()).message.unwrap().len(), MAX_TEXT);
    }

    #[tokio::test]
    async fn an_error_is_noted_for_the_request_that_it_answers() {
        let answer = Answer::parse(404, b"");
        let ((), noted) = noting(async { note(answer.clone()) }).await;
        assert_eq!(noted, Some(answer.clone()));
        note(answer);
        assert_eq!(noting(async {}).await.1, None);
    }
}
