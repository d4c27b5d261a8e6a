//! `/realisations/<id>.doi` and `/build-trace-v2/<drv>/<output>.doi`: which path an output of a content-addressed
//! derivation is, signed.
//!
//! Whether that path is valid here is not said: clients ask for its narinfo next.

use bytes::Bytes;
use harmonia_protocol::derivation_output::DerivationOutput;

use super::super::App;
use super::super::error::HandlerError;
use super::super::reason::NotFound;
use crate::fairness::ClientId;
use crate::store::NoRealisation;

/// Renders the realisation in the form that belongs to the output's.
pub(in crate::http) async fn render(
    app: &App,
    output: &DerivationOutput,
    client: ClientId,
) -> Result<Bytes, HandlerError> {
    let realisation = app.store.realisation(output, client).await?.map_err(|why| match why {
        NoRealisation::Unknown => NotFound::NoRealisation,
        NoRealisation::Unsupported => NotFound::RealisationsUnsupported,
    })?;
    let signatures = app.signer.load().sign_realisation(&realisation, output);
    let signatures = signatures.ok_or(NotFound::UntrustedRealisation)?;
    Ok(realisation.to_json(output, signatures).into())
}
