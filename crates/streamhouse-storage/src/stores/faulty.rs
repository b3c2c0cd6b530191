//! A store that misbehaves on demand, for tests: it stands where the network stands.
//!
//! Invariant: each planned fault strikes once, the first call it matches; without plans and gates the
//! wrapper changes nothing. A call is "acted on" when the inner store has answered it.
//!
//! Used in tests of this crate and of the server; nothing in production builds one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::s3::Refusal;

/// Which calls a fault may strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Put,
    Get,
    Delete,
    List,
}

/// What happens to a call.
#[derive(Clone, Debug)]
pub enum Plan {
    /// The store is not reached and the caller sees this status, such as 503.
    RefuseBefore(u16),
    /// The store acts, and the reply is lost.
    LoseReply,
    /// Nothing is done and nothing ever answered.
    Hang,
    /// The store acts, and nothing is ever answered.
    ActAndHang,
    /// The store acts after this time.
    Delay(Duration),
    /// A GET comes back this many bytes too short.
    Truncate(usize),
    /// The byte of a GET's body at this position is flipped.
    Corrupt(usize),
}

/// See the module's head. Clones share their plans.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    state: Arc<State>,
}

struct State {
    plans: Mutex<VecDeque<(Call, Plan)>>,
    /// Closed while false: calls of that kind wait before they reach the store.
    gates: [watch::Sender<bool>; 4],
    waiting: [watch::Sender<usize>; 4],
    calls: Mutex<Vec<(Call, Path)>>,
}

impl Faulty {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        let state = State {
            plans: Mutex::default(),
            gates: std::array::from_fn(|_| watch::Sender::new(true)),
            waiting: std::array::from_fn(|_| watch::Sender::new(0)),
            calls: Mutex::default(),
        };
        Self {
            inner,
            state: Arc::new(state),
        }
    }

    /// The next call of that kind gets this; several plans of one kind strike one after the other.
    pub fn plan(&self, call: Call, plan: Plan) {
        self.state.plans.lock().push_back((call, plan));
    }

    /// From now on calls of that kind wait in front of the store.
    pub fn close_gate(&self, call: Call) {
        self.state.gates[call as usize].send_replace(false);
    }

    /// Lets through what waits and what comes.
    pub fn open_gate(&self, call: Call) {
        self.state.gates[call as usize].send_replace(true);
    }

    /// Returns once `count` calls of that kind wait at their gate.
    pub async fn wait_until_held(&self, call: Call, count: usize) {
        let mut waiting = self.state.waiting[call as usize].subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = waiting.wait_for(|waiting| *waiting >= count).await;
    }

    /// Every call so far, in order, whatever became of it.
    pub fn calls(&self) -> Vec<(Call, Path)> {
        self.state.calls.lock().clone()
    }

    /// How many calls of that kind there were.
    pub fn count(&self, call: Call) -> usize {
        self.state
            .calls
            .lock()
            .iter()
            .filter(|(each, _)| *each == call)
            .count()
    }

    /// Runs a call under its plan. `Some` bends what a GET returns.
    async fn strike<T>(
        &self,
        call: Call,
        path: &Path,
        act: impl Future<Output = Result<T>>,
    ) -> Result<(T, Option<Plan>)> {
        self.state.calls.lock().push((call, path.clone()));
        let plan = {
            let mut plans = self.state.plans.lock();
            let next = plans.iter().position(|(each, _)| *each == call);
            next.and_then(|at| plans.remove(at)).map(|(_, plan)| plan)
        };
        self.pass_gate(call).await;
        match plan {
            None => Ok((act.await?, None)),
            Some(Plan::RefuseBefore(status)) => Err(refused(status)),
            Some(Plan::LoseReply) => {
                act.await?;
                Err(lost())
            }
            Some(Plan::Hang) => std::future::pending().await,
            Some(Plan::ActAndHang) => {
                act.await?;
                std::future::pending().await
            }
            Some(Plan::Delay(pause)) => {
                tokio::time::sleep(pause).await;
                Ok((act.await?, None))
            }
            Some(bend) => Ok((act.await?, Some(bend))),
        }
    }

    async fn pass_gate(&self, call: Call) {
        /// Counts a waiting call, also when it is dropped there.
        struct Waiting<'s>(&'s watch::Sender<usize>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|waiting| *waiting -= 1);
            }
        }
        let mut gate = self.state.gates[call as usize].subscribe();
        if *gate.borrow() {
            return;
        }
        let counter = &self.state.waiting[call as usize];
        counter.send_modify(|waiting| *waiting += 1);
        let _waiting = Waiting(counter);
        let _ = gate.wait_for(|open| *open).await;
    }
}

fn refused(status: u16) -> Error {
    let refusal = Refusal {
        status,
        code: String::new(),
        message: "planned".to_owned(),
        request_id: None,
    };
    http(HttpErrorKind::Unknown, refusal)
}

fn lost() -> Error {
    http(
        HttpErrorKind::Interrupted,
        std::io::Error::from(std::io::ErrorKind::ConnectionReset),
    )
}

fn http(kind: HttpErrorKind, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic {
        store: "Faulty",
        source: Box::new(HttpError::new(kind, source)),
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let act = self.inner.put_opts(location, payload, opts);
        Ok(self.strike(Call::Put, location, act).await?.0)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let act = async {
            let mut result = self.inner.get_opts(location, options).await?;
            let GetResultPayload::Stream(body) = result.payload;
            let chunks: Vec<Result<Bytes>> = body.collect().await;
            let mut bytes = Vec::new();
            for chunk in chunks {
                bytes.extend_from_slice(&chunk?);
            }
            result.payload = GetResultPayload::Stream(stream::empty().boxed());
            Ok((result, bytes))
        };
        let ((mut result, mut bytes), bend) = self.strike(Call::Get, location, act).await?;
        match bend {
            Some(Plan::Truncate(count)) => bytes.truncate(bytes.len().saturating_sub(count)),
            Some(Plan::Corrupt(position)) => {
                if let Some(byte) = bytes.get_mut(position) {
                    *byte ^= 0xff;
                }
            }
            _ => {}
        }
        let once = stream::once(std::future::ready(Ok(Bytes::from(bytes))));
        result.payload = GetResultPayload::Stream(once.boxed());
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    let one = stream::once(std::future::ready(Ok(location.clone()))).boxed();
                    let mut deleting = this.inner.delete_stream(one);
                    let act = async { deleting.next().await.transpose() };
                    this.strike(Call::Delete, &location, act).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listing = self.inner.list(prefix);
        self.listed(prefix, listing)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let listing = self.inner.list_with_offset(prefix, offset);
        self.listed(prefix, listing)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        let act = self.inner.list_with_delimiter(prefix);
        Ok(self.strike(Call::List, &path, act).await?.0)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl Faulty {
    fn listed(
        &self,
        prefix: Option<&Path>,
        listing: BoxStream<'static, Result<ObjectMeta>>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        let whole = async move {
            let act = async { Ok(listing.collect::<Vec<_>>().await) };
            match this.strike(Call::List, &prefix, act).await {
                Ok((items, _)) => items,
                Err(error) => vec![Err(error)],
            }
        };
        stream::once(whole).flat_map(stream::iter).boxed()
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faulty").field(&self.inner).finish()
    }
}
