//! What goes over the wire to an S3 server: counted request by request, refusals made typed.
//!
//! Invariant: one count a request, credential traffic excluded, one duration up to the last byte of
//! the answer. A listing of many pages is many requests, which is why the count is taken here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use http::{HeaderMap, Method, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService, ReqwestConnector,
};
use streamhouse_observability::families::Operation;
use streamhouse_observability::{Metrics, logging};

use tokio::time::Instant;
use tracing::Span;

use super::refusal::Refusal;
use crate::stores::attempt::Attempt;

/// How much of a refusal is read.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;

/// Makes clients that count.
pub(super) struct CountingConnector {
    metrics: Arc<Metrics>,
    /// Requests carry no signature, and there is no credential traffic to tell from them.
    unsigned: bool,
}

impl CountingConnector {
    pub(super) fn new(metrics: Arc<Metrics>, unsigned: bool) -> Self {
        Self { metrics, unsigned }
    }
}

impl std::fmt::Debug for CountingConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CountingConnector")
    }
}

impl HttpConnector for CountingConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Counting {
            inner: ReqwestConnector::default().connect(options)?,
            metrics: Arc::clone(&self.metrics),
            unsigned: self.unsigned,
        }))
    }
}

struct Counting {
    inner: HttpClient,
    metrics: Arc<Metrics>,
    unsigned: bool,
}

impl std::fmt::Debug for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Counting").field(&self.inner).finish()
    }
}

#[async_trait]
impl HttpService for Counting {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Requests for credentials go through the same client, but are not signed.
        if !self.unsigned && !is_signed(&request) {
            return self.inner.execute(request).await;
        }
        let operation = operation_of(request.method(), request.uri().query());
        let attempt = Attempt::begin(&self.metrics, operation);
        attempt.sent(request.body().content_length());
        // Without the query: a presigned one is a secret.
        let path = tracing::enabled!(tracing::Level::DEBUG).then(|| request.uri().path().to_owned());
        let began = Instant::now();
        let response = self.inner.execute(request).await?;
        let (parts, body) = response.into_parts();
        let span = Span::current();
        span.record("status", i64::from(parts.status.as_u16()));
        span.record("store_request_id", request_id(&parts.headers));
        if let Some(path) = path {
            let object_id = path.find("/objects/").map(|at| &path[at + 1..]);
            tracing::debug!(
                %operation,
                object_id,
                path,
                status = parts.status.as_u16(),
                store_request_id = request_id(&parts.headers),
                duration_ms = logging::milliseconds(began.elapsed()),
                "the object store answered"
            );
        }
        if !is_refusal(parts.status) {
            // The bytes of a GET are payload; a listing's XML is not.
            let counted = operation == Operation::Get;
            let body = CountedBody {
                body,
                attempt,
                counted,
            };
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
        }
        let text = read_refusal(body).await?;
        let request_id = request_id(&parts.headers).map(str::to_owned);
        let refusal = Refusal::read(parts.status.as_u16(), &text, request_id);
        // A missing key is an answer that `object_store` maps itself; a missing bucket is a fault.
        if parts.status == StatusCode::NOT_FOUND && refusal.code != "NoSuchBucket" {
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(text)));
        }
        Err(HttpError::new(HttpErrorKind::Unknown, refusal))
    }
}

/// What the store's own logs and its support know the request by.
fn request_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-amz-request-id").and_then(|id| id.to_str().ok())
}

fn is_signed(request: &HttpRequest) -> bool {
    let authorization = request.headers().get(header::AUTHORIZATION);
    authorization.is_some_and(|value| value.as_bytes().starts_with(b"AWS4-"))
}

/// 304, 409 and 412 are answers, which `object_store` has errors for.
fn is_refusal(status: StatusCode) -> bool {
    !status.is_success()
        && !matches!(
            status,
            StatusCode::NOT_MODIFIED | StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED
        )
}

async fn read_refusal(body: HttpResponseBody) -> Result<Bytes, HttpError> {
    let mut text = Vec::new();
    let mut stream = body.bytes_stream();
    while let Some(chunk) = stream.try_next().await? {
        let room = REFUSAL_BYTES_MAX - text.len();
        text.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(Bytes::from(text))
}

fn operation_of(method: &Method, query: Option<&str>) -> Operation {
    let has = |name: &str| {
        let names = query
            .unwrap_or_default()
            .split('&')
            .map(|pair| pair.split('=').next().unwrap_or(pair));
        names.into_iter().any(|key| key == name)
    };
    match *method {
        Method::HEAD => Operation::Head,
        Method::GET if has("list-type") => Operation::List,
        Method::DELETE if has("uploadId") => Operation::AbortMultipart,
        Method::DELETE => Operation::Delete,
        Method::POST if has("delete") => Operation::DeleteBatch,
        Method::POST if has("uploads") => Operation::CreateMultipart,
        Method::POST => Operation::CompleteMultipart,
        Method::PUT if has("partNumber") => Operation::PutMultipart,
        Method::PUT => Operation::Put,
        _ => Operation::Get,
    }
}

/// A response's body that ends its attempt with its last byte, or when it is dropped.
struct CountedBody {
    body: HttpResponseBody,
    attempt: Attempt,
    counted: bool,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if this.counted
            && let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            this.attempt.received(data.len());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_request_counts_under_its_own_name() {
        for (method, query, operation) in [
            (Method::PUT, None, Operation::Put),
            (
                Method::PUT,
                Some("partNumber=1&uploadId=x"),
                Operation::PutMultipart,
            ),
            (Method::GET, None, Operation::Get),
            (Method::GET, Some("list-type=2&prefix=a"), Operation::List),
            (
                Method::GET,
                Some("continuation-token=a&list-type=2"),
                Operation::List,
            ),
            (Method::HEAD, None, Operation::Head),
            (Method::DELETE, None, Operation::Delete),
            (Method::DELETE, Some("uploadId=x"), Operation::AbortMultipart),
            (Method::POST, Some("delete"), Operation::DeleteBatch),
            (Method::POST, Some("uploads"), Operation::CreateMultipart),
            (Method::POST, Some("uploadId=x"), Operation::CompleteMultipart),
        ] {
            assert_eq!(operation_of(&method, query), operation, "{method} {query:?}");
        }
    }
}
