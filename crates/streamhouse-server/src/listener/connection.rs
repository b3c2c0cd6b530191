//! One connection: a task that reads and admits, a task that answers in order.
//!
//! Produce requests are admitted as they arrive and answered when they are committed, so batches of one
//! connection overlap. Any other request waits until everything before it on the connection is answered,
//! and is then carried out in the reading task: requests of a connection take effect and are answered in
//! the order of arrival (TRACES 12). A full queue of answers stops the reading.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::ApiKey;
use streamhouse_observability::families::{ApiMetrics, ApiOutcome, RejectReason, Stage};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use super::frames::{Frame, FrameError, FrameReader, Limits};
use super::guard::{self, RequestError};
use super::on_panic::OnPanic;
use crate::consumption::Fetching;
use crate::handlers::context::{Agent, Principal, RequestContext};
use crate::handlers::response::{EncodeError, Response};
use crate::handlers::{self, HandleError, api_versions, produce, request_log};
use crate::telemetry::ConnectionSoftware;

/// Produce requests of one connection that may wait for their commit. Clients send at most five; a
/// hundred bounds a hostile one.
const ANSWERS_MAX: usize = 100;
/// How long a client may go on taking an answer when the process stops: one that has stopped reading
/// must not use up the time that what was accepted may need.
const LAST_ANSWER_MAX: Duration = Duration::from_secs(5);
/// Buffers given to the kernel at once.
const SLICES_MAX: usize = 64;

/// What all connections of a listener share.
pub struct Shared {
    pub agent: Arc<Agent>,
    pub limits: Limits,
    pub apis: Vec<(ApiKey, ApiMetrics)>,
    pub correlation: AtomicU64,
}

impl Shared {
    fn count(&self, api: ApiKey, outcome: ApiOutcome, read_at: Instant, now: Instant) {
        if let Some((_, metrics)) = self.apis.iter().find(|(known, _)| *known == api) {
            metrics.requests(outcome).inc();
            metrics.seconds.observe(now - read_at);
        }
    }

    /// Counts the request if what is done for it panics: its connection ends, and nobody else gets to know.
    fn in_hand(self: Arc<Self>, api: ApiKey, read_at: Instant) -> OnPanic<impl FnMut()> {
        OnPanic(move || self.count(api, ApiOutcome::ServerError, read_at, Instant::now()))
    }
}

/// An answer to be written, in order.
enum Answer {
    Ready(Ready),
    Produce(Box<produce::Pending>, Instant),
}

struct Ready {
    response: Response,
    api: ApiKey,
    read_at: Instant,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Handle(#[from] HandleError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the process stops")]
    Stopping,
    #[error("this agent was fenced and starts anew")]
    Fenced,
    #[error("answers cannot be written any more")]
    Unwritable,
}

/// Serves a connection until it ends. `stopping` lets the request in hand finish; `severed` does not.
pub async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    stopping: CancellationToken,
    severed: CancellationToken,
) {
    let (read, write) = stream.into_split();
    let (answers, queue) = mpsc::channel(ANSWERS_MAX);
    let (done, written) = watch::channel(0);
    let writer = Writer {
        shared: shared.clone(),
        io: write,
        queue,
        done,
    };
    let mut writer = tokio::spawn(writer.run());
    let mut reader = Reader {
        frames: FrameReader::new(read, shared.limits.clone()),
        shared: shared.clone(),
        peer,
        fetching: Fetching::default(),
        software: ConnectionSoftware::default(),
        answers,
        written,
        sent: 0,
        muted_until: None,
    };
    let end = tokio::select! {
        end = reader.run(&stopping) => end,
        () = severed.cancelled() => End::Fenced,
    };
    report(&shared, peer, &end);
    // The writer answers what was admitted, unless the connection was cut.
    drop(reader);
    if matches!(end, End::Fenced) {
        writer.abort();
    }
    let drained = tokio::select! {
        drained = &mut writer => drained,
        () = severed.cancelled() => {
            writer.abort();
            return;
        }
    };
    if let Err(error) = drained
        && error.is_panic()
    {
        tracing::error!(%peer, "the writing half of a connection panicked");
    }
}

fn report(shared: &Shared, peer: SocketAddr, end: &End) {
    let rejected = |reason| shared.agent.metrics.connections.rejected(reason).inc();
    match end {
        End::Frame(FrameError::Closed | FrameError::Io(_)) | End::Stopping | End::Unwritable => {
            tracing::trace!(%peer, reason = %end, "connection ended");
            return;
        }
        End::Frame(FrameError::Idle) => rejected(RejectReason::Idle),
        End::Frame(FrameError::Stalled) => rejected(RejectReason::Stalled),
        End::Frame(FrameError::Length { .. }) => {
            rejected(RejectReason::FrameTooLarge);
            return request_log::closed(peer, end);
        }
        End::Frame(FrameError::Truncated) | End::Request(_) | End::Handle(HandleError::Request(_)) => {
            rejected(RejectReason::Malformed);
            return request_log::closed(peer, end);
        }
        End::Handle(HandleError::Encode(EncodeError::TooLarge { .. })) => {
            rejected(RejectReason::FrameTooLarge);
            return request_log::closed(peer, end);
        }
        End::Handle(HandleError::Encode(EncodeError::Message { .. })) => {
            tracing::error!(%peer, error = %end, "connection closed: our answer was wrong");
            return;
        }
        End::Handle(HandleError::Unacknowledged { .. } | HandleError::Unsayable { .. }) | End::Fenced => {}
    }
    tracing::debug!(%peer, reason = %end, "connection closed");
}

struct Reader<R> {
    frames: FrameReader<R>,
    shared: Arc<Shared>,
    peer: SocketAddr,
    fetching: Fetching,
    software: ConnectionSoftware,
    answers: mpsc::Sender<Answer>,
    written: watch::Receiver<u64>,
    /// Answers handed to the writing task.
    sent: u64,
    /// The client went over its quota: nothing is read before this.
    muted_until: Option<Instant>,
}

impl<R: tokio::io::AsyncRead + Unpin> Reader<R> {
    async fn run(&mut self, stopping: &CancellationToken) -> End {
        loop {
            if let Some(until) = self.muted_until.take() {
                tokio::select! {
                    biased;
                    () = stopping.cancelled() => return End::Stopping,
                    () = self.answers.closed() => return End::Unwritable,
                    () = sleep_until(until) => {}
                }
            }
            // The idle timeout is not for clients that wait for us.
            let frame = tokio::select! {
                biased;
                () = stopping.cancelled() => return End::Stopping,
                // The writing half has given up: nothing that is still read could be answered.
                () = self.answers.closed() => return End::Unwritable,
                frame = self.frames.next() => frame,
            };
            let frame = match frame {
                Ok(frame) => frame,
                Err(FrameError::Idle) if *self.written.borrow() < self.sent => continue,
                Err(error) => return error.into(),
            };
            if let Err(end) = self.request(frame).await {
                return end;
            }
        }
    }

    async fn request(&mut self, frame: Frame) -> Result<(), End> {
        let opening = guard::opening(&frame.bytes).map_err(RequestError::from)?;
        let api = match handlers::find(opening.api_key, opening.version) {
            Ok(api) => api,
            Err(RequestError::UnsupportedVersion {
                api: ApiKey::ApiVersions,
                ..
            }) => {
                self.all_answered().await?;
                let response =
                    api_versions::unsupported(opening.correlation_id).map_err(HandleError::from)?;
                return self.answer(response, ApiKey::ApiVersions, frame.read_at).await;
            }
            Err(error) => return Err(error.into()),
        };
        let _in_hand = self.shared.clone().in_hand(api, frame.read_at);
        let (head, body) = guard::header(&frame.bytes, api)?;
        let mut context = RequestContext {
            agent: self.shared.agent.clone(),
            principal: Principal::anonymous(),
            peer: self.peer,
            fetching: self.fetching.clone(),
            software: self.software.clone(),
            head,
            read_at: frame.read_at,
            waited: Duration::ZERO,
            waited_before_read: frame.waited,
            correlation: self.shared.correlation.fetch_add(1, Ordering::Relaxed),
            span: Span::none(),
        };
        context.span = request_log::span(&context);
        if api == ApiKey::Produce {
            return self.produce(context, frame, &body).await;
        }
        self.all_answered().await?;
        let Frame {
            bytes,
            mut charge,
            read_at,
            ..
        } = frame;
        drop(bytes);
        let worst_case = body.len() * guard::DECODED_FACTOR;
        self.shared.limits.plain.charge(&mut charge, worst_case).await;
        // The name is a part of the frame, which it would keep from being given back.
        context.head.client_id = context.head.client_id.map(|name| name.to_string().into());
        let handled = handlers::handle(&context, body, charge, &self.shared.limits.waiting);
        let handled = handled.instrument(context.span.clone()).await;
        if let Err(error) = &handled
            && !matches!(error, HandleError::Request(_))
        {
            self.shared.count(api, error.outcome(), read_at, Instant::now());
        }
        let response = handled?;
        request_log::answered(&context, response.outcome, response.may_wait);
        self.mute(response.throttle);
        self.answer(response, api, read_at).await
    }

    async fn produce(&mut self, mut context: RequestContext, frame: Frame, body: &Bytes) -> Result<(), End> {
        let version = context.head.version;
        let wrong = |error: super::wire::WireError| RequestError::Body {
            api: ApiKey::Produce,
            version,
            why: error.to_string(),
        };
        let mut waited = frame.waited;
        let mut charge = frame.charge;
        let cost = produce::decoded_cost(body, version).map_err(wrong)?;
        // A few partitions are covered by the frame itself.
        if cost > frame.bytes.len() {
            let began = Instant::now();
            if self.shared.limits.inflight.charge(&mut charge, cost).await {
                waited += began.elapsed();
            }
        }
        let metrics = &self.shared.agent.metrics.produce;
        if !waited.is_zero() {
            metrics.backpressure_seconds_total.add(waited);
        }
        metrics.stage(Stage::Queue).observe(waited);
        context.waited = waited;
        let request = produce::decode(body, version).map_err(wrong)?;
        let span = context.span.clone();
        let admitted = produce::admit(context, request, charge, frame.bytes.len());
        let pending = admitted.instrument(span).await;
        self.mute(pending.throttle);
        let answer = Answer::Produce(Box::new(pending), frame.read_at);
        self.answers.send(answer).await.map_err(|_| End::Unwritable)?;
        self.sent += 1;
        Ok(())
    }

    fn mute(&mut self, throttle: Duration) {
        if !throttle.is_zero() {
            self.muted_until = Some(Instant::now() + throttle);
        }
    }

    /// Waits until every earlier request of this connection has its answer.
    async fn all_answered(&mut self) -> Result<(), End> {
        let sent = self.sent;
        self.written
            .wait_for(|written| *written >= sent)
            .await
            .map_err(|_| End::Unwritable)?;
        Ok(())
    }

    async fn answer(&mut self, response: Response, api: ApiKey, read_at: Instant) -> Result<(), End> {
        let ready = Ready {
            response,
            api,
            read_at,
        };
        self.answers
            .send(Answer::Ready(ready))
            .await
            .map_err(|_| End::Unwritable)?;
        self.sent += 1;
        Ok(())
    }
}

struct Writer<W> {
    shared: Arc<Shared>,
    io: W,
    queue: mpsc::Receiver<Answer>,
    done: watch::Sender<u64>,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    async fn run(mut self) {
        while let Some(answer) = self.queue.recv().await {
            let _in_hand = match &answer {
                Answer::Ready(_) => None,
                Answer::Produce(_, read_at) => Some(self.shared.clone().in_hand(ApiKey::Produce, *read_at)),
            };
            let ready = match answer {
                Answer::Ready(ready) => Some(ready),
                Answer::Produce(pending, read_at) => match pending.answer_in_span().await {
                    Ok(Some(response)) => Some(Ready {
                        response,
                        api: ApiKey::Produce,
                        read_at,
                    }),
                    // Its client wants no answer.
                    Ok(None) => {
                        self.shared
                            .count(ApiKey::Produce, ApiOutcome::Ok, read_at, Instant::now());
                        None
                    }
                    Err(error) => {
                        tracing::debug!(%error, "connection closed");
                        self.shared
                            .count(ApiKey::Produce, error.outcome(), read_at, Instant::now());
                        break;
                    }
                },
            };
            if let Some(ready) = ready {
                // As patient as with idle clients: a consumer that works on a batch for minutes reads
                // nothing meanwhile. What its answer holds is bounded (see `responses`).
                let patience = self.shared.limits.idle_timeout;
                let stopping = &self.shared.agent.stopping;
                let too_late = async {
                    stopping.cancelled().await;
                    sleep(LAST_ANSWER_MAX).await;
                };
                let written = tokio::select! {
                    biased;
                    written = write_parts(&mut self.io, ready.response.parts, patience) => written,
                    () = too_late => Err(std::io::ErrorKind::TimedOut.into()),
                };
                match written {
                    Ok(()) => {}
                    Err(error) => {
                        if error.kind() == std::io::ErrorKind::TimedOut {
                            let connections = &self.shared.agent.metrics.connections;
                            connections.rejected(RejectReason::Stalled).inc();
                        }
                        break;
                    }
                }
                drop(ready.response.memory);
                let now = Instant::now();
                if let Some(after) = ready.response.after {
                    after(now);
                }
                self.shared
                    .count(ready.api, ready.response.outcome, ready.read_at, now);
            }
            self.done.send_modify(|done| *done += 1);
        }
        // Ends the reading half too, where it still waits for the client.
        let _ = self.io.shutdown().await;
    }
}

/// Writes all parts, many at a time. Each write has to make progress within `patience`.
async fn write_parts<W: AsyncWrite + Unpin>(
    io: &mut W,
    parts: Vec<Bytes>,
    patience: Duration,
) -> std::io::Result<()> {
    let mut parts = std::collections::VecDeque::from(parts);
    while !parts.is_empty() {
        let mut written = {
            let slices: Vec<IoSlice<'_>> = parts
                .iter()
                .take(SLICES_MAX)
                .map(|part| IoSlice::new(part))
                .collect();
            timeout(patience, io.write_vectored(&slices)).await??
        };
        if written == 0 && parts.iter().any(|part| !part.is_empty()) {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        while let Some(front) = parts.front_mut() {
            if front.len() > written {
                front.advance(written);
                break;
            }
            written -= front.len();
            parts.pop_front();
        }
    }
    Ok(())
}
