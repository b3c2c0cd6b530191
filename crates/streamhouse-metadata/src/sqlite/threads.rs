//! A thread that owns something blocking, and the bounded channel to it.
//!
//! Jobs run one after the other in the order in which they were sent; a caller that goes away does not
//! stop its job. Between jobs the owner may do work of its own. Dropping the lane lets the thread finish
//! the jobs it has and waits for it, so that what it owns is released when the drop returns.

use std::thread::{self, JoinHandle};
use std::time::Instant;

use parking_lot::Mutex;
use streamhouse_observability::Histogram;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;

/// Callers beyond it wait for room.
const JOBS_MAX: usize = 64;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// What a lane's thread owns.
pub(super) trait Owner: Send + 'static {
    /// Nobody waits: does a bounded piece of its own work; false when it has none now.
    fn work(&mut self) -> bool {
        false
    }

    /// Others may be waiting: does a bounded piece of what cannot be put off any longer.
    fn work_under_load(&mut self) {}
}

#[derive(Debug)]
pub(super) struct Lane<S> {
    jobs: Mutex<Option<mpsc::Sender<Job<S>>>>,
    /// How long jobs wait before they are begun.
    waits: Option<Histogram>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Owner> Lane<S> {
    pub(super) fn spawn(name: &str, mut owner: S, waits: Option<Histogram>) -> std::io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job<S>>(JOBS_MAX);
        let run = move || {
            loop {
                let job = match queue.try_recv() {
                    Ok(job) => job,
                    Err(TryRecvError::Disconnected) => return,
                    Err(TryRecvError::Empty) => {
                        if owner.work() {
                            continue;
                        }
                        match queue.blocking_recv() {
                            Some(job) => job,
                            None => return,
                        }
                    }
                };
                job(&mut owner);
                owner.work_under_load();
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            waits,
            thread: Some(thread),
        })
    }

    /// Runs `job` on the thread. Fails only when the thread is gone, which a panic alone can cause.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Damaged("the store's thread has stopped".to_owned());
        let closed = || StoreError::Unavailable("the store is closed".to_owned());
        let (answer, answered) = oneshot::channel();
        let waiting = self.waits.clone().map(|waits| (waits, Instant::now()));
        let job: Job<S> = Box::new(move |owner| {
            if let Some((waits, since)) = waiting {
                waits.observe(since.elapsed());
            }
            // Nobody may be waiting any more; the job has been done all the same.
            let _ = answer.send(job(owner));
        });
        let jobs = self.jobs.lock().clone().ok_or_else(closed)?;
        jobs.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}

impl<S> Lane<S> {
    /// Takes no more jobs; the thread ends after those it has.
    pub(super) fn close(&self) {
        *self.jobs.lock() = None;
    }
}

impl<S> Drop for Lane<S> {
    fn drop(&mut self) {
        self.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was answered to whoever waited.
            let _ = thread.join();
        }
    }
}
