//! What the three examples have in common: their log, the figures they show, and when they end.

use std::net::SocketAddr;

use streamhouse_client::ClientMetrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

/// Lines of the client and of librdkafka on standard error, filtered by `RUST_LOG`.
pub(crate) fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

/// Serves this program's own figures to its own Prometheus job. Not to the server's job: each record would be
/// counted twice.
pub(crate) async fn serve(address: SocketAddr, metrics: ClientMetrics) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    eprintln!("metrics on http://{}/metrics", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((scrape, _)) = listener.accept().await {
            // A scrape that breaks off is the scraper's business.
            let _ = answer(scrape, metrics.render()).await;
        }
    });
    Ok(())
}

async fn answer(mut scrape: TcpStream, text: String) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let _ = scrape.read(&mut request).await?;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    scrape.write_all(head.as_bytes()).await?;
    scrape.write_all(text.as_bytes()).await?;
    scrape.shutdown().await
}

/// SIGTERM or Ctrl-C.
#[allow(dead_code)] // `produce` ends with its input
pub(crate) async fn told_to_stop() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
