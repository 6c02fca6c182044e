//! A server below HTTP: it reads requests, and writes back whatever bytes its script says, when it says, in whatever
//! pieces, and hangs up as it likes. For all that a decent HTTP library would never send.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the server does next on a connection.
#[derive(Debug, Clone)]
pub enum Step {
    Send(Vec<u8>),
    Sleep(Duration),
    /// Goes on when [`RawServer::release`] has been called.
    Wait,
    /// Ends the connection in the usual way.
    Close,
    /// Ends the connection with a reset.
    Reset,
    /// Keeps the connection and does nothing any more.
    Hang,
    /// Closes the connection when no other request has come for so long.
    CloseIdle(Duration),
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct RawRequest {
    pub verb: String,
    pub headers: HeaderMap,
    pub body: Value,
    /// The same as it was written.
    pub text: String,
    /// How many requests this connection has brought before.
    pub earlier: usize,
    pub at: Instant,
}

type Script = dyn Fn(&RawRequest) -> Vec<Step> + Send + Sync;

/// A running server. Dropped, it cuts its connections.
pub struct RawServer {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    script: Mutex<Arc<Script>>,
    /// What happens to a connection before it is read, if anything does.
    greeting: Mutex<Vec<Step>>,
    seen: Mutex<Vec<RawRequest>>,
    /// Accepted, and open at once: now and at most.
    accepted: Mutex<usize>,
    open: Mutex<(usize, usize)>,
    released: watch::Sender<u32>,
}

impl RawServer {
    /// Starts a server that answers well: see [`well`].
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address")).await
    }

    /// # Panics
    /// When the address is taken.
    pub async fn start_at(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.expect("address is taken");
        let addr = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(well)),
            greeting: Mutex::default(),
            seen: Mutex::default(),
            accepted: Mutex::default(),
            open: Mutex::default(),
            released: watch::Sender::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { addr, shared, tasks }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.addr)
    }

    /// How requests are answered from now on.
    pub fn behave(&self, script: impl Fn(&RawRequest) -> Vec<Step> + Send + Sync + 'static) {
        *lock(&self.shared.script) = Arc::new(script);
    }

    /// How calls are answered from now on; probes are answered well.
    pub fn misbehave(&self, script: impl Fn(&RawRequest) -> Vec<Step> + Send + Sync + 'static) {
        self.behave(move |request| if request.is_probe() { well(request) } else { script(request) });
    }

    /// How calls are answered from now on; a probe waits for its answer until the server is released.
    pub fn misbehave_unprobed(&self, script: impl Fn(&RawRequest) -> Vec<Step> + Send + Sync + 'static) {
        self.behave(move |request| match request.is_probe() {
            true => [vec![Step::Wait], well(request)].concat(),
            false => script(request),
        });
    }

    /// What is done to new connections before they are read.
    pub fn greet(&self, steps: Vec<Step>) {
        *lock(&self.shared.greeting) = steps;
    }

    /// Lets all that wait go on, and all that will.
    pub fn release(&self) {
        self.shared.released.send_modify(|released| *released += 1);
    }

    /// Requests of clients.
    pub fn calls(&self) -> Vec<RawRequest> {
        lock(&self.shared.seen).iter().filter(|seen| !seen.is_probe()).cloned().collect()
    }

    pub fn probes(&self) -> Vec<RawRequest> {
        lock(&self.shared.seen).iter().filter(|seen| seen.is_probe()).cloned().collect()
    }

    /// Connections accepted since the start.
    pub fn accepted(&self) -> usize {
        *lock(&self.shared.accepted)
    }

    /// The most connections that were open at once.
    pub fn open_at_most(&self) -> usize {
        lock(&self.shared.open).1
    }

    /// Stops at once, cutting its connections.
    pub async fn stop(mut self) -> SocketAddr {
        self.tasks.shutdown().await;
        self.addr
    }
}

impl RawRequest {
    pub fn is_probe(&self) -> bool {
        self.body["id"] == "ostler-probe"
    }
}

/// Answers every request with a result, and everything else with 202.
pub fn well(request: &RawRequest) -> Vec<Step> {
    if request.is_probe() {
        let error = json!({"jsonrpc": "2.0", "id": "ostler-probe", "error": {"code": -32601, "message": "Method not found"}});
        return vec![http(200, "application/json", &error.to_string())];
    }
    match &request.body["id"] {
        Value::Null => vec![Step::Send(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_vec())],
        id => vec![http(200, "application/json", &result(id))],
    }
}

/// A result for this id, as text.
pub fn result(id: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}}).to_string()
}

/// A whole answer with an honest length.
pub fn http(status: u16, media: &str, body: &str) -> Step {
    with_headers(status, &format!("content-type: {media}\r\n"), body)
}

/// The same with these header lines, each with its end.
pub fn with_headers(status: u16, headers: &str, body: &str) -> Step {
    let length = body.len();
    Step::Send(
        format!("HTTP/1.1 {status} Whatever\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes(),
    )
}

/// The head of an event stream in chunks.
pub fn stream_head() -> Step {
    Step::Send(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
    )
}

/// One chunk.
pub fn chunk(data: &str) -> Step {
    Step::Send(format!("{:x}\r\n{data}\r\n", data.len()).into_bytes())
}

/// The chunk that ends an answer.
pub fn last_chunk() -> Step {
    Step::Send(b"0\r\n\r\n".to_vec())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        *lock(&shared.accepted) += 1;
        let open = Open::new(&shared);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let _open = open;
            serve(stream, &shared).await
        });
        while connections.try_join_next().is_some() {}
    }
}

/// One open connection.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        let mut open = lock(&shared.open);
        open.0 += 1;
        open.1 = open.1.max(open.0);
        drop(open);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.0.open).0 -= 1;
    }
}

/// `None` when the connection is over.
async fn serve(mut stream: TcpStream, shared: &Shared) -> Option<()> {
    let greeting = lock(&shared.greeting).clone();
    let mut patience = follow(&mut stream, greeting, shared).await?;
    let mut earlier = 0;
    let mut buffer = Vec::new();
    loop {
        let read = read(&mut stream, &mut buffer, earlier);
        let request = match patience {
            Some(patience) => tokio::time::timeout(patience, read).await.ok()??,
            None => read.await?,
        };
        lock(&shared.seen).push(request.clone());
        let script = Arc::clone(&lock(&shared.script));
        patience = follow(&mut stream, script(&request), shared).await?;
        earlier += 1;
    }
}

/// Goes through the steps; returns how long to wait for the next request, if not for ever.
async fn follow(stream: &mut TcpStream, steps: Vec<Step>, shared: &Shared) -> Option<Option<Duration>> {
    let mut patience = None;
    for step in steps {
        match step {
            Step::Send(bytes) => stream.write_all(&bytes).await.ok()?,
            Step::Sleep(time) => tokio::time::sleep(time).await,
            Step::Wait => {
                let mut released = shared.released.subscribe();
                let _ = released.wait_for(|released| *released > 0).await;
            }
            Step::Close => {
                let _ = stream.shutdown().await;
                return None;
            }
            Step::Reset => {
                let _ = stream.set_zero_linger();
                return None;
            }
            Step::Hang => std::future::pending().await,
            Step::CloseIdle(time) => patience = Some(time),
        }
    }
    Some(patience)
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>, earlier: usize) -> Option<RawRequest> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head: Vec<u8> = buffer.drain(..end).collect();
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let verb = lines.next()?.split(' ').next()?.to_owned();
    let headers: HeaderMap = lines
        .filter_map(|line| line.split_once(':'))
        .filter_map(|(name, value)| Some((name.parse().ok()?, value.trim().parse().ok()?)))
        .collect::<Vec<(http::HeaderName, http::HeaderValue)>>()
        .into_iter()
        .collect();
    let length: usize =
        headers.get("content-length").map_or(Ok(0), |value| value.to_str().unwrap_or("").parse()).ok()?;
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body: Vec<u8> = buffer.drain(..length).collect();
    Some(RawRequest {
        verb,
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
        text: String::from_utf8_lossy(&body).into_owned(),
        earlier,
        at: Instant::now(),
    })
}
