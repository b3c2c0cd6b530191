//! Listening: one thread, one runtime, bounded connections, bounded time.
//!
//! A connection must send its request's head within a limit, counted from the connection's start or
//! the end of the request before; it lives for a limited time in all, which also bounds a peer that
//! does not read. Where all connections are taken, the oldest makes room for the next one once it is old
//! enough to have been answered: slow and idle peers cannot keep a probe waiting.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::Cut;
use super::log_level::Peer;
use super::{HttpState, router};

/// What a client may take of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    pub connections_max: usize,
    /// A connection that is older makes room where there are as many.
    pub makes_room_after: Duration,
    /// For the whole head of a request.
    pub head_time_max: Duration,
    /// After this a connection ends with the request in hand.
    pub connection_age_max: Duration,
    /// For that last request, and for open ones when the server stops.
    pub last_request_time_max: Duration,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            makes_room_after: Duration::from_millis(500),
            head_time_max: Duration::from_secs(10),
            connection_age_max: Duration::from_secs(60),
            last_request_time_max: Duration::from_secs(5),
            head_bytes_max: 16 * 1024,
        }
    }
}

/// A running server.
pub struct HttpServer {
    address: SocketAddr,
    thread: JoinHandle<()>,
}

impl HttpServer {
    /// Where it listens; with the real port if port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the end that `shutdown` asked for. Blocks the calling thread.
    pub fn join(self) {
        // A panic of the thread has been reported where it happened.
        let _ = self.thread.join();
    }
}

/// Serves the agent's routes until `shutdown` is cancelled; open requests get five seconds to end.
///
/// # Errors
/// The listener cannot be used, or the thread or its runtime cannot be started.
pub fn serve(listener: StdListener, state: HttpState, shutdown: CancellationToken) -> io::Result<HttpServer> {
    serve_with(listener, router(state), shutdown, HttpLimits::default())
}

/// [`serve`] with other routes or other limits.
///
/// # Errors
/// As [`serve`].
pub fn serve_with(
    listener: StdListener,
    routes: Router,
    shutdown: CancellationToken,
    limits: HttpLimits,
) -> io::Result<HttpServer> {
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = {
        let _entered = runtime.enter();
        TcpListener::from_std(listener)?
    };
    let run = move || runtime.block_on(accept(listener, routes, shutdown, limits));
    let thread = std::thread::Builder::new().name("http".to_owned()).spawn(run)?;
    Ok(HttpServer { address, thread })
}

async fn accept(listener: TcpListener, routes: Router, shutdown: CancellationToken, limits: HttpLimits) {
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let open = Arc::new(Open::default());
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: there may be some in a moment.
                tracing::debug!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let slot = tokio::select! {
            () = shutdown.cancelled() => break,
            slot = open.room(&slots, limits.makes_room_after) => slot,
        };
        let (number, cut) = open.enter();
        let routes = routes
            .clone()
            .layer(Extension(Peer(peer)))
            .layer(Extension(Cut(cut.clone())));
        let (shutdown, open) = (shutdown.clone(), open.clone());
        connections.spawn(async move {
            tokio::select! {
                () = connection(stream, routes, shutdown, limits) => {}
                () = cut.cancelled() => tracing::debug!(%peer, "closed an HTTP connection to make room"),
            }
            open.leave(number);
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The connections of the moment, by the order in which they came.
#[derive(Default)]
struct Open(Mutex<OpenConnections>);

#[derive(Default)]
struct OpenConnections {
    next: u64,
    /// Without those that are asked to end.
    connections: BTreeMap<u64, (Instant, CancellationToken)>,
}

impl Open {
    fn enter(&self) -> (u64, CancellationToken) {
        let mut open = self.0.lock();
        let (number, cut) = (open.next, CancellationToken::new());
        open.next += 1;
        open.connections.insert(number, (Instant::now(), cut.clone()));
        (number, cut)
    }

    fn leave(&self, number: u64) {
        self.0.lock().connections.remove(&number);
    }

    /// Waits for a slot, and cuts the oldest connection for it when that is older than `age`.
    async fn room(&self, slots: &Arc<Semaphore>, age: Duration) -> Option<OwnedSemaphorePermit> {
        let mut slot = std::pin::pin!(slots.clone().acquire_owned());
        let oldest = self
            .0
            .lock()
            .connections
            .first_key_value()
            .map(|(_, (since, _))| *since);
        let old_enough = async {
            match oldest {
                Some(since) => tokio::time::sleep_until(since + age).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            slot = slot.as_mut() => return slot.ok(),
            () = old_enough => {}
        }
        if let Some((_, (_, cut))) = self.0.lock().connections.pop_first() {
            cut.cancel();
        }
        slot.await.ok()
    }
}

/// One connection, until it ends or its time is over.
async fn connection(stream: TcpStream, routes: Router, shutdown: CancellationToken, limits: HttpLimits) {
    // Answers are small and written at once; waiting for more bytes only delays them.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time_max)
        .max_buf_size(limits.head_bytes_max)
        // Who has asked and says no more still wants the answer.
        .half_close(true);
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => Some(ended),
        () = shutdown.cancelled() => None,
        () = tokio::time::sleep(limits.connection_age_max) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(limits.last_request_time_max, served).await {
                Ok(ended) => ended,
                Err(_) => {
                    tracing::debug!("closed an HTTP connection whose time was over");
                    return;
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}
