//! Requests about pins: protect store paths from the garbage collector under a name, end that, list them.

use std::time::Duration;

use harmonia_protocol::StorePath;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::requests::{Refusal, Server};
use crate::store::{MAX_TEXT, Pin, PinError, PinName};

/// Request to pin paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PinPaths {
    /// Name of the pin.
    pub name: String,
    /// Base names of the paths.
    pub paths: Vec<String>,
    /// Seconds until they are unpinned; `None` if never.
    pub seconds: Option<u64>,
    /// User who asks for it.
    pub by: String,
}

impl Server {
    /// Pins paths. They are protected when the response is sent.
    pub(super) async fn pin(&self, request: PinPaths) -> Result<Pin, Refusal> {
        let name = name(&request.name)?;
        let parse = |text: &String| StorePath::from_base_name(text).map_err(|_| PinError::NoStorePath(text.clone()));
        let mut paths = request.paths.iter().map(parse).collect::<Result<Vec<_>, _>>().map_err(refusal)?;
        paths.sort();
        paths.dedup();
        let by = if request.by.len() > MAX_TEXT { "?".to_owned() } else { request.by };
        let pinned = self.app.store().pin(&name, &paths, request.seconds.map(Duration::from_secs), by).await;
        let pin = pinned.map_err(refusal)?;
        if let Some(newest) = pin.generations.first() {
            tracing::info!("pinned {} as generation {} of {name}", paths.len(), newest.number);
        }
        Ok(pin)
    }

    /// Removes a pin.
    pub(super) async fn unpin(&self, text: &str) -> Result<Pin, Refusal> {
        let name = name(text)?;
        let pin = self.app.store().unpin(&name).await.map_err(refusal)?;
        tracing::info!("removed pin {name}");
        Ok(pin)
    }

    /// Lists the pins.
    pub(super) async fn pins(&self) -> Result<Vec<Pin>, Refusal> {
        self.app.store().pins().await.map_err(refusal)
    }
}

fn name(text: &str) -> Result<PinName, Refusal> {
    text.parse().map_err(|error| refusal(PinError::Name(error)))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn refusal(error: PinError) -> Refusal {
    let status = match error {
        PinError::Name(_) | PinError::NoStorePath(_) => StatusCode::BAD_REQUEST,
        PinError::NotValid(_) | PinError::NoSuchPin(_) => StatusCode::NOT_FOUND,
        PinError::NoStateDirectory | PinError::TooMany | PinError::Invisible(_) => StatusCode::CONFLICT,
        PinError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        PinError::Directory { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal::new(status, &error)
}
