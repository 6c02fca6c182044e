//! Each step of the state machine at the head of [`super`], on a clock that is moved by hand.

use super::*;

fn health(clock: &WallClock) -> Health {
    Health::new(clock.clone(), Arc::default())
}

#[test]
fn one_failure_degrades_and_a_failed_probe_takes_it_down() {
    let health = health(&WallClock::manual(1));
    assert_eq!(health.reading().state, State::Pending);
    health.record(Evidence::Answered);
    health.record(Evidence::Failed(Cause::Refused));
    assert_eq!((health.reading().state, health.reading().reason), (State::Degraded, Cause::Refused));
    assert!(!health.is_down());
    health.record(Evidence::ProbeFailed(Cause::Refused));
    assert!(health.is_down());
    health.record(Evidence::ProbeAnswered);
    assert_eq!(health.reading().state, State::Ready);
}

#[test]
fn failures_in_a_row_open_the_breaker_and_an_answer_between_them_does_not() {
    let health = health(&WallClock::manual(1));
    for _ in 1..BREAKER_FAILURES {
        health.record(Evidence::Failed(Cause::Http5xx));
    }
    health.record(Evidence::Answered);
    health.record(Evidence::Failed(Cause::Http5xx));
    assert_eq!(health.reading().state, State::Degraded);
    for _ in 1..BREAKER_FAILURES {
        health.record(Evidence::Failed(Cause::Http5xx));
    }
    assert!(health.is_down());
}

#[test]
fn without_a_prober_one_trial_is_let_through_at_a_time() {
    let clock = WallClock::manual(1);
    let health = health(&clock);
    for _ in 0..BREAKER_FAILURES {
        assert!(health.admit());
        health.record(Evidence::Failed(Cause::SpawnFailed));
    }
    assert!(!health.admit());
    clock.advance(millis(PROBE_CAP));
    assert!(health.admit());
    assert!(!health.admit());
    health.give_back_trial();
    assert!(health.admit(), "it told nothing");
    assert!(!health.admit());
    health.record(Evidence::Answered);
    assert!(health.admit() && health.admit());
}

#[test]
fn recovery_is_claimed_once() {
    let health = health(&WallClock::manual(1));
    health.record(Evidence::Failed(Cause::Refused));
    assert!(health.claim_recovery());
    assert!(!health.claim_recovery());
    assert!(!health.end_recovery(), "nothing has recovered");
    health.record(Evidence::ProbeAnswered);
    assert!(!health.claim_recovery());
    health.record(Evidence::Failed(Cause::Refused));
    assert!(!health.end_recovery(), "it is needed again");
    health.record(Evidence::Answered);
    assert!(health.end_recovery());
    health.record(Evidence::Failed(Cause::Refused));
    assert!(health.claim_recovery());
}

#[test]
fn a_doubt_degrades_and_never_takes_down_nor_brings_back() {
    let health = health(&WallClock::manual(1));
    for _ in 0..2 * BREAKER_FAILURES {
        health.record(Evidence::Doubted(Cause::Unauthorized));
    }
    assert_eq!((health.reading().state, health.reading().reason), (State::Degraded, Cause::Unauthorized));
    health.record(Evidence::ProbeFailed(Cause::Refused));
    health.record(Evidence::Doubted(Cause::ConnectionLost));
    assert_eq!((health.reading().state, health.reading().reason), (State::Down, Cause::Refused));
    health.record(Evidence::ProbeDoubted(Cause::Unauthorized));
    assert_eq!(health.reading().state, State::Degraded, "it lives");
}

#[test]
fn an_answered_call_outweighs_a_probe_that_failed() {
    let health = health(&WallClock::manual(1));
    health.record(Evidence::Answered);
    health.record(Evidence::ProbeFailed(Cause::Http5xx));
    assert_eq!(health.reading().state, State::Ready);
}

#[test]
fn where_probes_are_answered_with_5xx_a_caller_may_try_now_and_then() {
    let clock = WallClock::manual(1);
    let health = health(&clock);
    assert!(health.claim_recovery());
    health.record(Evidence::ProbeFailed(Cause::Http5xx));
    assert!(!health.admit());
    clock.advance(millis(PROBE_CAP));
    assert!(health.admit() && !health.admit());
    health.record(Evidence::ProbeFailed(Cause::Refused));
    clock.advance(millis(PROBE_CAP));
    assert!(!health.admit(), "nobody answers there");
}

#[test]
fn a_wait_that_was_asked_for_is_kept_and_told() {
    let clock = WallClock::manual(1);
    let health = health(&clock);
    health.record(Evidence::ProbeFailed(Cause::Http5xx));
    health.schedule(Duration::from_secs(1));
    health.hold_probes(Duration::from_secs(20));
    health.hold_probes(Duration::from_secs(3));
    assert_eq!((health.held(), health.retry_after()), (Duration::from_secs(20), Duration::from_secs(20)));
    clock.advance(20_000);
    assert_eq!(health.held(), Duration::ZERO);
}

#[test]
fn a_doubt_of_the_era_is_looked_into_less_often_the_more_it_proves_unfounded() {
    let clock = WallClock::manual(1);
    let health = health(&clock);
    health.set_era(Era::Modern);
    assert!(health.claim_era_check() && !health.claim_era_check());
    clock.advance(millis(PROBE_CAP));
    assert!(health.claim_era_check());
    clock.advance(millis(PROBE_CAP));
    assert!(!health.claim_era_check(), "it was unfounded");
    health.set_era(Era::Legacy);
    assert!(health.claim_era_check(), "it was not");
}

#[test]
fn the_time_of_a_state_is_when_it_was_entered() {
    let clock = WallClock::manual(10);
    let health = health(&clock);
    health.record(Evidence::ProbeFailed(Cause::Refused));
    clock.advance(5);
    health.record(Evidence::ProbeFailed(Cause::ProbeTimeout));
    assert_eq!((health.reading().since_unix_ms, health.reading().reason), (10, Cause::ProbeTimeout));
}
