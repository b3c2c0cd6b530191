//! How health learns that the listener lives: each connection that comes shows it; where none comes, the loop
//! that accepts them answers when it is asked.
//!
//! A loop that turns is not enough: without descriptors, or with a socket that was shut down, it turns and
//! accepts nobody. So it answers with the error of its last try, if that failed; while connections wait it
//! tries again and again.

use std::io;

use async_trait::async_trait;
use streamhouse_observability::HealthHandle;
use streamhouse_observability::health::{Access, Probe};
use tokio::sync::{mpsc, oneshot};

type Answer = oneshot::Sender<Result<(), String>>;

/// Asks the loop.
struct Touch(mpsc::Sender<Answer>);

/// The loop's side.
pub(super) struct Pulse {
    health: HealthHandle,
    questions: mpsc::Receiver<Answer>,
    last_error: Option<String>,
}

impl Pulse {
    /// The listener counts as alive from here on.
    pub(super) fn new(health: HealthHandle) -> Self {
        let (ask, questions) = mpsc::channel(1);
        health.set_probe(std::sync::Arc::new(Touch(ask)));
        health.success();
        Self {
            health,
            questions,
            last_error: None,
        }
    }

    /// Waits for a question and answers it.
    pub(super) async fn felt(&mut self) {
        // The other end lives as long as the component does.
        let Some(question) = self.questions.recv().await else {
            return std::future::pending().await;
        };
        let state = self.last_error.clone().map_or(Ok(()), Err);
        // Whoever asked may have gone.
        let _ = question.send(state);
    }

    pub(super) fn accepted(&mut self) {
        self.last_error = None;
        self.health.success();
    }

    pub(super) fn refused(&mut self, error: &io::Error) {
        // It left while it waited: the listener is well.
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        self.health.failure(&error.to_string());
        self.last_error = Some(error.to_string());
    }
}

#[async_trait]
impl Probe for Touch {
    async fn probe(&self, _: Access) -> Result<(), String> {
        let gone = || "the accept loop has ended".to_owned();
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}
