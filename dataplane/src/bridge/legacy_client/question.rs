//! A request of the upstream's that waits for the client's answer, for as long as somebody waits for that.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::BridgedSession;

/// A question to the client; taken out of its session when it is dropped.
pub(super) struct Question {
    session: Arc<BridgedSession>,
    number: u64,
    /// Until it is answered.
    awaited: Option<oneshot::Receiver<Bytes>>,
    answer: Option<Bytes>,
}

// === impl Question ===

impl Question {
    pub(super) fn new(session: &Arc<BridgedSession>, number: u64, awaited: oneshot::Receiver<Bytes>) -> Self {
        Self { session: Arc::clone(session), number, awaited: Some(awaited), answer: None }
    }

    /// Its id.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Waits for the client's response, or for the end of the session. May be dropped at any point and called again: what was
    /// answered stays so.
    pub(super) async fn answered(&mut self) {
        let Some(awaited) = &mut self.awaited else { return };
        self.answer = tokio::select! {
            answer = awaited => answer.ok(),
            () = self.session.ended().cancelled() => None,
        };
        self.awaited = None;
    }

    /// The response, as it came; nothing if there is none (yet).
    pub(super) fn answer(&self) -> Option<&Bytes> {
        self.answer.as_ref()
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.session.forget_question(self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use ostler_mcp::Envelope;
    use ostler_mcp::bridge::legacy_client::Caller;

    use super::*;

    fn session() -> Arc<BridgedSession> {
        let initialize = Bytes::from_static(
            br#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#,
        );
        let caller = Caller::of_initialize(Envelope::scan(&initialize).unwrap().params).unwrap();
        Arc::new(BridgedSession::new(caller, "{}", &initialize))
    }

    fn answer(session: &BridgedSession, question: &Question) {
        let body = Bytes::from(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, question.number()));
        session.answered(&Envelope::scan(&body).unwrap(), &body);
    }

    #[tokio::test]
    async fn an_answer_stays_given_while_others_are_waited_for_anew() {
        let session = session();
        let mut questions = [session.question(), session.question()];
        answer(&session, &questions[1]);
        // As between two keep-alives.
        let waited = join_all(questions.iter_mut().map(Question::answered)).now_or_never();
        assert!(waited.is_none());
        answer(&session, &questions[0]);
        join_all(questions.iter_mut().map(Question::answered)).await;
        assert!(questions.iter().all(|question| question.answer().is_some()));
    }

    #[tokio::test]
    async fn the_end_of_the_session_ends_the_wait_without_an_answer() {
        let session = session();
        let mut question = session.question();
        assert!(question.answered().now_or_never().is_none());
        session.end();
        question.answered().await;
        assert!(question.answer().is_none());
    }
}
