//! `/realisations/<id>.doi` and `/build-trace-v2/<drv>/<output>.doi`: which path an output of a content-addressed
//! derivation is, signed.
//!
//! Whether that path is valid here is not said: clients ask for its narinfo next.

use bytes::Bytes;
use harmonia_protocol::realisation::DerivationOutput;

use super::super::App;
use super::super::error::HandlerError;

/// The realisation in the form that belongs to the output's; `None` if the daemon has none.
pub(in crate::http) async fn render(app: &App, output: &DerivationOutput) -> Result<Option<Bytes>, HandlerError> {
    let Some(realisation) = app.store.realisation(output).await? else { return Ok(None) };
    let keys = app.keys.load();
    let fingerprints = realisation.fingerprints(output);
    let signatures = fingerprints.iter().flat_map(|fingerprint| keys.sign(fingerprint)).collect();
    Ok(Some(realisation.to_json(output, signatures).into()))
}
