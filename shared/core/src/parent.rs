//! Ending with the parent: a child process started by `ostler up` holds the read end of a pipe that closes when its
//! parent is gone, however it went. Works on every platform without signals.

use tokio::io::AsyncReadExt;

/// Returns when standard input reaches its end, that is, when whoever holds the other end is gone.
pub async fn gone() {
    let mut stdin = tokio::io::stdin();
    let mut sink = [0; 64];
    while stdin.read(&mut sink).await.is_ok_and(|read| read > 0) {}
}
