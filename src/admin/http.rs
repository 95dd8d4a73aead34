//! The HTTP server: one request per connection, few connections, little time for each.
//!
//! These ports may be reached by any pod, so every step is bounded. When all connections are taken the oldest is closed
//! for the newest: somebody who opens connections and sends nothing cannot keep the kubelet's probe out.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::ready::Readiness;
use crate::observe::limit::RateLimit;
use crate::observe::metrics::Metrics;
use crate::sys::clock::Moment;

/// What a listener serves.
#[derive(Clone, Debug)]
pub enum Routes {
    /// `/metrics`.
    Metrics,
    /// `/health` and `/ready`.
    Health(Arc<Readiness>),
}

/// What one listener may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once.
    pub connections: usize,
    /// Time for a request's header to arrive.
    pub header_time: Duration,
    /// Octets of a request's header, request line included.
    pub header_bytes: usize,
    /// Time for all of a connection.
    pub total_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 64,
            header_time: Duration::from_secs(5),
            header_bytes: 8 * 1024,
            total_time: Duration::from_secs(10),
        }
    }
}

/// How long to wait after an accept that failed for want of something (EMFILE): the next would fail too.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Keeps failures to accept from filling the log.
static ACCEPT_LOG: RateLimit = RateLimit::new(Duration::from_secs(60));

/// Serves `routes` until it is dropped, which closes all connections. To be called within a tokio runtime.
///
/// # Errors
/// When `listener` cannot be handed to the runtime; later troubles are logged and outlived.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    metrics: Arc<Metrics>,
    limits: Limits,
) -> io::Result<Infallible> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut tasks = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if let Some(suppressed) = ACCEPT_LOG.allow(Moment::now()) {
                    tracing::warn!(%error, suppressed, "cannot accept an HTTP connection");
                }
                // A client that gave up before it was accepted costs nobody anything.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    sleep(BACK_OFF).await;
                }
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        open.retain(|connection| !connection.is_finished());
        if open.len() >= limits.connections
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
            metrics.http_closed.add(1);
        }
        open.push_back(tasks.spawn(connection(stream, routes.clone(), metrics.clone(), limits)));
    }
}

/// Answers one request. Whatever goes wrong here is the client's loss alone and not worth a line.
async fn connection(stream: TcpStream, routes: Routes, metrics: Arc<Metrics>, limits: Limits) {
    let service = service_fn(|request| {
        let (routes, metrics) = (&routes, &metrics);
        async move { Ok::<_, Infallible>(answer(routes, metrics, &request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_header_size(limits.header_bytes)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = timeout(limits.total_time, connection).await;
}

/// The answer to a request. Its body is not read: nothing here takes one.
async fn answer(routes: &Routes, metrics: &Metrics, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let known = match routes {
        Routes::Metrics => matches!(request.uri().path(), "/metrics"),
        Routes::Health(_) => matches!(request.uri().path(), "/health" | "/ready"),
    };
    if !known {
        return response(StatusCode::NOT_FOUND, PLAIN, "not found\n".to_owned());
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET and HEAD only\n".to_owned());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match routes {
        Routes::Metrics => response(StatusCode::OK, prometheus::TEXT_FORMAT, metrics.gather()),
        Routes::Health(readiness) if request.uri().path() == "/ready" => {
            let report = readiness.report().await;
            let status = if report.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            response(status, PLAIN, report.to_string())
        }
        Routes::Health(readiness) => match readiness.sick() {
            None => response(StatusCode::OK, PLAIN, "OK\n".to_owned()),
            Some(why) => response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{why}\n")),
        },
    }
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
