//! The seed contract on socketioxide with its default settings, kept in memory.
//!
//! Written as its users would write it; the only addition is `TCP_NODELAY`, without which every server looks slow.

mod options;
mod tokens;

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::extract::{Data, SocketRef, State as SocketState};
use tokio::net::TcpListener;

use crate::options::Options;
use crate::tokens::Tokens;

/// What the HTTP handlers share.
#[derive(Clone)]
struct App {
    auth_key: Arc<str>,
    tokens: Arc<Tokens>,
    io: SocketIo,
}

/// What a client sends to join a channel.
#[derive(Deserialize)]
struct JoinChannel {
    token: String,
}

/// What a publisher posts.
#[derive(Deserialize)]
struct Publish {
    message: Value,
}

type Answer = (StatusCode, axum::Json<Value>);

/// Serves until the process is killed; dies with the benchmark that started it.
pub fn run() -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let options = Options::parse(std::env::args().skip(1))?;
    // The number of workers follows the cores this process may use, as in any server built on tokio.
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(options))
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let tokens = Arc::new(Tokens::default());
    let (layer, io) = SocketIo::builder().with_state(tokens.clone()).build_layer();
    io.ns("/", on_connect);
    let app = App { auth_key: options.auth_key.into(), tokens, io };
    let router = Router::new()
        .route("/healthz", get(async || StatusCode::OK))
        .route("/channel/{*channel}", post(create_channel))
        .route("/message/{*channel}", post(publish))
        .with_state(app)
        .layer(layer);
    let address = (options.address.as_str(), options.port);
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address:?}"))?;
    let listener = listener.tap_io(|stream| {
        // A socket that fails here is already closed, which its reader will notice.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await?;
    Ok(())
}

async fn on_connect(socket: SocketRef) {
    // Handlers first: a client may join as soon as it hears from us.
    socket.on("join_channel", join_channel);
    let _ = socket.emit("clientevent", &json!({ "data": "Connected", "count": 0 }));
}

async fn join_channel(socket: SocketRef, Data(join): Data<JoinChannel>, tokens: SocketState<Arc<Tokens>>) {
    let Some(channel) = tokens.channel_of(&join.token) else {
        let _ = socket.disconnect();
        return;
    };
    let text = format!("Connected to {channel}");
    socket.join(channel.to_string());
    let _ = socket.emit("clientevent", &json!({ "data": text }));
}

async fn create_channel(State(app): State<App>, headers: HeaderMap, Path(channel): Path<String>) -> Answer {
    if !app.permits(&headers) {
        return forbidden();
    }
    success(json!({ "success": true, "token": app.tokens.of_channel(channel) }))
}

async fn publish(
    State(app): State<App>,
    headers: HeaderMap,
    Path(channel): Path<String>,
    axum::Json(body): axum::Json<Publish>,
) -> Answer {
    if !app.permits(&headers) {
        return forbidden();
    }
    // A full queue of one socket is an error of the whole broadcast here; the others have it all the same.
    let _ = app.io.to(channel).emit("message", &body.message).await;
    success(json!({ "success": true }))
}

impl App {
    fn permits(&self, headers: &HeaderMap) -> bool {
        headers.get(header::AUTHORIZATION).is_some_and(|key| key.as_bytes() == self.auth_key.as_bytes())
    }
}

fn success(body: Value) -> Answer {
    (StatusCode::OK, axum::Json(body))
}

fn forbidden() -> Answer {
    (StatusCode::FORBIDDEN, axum::Json(json!({ "success": false, "message": "wrong key" })))
}
