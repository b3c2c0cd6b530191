//! Counts every call on a store that is not reached over HTTP: the local directory and memory count
//! like S3 does, one request an attempt, to the last byte. (S3 counts on the wire, see `s3::wire`,
//! because one listing is many requests there.)
//!
//! Invariant: this wrapper changes no answer. It stands below the retries, so that each attempt counts.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use streamhouse_observability::Metrics;
use streamhouse_observability::families::Operation;

use super::attempt::Attempt;

/// See the module's head.
pub struct Metered {
    inner: Arc<dyn ObjectStore>,
    metrics: Arc<Metrics>,
}

impl Metered {
    pub fn new(inner: Arc<dyn ObjectStore>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }

    fn begin(&self, operation: Operation) -> Attempt {
        Attempt::begin(&self.metrics, operation)
    }

    fn list_counted(
        &self,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        carry(listing, self.begin(Operation::List), |_, _| {})
    }
}

/// Keeps the attempt open until the stream has ended or is dropped.
fn carry<T: Send + 'static>(
    items: BoxStream<'static, Result<T>>,
    attempt: Attempt,
    each: impl Fn(&Attempt, &T) + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    stream::unfold((items, attempt, each), |(mut items, attempt, each)| async move {
        let item = items.next().await?;
        if let Ok(item) = &item {
            each(&attempt, item);
        }
        Some((item, (items, attempt, each)))
    })
    .boxed()
}

#[async_trait]
impl ObjectStore for Metered {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let attempt = self.begin(Operation::Put);
        attempt.sent(payload.content_length());
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let _attempt = self.begin(Operation::CreateMultipart);
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let attempt = self.begin(if head { Operation::Head } else { Operation::Get });
        let mut result = self.inner.get_opts(location, options).await?;
        if head {
            return Ok(result);
        }
        let GetResultPayload::Stream(body) = result.payload;
        let count = |attempt: &Attempt, bytes: &Bytes| attempt.received(bytes.len());
        result.payload = GetResultPayload::Stream(carry(body, attempt, count));
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, metrics) = (Arc::clone(&self.inner), Arc::clone(&self.metrics));
        locations
            .then(move |location| {
                let (inner, metrics) = (Arc::clone(&inner), Arc::clone(&metrics));
                async move {
                    let location = location?;
                    let _attempt = Attempt::begin(&metrics, Operation::Delete);
                    let one = stream::once(std::future::ready(Ok(location.clone()))).boxed();
                    inner.delete_stream(one).next().await.unwrap_or(Ok(location))
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_counted(self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_counted(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let _attempt = self.begin(Operation::List);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        // A copy is billed as a PUT.
        let _attempt = self.begin(Operation::Put);
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Display for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metered").field(&self.inner).finish()
    }
}
