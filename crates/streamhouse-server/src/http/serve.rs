//! Listening: one thread, one runtime, bounded connections, bounded time.
//!
//! A connection must send its request's head within a limit, counted from the connection's start or
//! the end of the request before; it lives for a limited time in all, which also bounds a peer that
//! does not read. Beyond the number of connections, new ones wait in the kernel's queue until one
//! ends, so the longest wait is a bounded time too.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::log_level::Peer;
use super::{HttpState, router};

/// What a client may take of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    pub connections_max: usize,
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
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = async {
                let slot = slots.clone().acquire_owned().await;
                (slot, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (Ok(slot), Ok((stream, peer))) => {
                let routes = routes.clone().layer(axum::Extension(Peer(peer)));
                let shutdown = shutdown.clone();
                connections.spawn(async move {
                    connection(stream, routes, shutdown, limits).await;
                    drop(slot);
                });
            }
            (_, Err(error)) => {
                // Out of descriptors, most likely: there may be some in a moment.
                tracing::debug!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // Nobody closes the semaphore.
            (Err(_), _) => break,
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// One connection, until it ends or its time is over.
async fn connection(stream: TcpStream, routes: Router, shutdown: CancellationToken, limits: HttpLimits) {
    // Answers are small and written at once; waiting for more bytes only delays them.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time_max)
        .max_buf_size(limits.head_bytes_max);
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
