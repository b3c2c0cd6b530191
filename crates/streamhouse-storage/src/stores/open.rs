//! Opening the object store that a URL names, with everything its calls go through.
//!
//! Invariant: what is returned has its deadlines, its retries and its counters; there is no way around
//! them. Opening a bucket sends nothing: whether the store can be reached is for [`super::check`], so
//! that a store that is down at start does not keep the process from starting.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use streamhouse_observability::Metrics;

use super::local::{LocalOpenError, LocalOptions, LocalStore};
use super::metered::Metered;
use super::retrying::{AttemptObserver, Ignore, Jitter, RetryPolicy, Retrying};
use super::s3::{self, S3Options};
use super::url::StoreUrl;

/// How a store is opened, whichever it is.
#[derive(Clone)]
pub struct StoreOptions {
    pub s3: S3Options,
    pub local: LocalOptions,
    pub policy: RetryPolicy,
    /// Told of every attempt's end: what health is made of.
    pub observer: Arc<dyn AttemptObserver>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            s3: S3Options::default(),
            local: LocalOptions::default(),
            policy: RetryPolicy::default(),
            observer: Arc::new(Ignore),
        }
    }
}

/// An object store ready for use.
#[derive(Clone)]
pub struct OpenedStore {
    pub store: Arc<dyn ObjectStore>,
    pub url: StoreUrl,
    /// The directory, where the store is one.
    pub directory: Option<PathBuf>,
    /// Where an S3 store is reached; for messages.
    pub endpoint: Option<String>,
}

/// Why a store cannot be opened. All of these are for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Local(#[from] LocalOpenError),
    #[error("the endpoint {endpoint} is plain HTTP, which has to be allowed (--s3-allow-http)")]
    PlainHttp { endpoint: String },
    #[error("{endpoint:?} is no endpoint: a URL such as https://host:port expected")]
    BadEndpoint { endpoint: String },
    #[error(
        "the endpoint {endpoint} holds a name or password: credentials come from AWS_* variables or a profile"
    )]
    EndpointCredentials { endpoint: String },
    #[error("the CA bundle {path} cannot be used: {reason}")]
    CaBundle { path: PathBuf, reason: String },
    #[error("the AWS profile {profile:?} was not found in {}", files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(" nor in "))]
    NoSuchProfile { profile: String, files: Vec<PathBuf> },
    #[error("the AWS profile {profile:?} holds no keys; {why}")]
    ProfileWithoutKeys { profile: String, why: &'static str },
    #[error("the S3 settings do not fit together: {0}")]
    S3(#[source] object_store::Error),
}

/// See the module's head. Blocking where the URL names a directory; meant for start.
pub fn open(url: &StoreUrl, options: StoreOptions, metrics: &Arc<Metrics>) -> Result<OpenedStore, OpenError> {
    let mut directory = None;
    let mut endpoint = None;
    let counted: Arc<dyn ObjectStore> = match url {
        StoreUrl::Memory => Arc::new(Metered::new(Arc::new(InMemory::new()), Arc::clone(metrics))),
        StoreUrl::File(path) => {
            let store = LocalStore::open(path, options.local)?;
            directory = Some(store.root().to_path_buf());
            Arc::new(Metered::new(Arc::new(store), Arc::clone(metrics)))
        }
        StoreUrl::S3 { bucket, prefix } => {
            let opened = s3::open(bucket, &options.s3, metrics)?;
            endpoint = Some(opened.endpoint);
            match prefix.as_ref() {
                "" => Arc::new(opened.store),
                _ => Arc::new(PrefixStore::new(opened.store, prefix.clone())),
            }
        }
    };
    let store = Retrying::new(
        counted,
        options.policy,
        Arc::clone(metrics),
        options.observer,
        Jitter::from_entropy(),
    );
    Ok(OpenedStore {
        store: Arc::new(store),
        url: url.clone(),
        directory,
        endpoint,
    })
}
