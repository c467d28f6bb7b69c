//! What is asked of the process: `/livez`, `/readyz`, `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::leader::{Clock, Leadership};
use crate::metrics::Metrics;
use crate::unlisted::Unlisted;

/// What is answered from.
#[derive(Clone)]
pub struct Served {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether the API server answers.
    pub leadership: Leadership,
    /// What cannot be listed.
    pub unlisted: Arc<Unlisted>,
    /// Its clock.
    pub clock: Clock,
    /// How long it may be silent, or a list fail, and half of how long the Lease may be untended.
    pub patience: Duration,
}

/// Answers, for as long as it runs.
///
/// # Errors
/// When the socket fails.
pub async fn serve(listener: TcpListener, served: Served) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(served);
    axum::serve(listener, router).await
}

/// An API server that is away is no reason to begin anew; a task that is stuck is.
async fn live(State(served): State<Served>) -> (StatusCode, String) {
    let untended = served.leadership.untended_for();
    if untended < served.patience * 2 {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("nothing was done for {} s\n", untended.as_secs()))
}

async fn ready(State(served): State<Served>) -> (StatusCode, String) {
    let silent = served.leadership.silent_for();
    if silent < served.patience {
        // Statuses and the trimming wait for all that there is to be known.
        return match served.unlisted.for_longer_than(served.patience, served.clock.now()) {
            None => (StatusCode::OK, "ok\n".to_owned()),
            Some(unlisted) => (StatusCode::SERVICE_UNAVAILABLE, format!("{unlisted}\n")),
        };
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("the API server has not answered for {} s\n", silent.as_secs()))
}

async fn metrics(State(served): State<Served>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], served.metrics.text())
}
