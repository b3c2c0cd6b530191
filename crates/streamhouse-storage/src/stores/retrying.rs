//! Deadlines and retries, above everything else that wraps a store.
//!
//! Invariants: a call ends within its deadline, whatever the store does; each attempt has a limit of
//! its own, so that one stalled connection does not use the deadline up; every failed attempt counts
//! once, as `retry` when another follows and as `failed` when it was the last. A GET is answered when
//! all its bytes are here and their number is the announced one.
//!
//! A PUT whose reply got lost is sent again as a plain overwrite of the same key with the same bytes.
//! A DELETE of what is gone has succeeded.

mod jitter;
mod policy;
mod whole;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use streamhouse_observability::families::{Operation, StoreErrorType};
use streamhouse_observability::{Metrics, logging};
use tokio::time::{Instant, sleep, timeout};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::fault::{Fault, Stalled, classify};
use super::reuse::ReadMemory;

pub use jitter::Jitter;
pub use policy::{Patience, RetryPolicy};

const NAME: &str = "Retrying";

/// Deletes of one `delete_stream` in flight.
const CONCURRENT_DELETES_MAX: usize = 10;

/// Told when attempts begin and how they end; passive health is made of it. Called on the path of every
/// request: it must neither block nor take long.
pub trait AttemptObserver: Send + Sync + 'static {
    fn begun(&self, operation: Operation) -> Box<dyn ObservedAttempt>;
}

/// One attempt under way. Dropped before it has ended: whoever asked has gone.
pub trait ObservedAttempt: Send {
    /// The store answered, be it with "no such key".
    fn succeeded(self: Box<Self>);
    fn failed(self: Box<Self>, error: &Error);
}

/// Observes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Ignore;

impl AttemptObserver for Ignore {
    fn begun(&self, _: Operation) -> Box<dyn ObservedAttempt> {
        Box::new(Self)
    }
}

impl ObservedAttempt for Ignore {
    fn succeeded(self: Box<Self>) {}
    fn failed(self: Box<Self>, _: &Error) {}
}

/// See the module's head.
#[derive(Clone)]
pub struct Retrying {
    inner: Arc<dyn ObjectStore>,
    context: Arc<Context>,
}

struct Context {
    policy: RetryPolicy,
    metrics: Arc<Metrics>,
    observer: Arc<dyn AttemptObserver>,
    jitter: Jitter,
    /// Where answers that come in many pieces are joined.
    joining: ReadMemory,
}

impl Retrying {
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        policy: RetryPolicy,
        metrics: Arc<Metrics>,
        observer: Arc<dyn AttemptObserver>,
        jitter: Jitter,
    ) -> Self {
        let context = Context {
            policy,
            metrics,
            observer,
            jitter,
            joining: ReadMemory::default(),
        };
        Self {
            inner,
            context: Arc::new(context),
        }
    }

    async fn list_all(
        self,
        prefix: Option<Path>,
        offset: Option<Path>,
    ) -> Result<BoxStream<'static, Result<ObjectMeta>>> {
        let page = self
            .context
            .run(
                (Operation::List, prefix.as_ref()),
                self.context.policy.list,
                classify,
                || async {
                    let listing = match &offset {
                        Some(offset) => self.inner.list_with_offset(prefix.as_ref(), offset),
                        None => self.inner.list(prefix.as_ref()),
                    };
                    listing.try_collect::<Vec<_>>().await
                },
            )
            .await?;
        Ok(stream::iter(page.into_iter().map(Ok)).boxed())
    }
}

impl Context {
    /// Runs attempts until one succeeds, one fails for good, or the deadline is too near for another. `object`
    /// is its key, or the prefix of a listing.
    async fn run<T, F: Future<Output = Result<T>>>(
        &self,
        (operation, object): (Operation, Option<&Path>),
        patience: Patience,
        judge: impl Fn(&Error) -> Fault,
        attempt: impl FnMut() -> F,
    ) -> Result<T> {
        let span = tracing::debug_span!(
            "object_store",
            %operation,
            object_id = object.map(tracing::field::display),
            error_type = Empty,
        );
        let run = self.attempts((operation, object), patience, judge, attempt);
        run.instrument(span).await
    }

    async fn attempts<T, F: Future<Output = Result<T>>>(
        &self,
        (operation, object): (Operation, Option<&Path>),
        patience: Patience,
        judge: impl Fn(&Error) -> Fault,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T> {
        let mut number = 0i64;
        let deadline = Instant::now() + patience.deadline;
        let mut backoff = self.policy.backoff_first;
        loop {
            let limit = patience
                .attempt
                .min(deadline.saturating_duration_since(Instant::now()));
            let observed = self.observer.begun(operation);
            let span = tracing::debug_span!(
                "attempt",
                attempt = number,
                status = Empty,
                store_request_id = Empty,
                error_type = Empty,
            );
            number += 1;
            let error = match timeout(limit, attempt().instrument(span.clone())).await {
                Ok(Ok(answer)) => {
                    observed.succeeded();
                    return Ok(answer);
                }
                Ok(Err(error)) => error,
                Err(_) => generic(Stalled { waited: limit }),
            };
            let fault = judge(&error);
            if fault == Fault::Expected {
                observed.succeeded();
                return Err(error);
            }
            observed.failed(&error);
            let pause = self.jitter.spread(backoff);
            let time_left = deadline.saturating_duration_since(Instant::now()) > pause;
            if fault == Fault::Lasting || !time_left {
                self.count(operation, StoreErrorType::Failed);
                span.record("error_type", "failed");
                Span::current().record("error_type", "failed");
                return Err(error);
            }
            self.count(operation, StoreErrorType::Retry);
            span.record("error_type", "retry");
            drop(span); // the pause is not its time
            if let Some(suppressed) = logging::admit("object_store", operation.as_str(), "") {
                tracing::warn!(
                    %operation,
                    object_id = object.map(tracing::field::display),
                    error_type = "retry",
                    %error,
                    pause_ms = logging::milliseconds(pause),
                    suppressed,
                    "the object store failed; trying again"
                );
            }
            sleep(pause).await;
            backoff = (backoff * 2).min(self.policy.backoff_max);
        }
    }

    fn count(&self, operation: Operation, what: StoreErrorType) {
        self.metrics.object_store.errors(operation, what).inc();
    }
}

fn generic(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic {
        store: NAME,
        source: Box::new(source),
    }
}

/// A conflict on a plain overwrite is another write to the key in flight (our own lost one), which an
/// S3 store answers with 409.
fn judge_overwrite(error: &Error) -> Fault {
    match error {
        Error::AlreadyExists { .. } => Fault::Transient,
        error => classify(error),
    }
}

#[async_trait]
impl ObjectStore for Retrying {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let judge = match opts.mode {
            PutMode::Overwrite => judge_overwrite,
            PutMode::Create | PutMode::Update(_) => classify,
        };
        self.context
            .run(
                (Operation::Put, Some(location)),
                self.context.policy.put,
                judge,
                || self.inner.put_opts(location, payload.clone(), opts.clone()),
            )
            .await
    }

    /// Passed through: StreamHouse uploads each object in one PUT.
    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let operation = if head { Operation::Head } else { Operation::Get };
        let (mut result, bytes) = self
            .context
            .run(
                (operation, Some(location)),
                self.context.policy.get,
                classify,
                || async {
                    let result = self.inner.get_opts(location, options.clone()).await?;
                    match head {
                        true => Ok((result, Bytes::new())),
                        false => whole::collect(result, &self.context.joining).await,
                    }
                },
            )
            .await?;
        if !head {
            let once = stream::once(std::future::ready(Ok(bytes)));
            result.payload = GetResultPayload::Stream(once.boxed());
        }
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .map(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    let deleted = this
                        .context
                        .run(
                            (Operation::Delete, Some(&location)),
                            this.context.policy.delete,
                            classify,
                            || {
                                let one = stream::once(std::future::ready(Ok(location.clone()))).boxed();
                                let mut deleting = this.inner.delete_stream(one);
                                async move { deleting.next().await.transpose() }
                            },
                        )
                        .await;
                    match deleted {
                        Ok(_) | Err(Error::NotFound { .. }) => Ok(location),
                        Err(error) => Err(error),
                    }
                }
            })
            .buffered(CONCURRENT_DELETES_MAX)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::once(self.clone().list_all(prefix.cloned(), None))
            .try_flatten()
            .boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let all = self.clone().list_all(prefix.cloned(), Some(offset.clone()));
        stream::once(all).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.context
            .run(
                (Operation::List, prefix),
                self.context.policy.list,
                classify,
                || self.inner.list_with_delimiter(prefix),
            )
            .await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Display for Retrying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for Retrying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(NAME).field(&self.inner).finish()
    }
}
