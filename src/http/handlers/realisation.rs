//! `/realisations/<id>.doi` and `/build-trace-v2/<drv>/<output>.doi`: the path of an output of a content-addressed
//! derivation, signed.
//!
//! Does not say whether that path is valid: clients request its narinfo next.

use harmonia_protocol::derivation_output::DerivationOutput;
use tokio::time::Instant;

use crate::http::app::App;
use crate::http::error::HandlerError;
use crate::http::error_reason::NotFound;
use crate::http::request::context::RequestCx;
use crate::http::response::body::Response;
use crate::http::response::cache_control::CacheControl;
use crate::http::response::text::text;
use crate::store::NoRealisation;

/// Returns the realisation of an output as JSON, in the format that goes with the form of the output.
pub(crate) async fn respond(app: &App, cx: RequestCx<'_>, output: &DerivationOutput) -> Result<Response, HandlerError> {
    let arrived = Instant::now();
    let realisation = app.store.realisation(output, cx.client).await?.map_err(|why| match why {
        NoRealisation::Unknown => NotFound::NoRealisation,
        NoRealisation::Unsupported => NotFound::RealisationsUnsupported,
    });
    let is_visible = match &realisation {
        Ok(realisation) => app.sees(realisation.path.hash_part(), cx).await?,
        // Takes as long as for one whose path is in no view.
        Err(_) => app.sight(cx).await.map(|_| false)?,
    };
    if !is_visible {
        app.even_out(arrived, cx).await;
        return Err(realisation.err().unwrap_or(NotFound::NoRealisation).into());
    }
    let realisation = realisation?;
    let signatures = app.signer.load().sign_realisation(&realisation, output);
    let signatures = signatures.ok_or(NotFound::UntrustedRealisation)?;
    let json = realisation.to_json(output, signatures);
    Ok(text(app.compressor.as_ref(), cx.headers(), CacheControl::OneHour, "application/json", json.into()))
}
