//! What is asked of the process: `/livez`, `/readyz`, `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::leader::Leadership;
use crate::metrics::Metrics;

/// What is answered from.
#[derive(Clone)]
pub struct Served {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether the API server answers.
    pub leadership: Leadership,
    /// How long it may be silent.
    pub patience: Duration,
}

/// Answers, for as long as it runs.
///
/// # Errors
/// When the socket fails.
pub async fn serve(listener: TcpListener, served: Served) -> std::io::Result<()> {
    let router = Router::new()
        // It is asked on the runtime that does everything else: an answer is the proof.
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(served);
    axum::serve(listener, router).await
}

async fn ready(State(served): State<Served>) -> (StatusCode, String) {
    let silent = served.leadership.silent_for();
    if silent < served.patience {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("the API server has not answered for {} s\n", silent.as_secs()))
}

async fn metrics(State(served): State<Served>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], served.metrics.text())
}
