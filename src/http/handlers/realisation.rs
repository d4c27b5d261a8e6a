//! `/realisations/<id>.doi` and `/build-trace-v2/<drv>/<output>.doi`: which path an output of a content-addressed
//! derivation is, signed.
//!
//! Whether that path is valid here is not said: clients ask for its narinfo next.

use bytes::Bytes;
use harmonia_protocol::realisation::DerivationOutput;

use super::super::App;
use super::super::error::HandlerError;
use crate::client::Client;

/// The realisation in the form that belongs to the output's; `None` if the daemon has none, or none that is given out.
pub(in crate::http) async fn render(
    app: &App,
    output: &DerivationOutput,
    client: Client,
) -> Result<Option<Bytes>, HandlerError> {
    let Some(realisation) = app.store.realisation(output, client).await? else { return Ok(None) };
    let signatures = app.signer.load().sign_realisation(&realisation, output);
    Ok(signatures.map(|signatures| realisation.to_json(output, signatures).into()))
}
