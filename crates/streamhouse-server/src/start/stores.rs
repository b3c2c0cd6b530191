//! Opening the two stores, and waiting for those that are down. What only an operator can mend is an error at
//! once; everything else is tried again, while health says what is waited for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use streamhouse_metadata::metered::Metered;
use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore, Watched};
use streamhouse_metadata::store::{MetadataStore, Registered, StoreError};
use streamhouse_observability::health::Disk;
use streamhouse_observability::{HealthHandle, Metrics, logging};
use streamhouse_storage::stores::identity::{IdentityError, check_identity};
use streamhouse_storage::stores::local::LocalOptions;
use streamhouse_storage::stores::s3::S3Options;
use streamhouse_storage::stores::{self, OpenedStore, StoreOptions, StoreUrl, check};
use tokio_util::sync::CancellationToken;

use super::StartError;
use crate::config::{Advertised, Config};
use crate::watched::Attempts;

/// How long to wait before a store that is down is tried again.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// The disk of the database is full when fewer are free: commits and its log would soon find no room.
const METADATA_FREE_BYTES_MIN: u64 = 1 << 20;

pub(super) async fn open_metadata(
    config: &Config,
    metrics: &Metrics,
    health: &HealthHandle,
    disk: &Disk,
) -> Result<Arc<dyn MetadataStore>, StartError> {
    let location = match config.metadata.strip_prefix("sqlite:") {
        Some(path) => Location::File(PathBuf::from(path)),
        None => Location::Memory,
    };
    let room = match &location {
        Location::File(path) => {
            let directory = path.parent().unwrap_or(path).to_path_buf();
            Some(disk.user(directory, METADATA_FREE_BYTES_MIN))
        }
        Location::Memory => None,
    };
    let options = SqliteOptions {
        waits: Some(metrics.metadata.pool_wait()),
        watched: Some(Watched {
            store: health.clone(),
            room,
        }),
        ..SqliteOptions::new(location)
    };
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(options));
    match opened.await {
        Ok(store) => Ok(Arc::new(Metered::new(store?, &metrics.metadata))),
        Err(panicked) => Err(StartError::Store(StoreError::Damaged(panicked.to_string()))),
    }
}

pub(super) fn open_objects(
    config: &Config,
    metrics: &Arc<Metrics>,
    health: HealthHandle,
    disk: &Disk,
) -> Result<OpenedStore, StartError> {
    let url: StoreUrl = config.object_store.parse()?;
    let room = match &url {
        StoreUrl::File(path) => Some(disk.user(path.clone(), config.flush_bytes)),
        StoreUrl::Memory | StoreUrl::S3 { .. } => None,
    };
    let options = StoreOptions {
        s3: S3Options {
            endpoint: config.s3_endpoint.clone(),
            allow_http: config.s3_allow_http,
            ..S3Options::default()
        },
        local: LocalOptions {
            sync: config.local_sync,
            ..LocalOptions::default()
        },
        observer: Arc::new(Attempts { store: health, room }),
        ..StoreOptions::default()
    };
    Ok(stores::open(&url, options, metrics)?)
}

/// Waits until the store works and is ours. A store that is down is tried again; one that refuses us,
/// or belongs to another cluster, is not.
pub(super) async fn wait_for_objects(
    objects: &OpenedStore,
    metadata: &dyn MetadataStore,
    health: &HealthHandle,
    stop: &CancellationToken,
) -> Result<(), StartError> {
    let cluster = metadata.cluster().id;
    let usage = metadata.storage_usage().await.map_err(StartError::Store)?;
    let mut pause = RETRY_MIN;
    loop {
        let error: StartError = match check(objects).await {
            Ok(()) => match check_identity(objects.store.as_ref(), cluster, usage.live.objects).await {
                Ok(()) => {
                    health.success();
                    return Ok(());
                }
                Err(error @ IdentityError::Store(_)) => error.into(),
                Err(error) => return Err(error.into()),
            },
            Err(error) if error.is_transient() => error.into(),
            Err(error) => return Err(error.into()),
        };
        health.down(&error.to_string());
        if let Some(suppressed) = logging::admit("start", "object_store", "") {
            tracing::warn!(
                %error,
                pause_ms = logging::milliseconds(pause),
                suppressed,
                "the object store is not available; trying again"
            );
        }
        pause = wait(pause, stop).await?;
    }
}

pub(super) async fn register(
    metadata: &dyn MetadataStore,
    advertised: &Advertised,
    health: &HealthHandle,
    stop: &CancellationToken,
) -> Result<Registered, StartError> {
    let mut pause = RETRY_MIN;
    loop {
        match metadata.register(&advertised.to_string()).await {
            Ok(registered) => return Ok(registered),
            Err(error @ StoreError::Damaged(_)) => return Err(StartError::Store(error)),
            Err(error) => {
                health.failure(&error.to_string());
                let error_type = error.error_type();
                if let Some(suppressed) = logging::admit("start", error_type, "") {
                    tracing::warn!(
                        error_type,
                        %error,
                        pause_ms = logging::milliseconds(pause),
                        suppressed,
                        "the metadata store is not available; trying again"
                    );
                }
                pause = wait(pause, stop).await?;
            }
        }
    }
}

/// Sleeps, and says how long to sleep the next time.
async fn wait(pause: Duration, stop: &CancellationToken) -> Result<Duration, StartError> {
    tokio::select! {
        () = stop.cancelled() => Err(StartError::Stopped),
        () = tokio::time::sleep(pause) => Ok((pause * 2).min(RETRY_MAX)),
    }
}
