//! The process around an agent: log, runtime, HTTP, signals, exit status.
//!
//! The first SIGTERM or SIGINT stops the agent in order, a second one ends the process at once with
//! status 1: nothing that was not stored has been acknowledged, so that is safe, only impolite.

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;

use streamhouse_observability::registry::claim_lane;
use streamhouse_observability::traces::{Traces, TracesError};
use streamhouse_observability::{Health, LogOptions, Metrics, MetricsOptions, logging};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::banner;
use crate::config::{Config, LogFormat};
use crate::http::{self, HttpState};
use crate::start::{House, Running, StartError, StopError, start};

/// Exit status of what the operator has to mend.
const MISCONFIGURED: u8 = 2;

/// Why the process did not get as far as an agent.
#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error(transparent)]
    Traces(#[from] TracesError),
    #[error("log: {0}")]
    Log(#[from] logging::LogError),
    #[error("http_listen: cannot listen on {address}: {source}")]
    Http {
        address: std::net::SocketAddr,
        source: std::io::Error,
    },
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Stop(#[from] StopError),
    #[error("ended by a second signal; nothing that was not stored had been acknowledged")]
    Impatient,
}

/// Runs the server until it is told to stop.
pub(super) fn run(config: Config) -> ExitCode {
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        // Stopped by a signal while a store was down: nothing had been accepted.
        Err(ProcessError::Start(StartError::Stopped)) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("streamhouse: {error}");
            match error {
                ProcessError::Stop(_) | ProcessError::Impatient | ProcessError::Io(_) => ExitCode::FAILURE,
                ProcessError::Log(_)
                | ProcessError::Traces(_)
                | ProcessError::Http { .. }
                | ProcessError::Start(_) => ExitCode::from(MISCONFIGURED),
            }
        }
    }
}

fn serve(config: Config) -> Result<(), ProcessError> {
    let metrics = Metrics::new(MetricsOptions {
        series_max: config.metrics_max_series,
        object_store_prices: config.object_store_prices,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: env!("SOURCE_REVISION").to_owned(),
    });
    let options = LogOptions {
        filter: config.log_level.clone(),
        format: match config.log_format {
            LogFormat::Human => logging::LogFormat::Human,
            LogFormat::Json => logging::LogFormat::Json,
        },
    };
    let traces = Traces::from_environment(env!("CARGO_PKG_VERSION"))?;
    let log = match &traces {
        Some(traces) => logging::init_with_traces(&options, &metrics, traces)?,
        None => logging::init(&options, &metrics)?,
    };
    // Of a task that panics nobody else might hear: whoever started it may have let it go.
    logging::log_panics();
    let health = Health::new();
    health.start_watchdog()?;

    // HTTP first and last: it says that the agent is not ready yet, and not any more.
    let listen_error = |source| ProcessError::Http {
        address: config.http_listen,
        source,
    };
    let listener = TcpListener::bind(config.http_listen).map_err(listen_error)?;
    let http_stop = CancellationToken::new();
    let state = HttpState::new(metrics.clone(), health.clone()).with_level(log.level());
    let http = http::serve(listener, state, http_stop.clone()).map_err(listen_error)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(|| {
            claim_lane();
        })
        .build()?;
    let result = runtime.block_on(agent(config, metrics, health, http.address()));
    // Tasks that still hang on a store that is down are not waited for.
    runtime.shutdown_background();
    http_stop.cancel();
    http.join();
    // Before the log, which may have to say that the last spans were not taken.
    drop(traces);
    result
}

async fn agent(
    config: Config,
    metrics: Arc<Metrics>,
    health: Health,
    http: std::net::SocketAddr,
) -> Result<(), ProcessError> {
    let stop = CancellationToken::new();
    let mut signals = Signals::new()?;
    let house = House {
        config: config.clone(),
        metrics,
        health: health.clone(),
        stop: stop.clone(),
    };
    let starting = start(house);
    tokio::pin!(starting);
    let running: Running = tokio::select! {
        biased;
        running = &mut starting => running?,
        () = signals.next() => {
            health.stopping();
            stop.cancel();
            match starting.await {
                Ok(running) => running,
                Err(error) => return Err(error.into()),
            }
        }
    };
    banner::print(&config, &running, http);
    tracing::info!(kafka = %running.kafka, %http, objects = %running.objects(), "serving");
    tokio::select! {
        () = signals.next() => tracing::info!("stopping"),
        () = stop.cancelled() => {}
    }
    tokio::select! {
        stopped = running.stop() => stopped?,
        () = signals.next() => return Err(ProcessError::Impatient),
    }
    tracing::info!("stopped; everything accepted is stored");
    Ok(())
}

/// What asks the process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
