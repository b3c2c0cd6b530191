//! One suite that every object store runs: the local directory, memory, and an S3 server when one is
//! named by `STREAMHOUSE_TEST_S3_ENDPOINT` (with `STREAMHOUSE_TEST_S3_BUCKET` and the `AWS_*` keys).

// clippy.toml allows it in test functions; here the functions beside them are tests as well.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use streamhouse_observability::families::Operation;
use streamhouse_observability::{Metrics, MetricsOptions};
use streamhouse_storage::stores::identity::{IdentityError, check_identity};
use streamhouse_storage::stores::{StoreOptions, StoreUrl, check, open};
use uuid::Uuid;

struct Suite {
    store: Arc<dyn ObjectStore>,
    metrics: Arc<Metrics>,
}

impl Suite {
    async fn run(url: &StoreUrl, options: StoreOptions) {
        let metrics = Metrics::new(MetricsOptions::default());
        let opened = open(url, options, &metrics).unwrap();
        check(&opened).await.unwrap();
        let suite = Suite {
            store: opened.store,
            metrics,
        };
        suite.what_was_put_comes_back().await;
        suite.ranges_are_exact().await;
        suite.absent_keys_are_not_found_and_deleting_them_succeeds().await;
        suite
            .a_second_put_overwrites_and_a_conditional_one_is_refused()
            .await;
        suite.listings_are_ordered_and_start_after_their_offset().await;
        suite.concurrent_puts_do_not_disturb_each_other().await;
        suite.every_call_counts_once().await;
        suite.a_store_belongs_to_the_first_cluster_that_claims_it().await;
    }

    fn payload(length: usize) -> Bytes {
        (0..length).map(|at| (at * 31 % 251) as u8).collect()
    }

    async fn put(&self, key: &str, bytes: Bytes) {
        self.store
            .put(&Path::from(key), PutPayload::from_bytes(bytes))
            .await
            .unwrap();
    }

    async fn get(&self, key: &str) -> Bytes {
        self.store
            .get(&Path::from(key))
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap()
    }

    /// Sizes around every boundary of the local store: empty, a block, the direct path, a buffer.
    async fn what_was_put_comes_back(&self) {
        let mib = 1024 * 1024;
        for length in [0, 1, 4095, 4096, 4097, mib / 4, mib / 4 + 1, mib, 3 * mib + 5] {
            let bytes = Self::payload(length);
            // Several chunks of odd lengths, as the writer hands them over.
            let chunks: PutPayload = bytes.chunks(100_003).map(Bytes::copy_from_slice).collect();
            let key = Path::from(format!("whole/{length}"));
            self.store.put(&key, chunks).await.unwrap();
            assert!(self.get(key.as_ref()).await == bytes, "{length} bytes");
            assert_eq!(self.store.head(&key).await.unwrap().size, length as u64);
        }
    }

    async fn ranges_are_exact(&self) {
        let bytes = Self::payload(700_001);
        self.put("ranges/a", bytes.clone()).await;
        let key = Path::from("ranges/a");
        for range in [0..1, 0..700_001, 699_999..700_001, 262_143..262_145, 17..300_018] {
            let part = self.store.get_range(&key, range.clone()).await.unwrap();
            assert!(
                part == bytes.slice(range.start as usize..range.end as usize),
                "{range:?}"
            );
        }
        let parts = self
            .store
            .get_ranges(&key, &[5..10, 699_000..700_001, 7..9])
            .await
            .unwrap();
        assert_eq!(
            parts,
            [
                bytes.slice(5..10),
                bytes.slice(699_000..700_001),
                bytes.slice(7..9)
            ]
        );
        let tail = GetOptions::new().with_range(Some(GetRange::Suffix(20)));
        let tail = self
            .store
            .get_opts(&key, tail)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        assert_eq!(tail, bytes.slice(699_981..));
        assert!(self.store.get_range(&key, 700_001..700_002).await.is_err());
    }

    async fn absent_keys_are_not_found_and_deleting_them_succeeds(&self) {
        let key = Path::from("absent/a");
        assert!(matches!(self.store.get(&key).await, Err(Error::NotFound { .. })));
        assert!(matches!(self.store.head(&key).await, Err(Error::NotFound { .. })));
        self.store.delete(&key).await.unwrap();
        self.put("absent/a", Self::payload(10)).await;
        self.store.delete(&key).await.unwrap();
        assert!(matches!(self.store.get(&key).await, Err(Error::NotFound { .. })));
    }

    async fn a_second_put_overwrites_and_a_conditional_one_is_refused(&self) {
        let key = Path::from("twice/a");
        self.put("twice/a", Self::payload(300_000)).await;
        self.put("twice/a", Self::payload(9)).await;
        assert_eq!(self.get("twice/a").await, Self::payload(9));
        let create = |bytes| {
            self.store
                .put_opts(&key, PutPayload::from_bytes(bytes), PutMode::Create.into())
        };
        let refused = create(Self::payload(3)).await;
        assert!(matches!(refused, Err(Error::AlreadyExists { .. })));
        assert_eq!(self.get("twice/a").await, Self::payload(9));
        self.store.delete(&key).await.unwrap();
        create(Self::payload(3)).await.unwrap();
        assert_eq!(self.get("twice/a").await, Self::payload(3));
    }

    async fn keys(&self, prefix: &str, offset: Option<&str>) -> Vec<String> {
        let prefix = Path::from(prefix);
        let listing = match offset {
            Some(offset) => self.store.list_with_offset(Some(&prefix), &Path::from(offset)),
            None => self.store.list(Some(&prefix)),
        };
        listing
            .map_ok(|meta| meta.location.to_string())
            .try_collect()
            .await
            .unwrap()
    }

    async fn listings_are_ordered_and_start_after_their_offset(&self) {
        let keys = ["list/a/1", "list/a/2", "list/a/b/3", "list/ab", "list/b/1"];
        for key in keys.iter().rev() {
            self.put(key, Self::payload(key.len())).await;
        }
        assert_eq!(self.keys("list", None).await, keys);
        assert_eq!(self.keys("list/a", None).await, keys[..3]);
        assert_eq!(self.keys("list", Some("list/a/1")).await, keys[1..]);
        assert!(self.keys("list/nothing", None).await.is_empty());
        let level = self
            .store
            .list_with_delimiter(Some(&Path::from("list")))
            .await
            .unwrap();
        // Within one level the order is not promised: some sort the prefixes with their slash.
        let names = |paths: Vec<Path>| {
            let mut names: Vec<_> = paths.iter().map(ToString::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(names(level.common_prefixes), ["list/a", "list/b"]);
        let objects = level.objects.into_iter();
        assert_eq!(names(objects.map(|meta| meta.location).collect()), ["list/ab"]);
    }

    async fn concurrent_puts_do_not_disturb_each_other(&self) {
        let puts = (0..12usize).map(|at| self.put_numbered(at));
        futures::future::join_all(puts).await;
        for at in 0..12 {
            assert!(self.get(&format!("many/{at}")).await == Self::payload(290_000 + at));
        }
    }

    async fn put_numbered(&self, at: usize) {
        self.put(&format!("many/{at}"), Self::payload(290_000 + at)).await;
    }

    async fn every_call_counts_once(&self) {
        let counts = || {
            let operations = [
                Operation::Put,
                Operation::Get,
                Operation::Head,
                Operation::List,
                Operation::Delete,
            ];
            operations.map(|operation| {
                let store = &self.metrics.object_store;
                (
                    store.requests(operation).value(),
                    store.latency(operation).count(),
                )
            })
        };
        let before = counts();
        self.put("counted/a", Self::payload(100)).await;
        self.get("counted/a").await;
        self.get("counted/a").await;
        self.store.head(&Path::from("counted/a")).await.unwrap();
        self.keys("counted", None).await;
        self.store.delete(&Path::from("counted/a")).await.unwrap();
        let grown = counts()
            .iter()
            .zip(before)
            .map(|(now, then)| (now.0 - then.0, now.1 - then.1))
            .collect::<Vec<_>>();
        assert_eq!(grown, [(1, 1), (2, 2), (1, 1), (1, 1), (1, 1)]);
    }

    async fn a_store_belongs_to_the_first_cluster_that_claims_it(&self) {
        let (ours, theirs) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let unclaimed = check_identity(&*self.store, ours, 7).await.unwrap_err();
        assert!(matches!(unclaimed, IdentityError::Unclaimed { objects: 7, .. }));
        for objects in [0, 0, 7] {
            check_identity(&*self.store, ours, objects).await.unwrap();
        }
        match check_identity(&*self.store, theirs, 0).await {
            Err(IdentityError::Mismatch { expected, found }) => assert_eq!((expected, found), (theirs, ours)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn memory_is_an_object_store() {
    Suite::run(&StoreUrl::Memory, StoreOptions::default()).await;
}

#[tokio::test]
async fn a_local_directory_is_an_object_store() {
    let directory = tempfile::tempdir().unwrap();
    Suite::run(
        &StoreUrl::File(directory.path().join("objects")),
        StoreOptions::default(),
    )
    .await;
}

#[tokio::test]
async fn a_directory_in_shared_memory_is_an_object_store() {
    // Mostly a tmpfs, which may know no direct writes.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    Suite::run(
        &StoreUrl::File(directory.path().to_path_buf()),
        StoreOptions::default(),
    )
    .await;
}

#[tokio::test]
async fn an_s3_server_is_an_object_store() {
    let Ok(endpoint) = std::env::var("STREAMHOUSE_TEST_S3_ENDPOINT") else {
        eprintln!("skipped: STREAMHOUSE_TEST_S3_ENDPOINT is not set");
        return;
    };
    let bucket = std::env::var("STREAMHOUSE_TEST_S3_BUCKET").unwrap_or_else(|_| "streamhouse".to_owned());
    let mut options = StoreOptions::default();
    options.s3.endpoint = Some(endpoint);
    options.s3.allow_http = true;
    let url = StoreUrl::S3 {
        bucket,
        prefix: Path::from(format!("conformance-{}", Uuid::new_v4())),
    };
    Suite::run(&url, options).await;
}
