//! A client by hand: a WebSocket and JSON values, none of the crate that describes the API.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::running::{Running, within};

pub(crate) const LOGIN: &str = "/api/v1/login";
pub(crate) const FIND: &str = "/api/v1/game/find";
pub(crate) const LOBBY: &str = "/api/v1/game/lobby";
pub(crate) const HERO: &str = "/api/v1/game/hero";
pub(crate) const ACTION: &str = "/api/v1/game/action";

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Client {
    pub(crate) async fn connect(server: SocketAddr, path: &str) -> Self {
        Self::try_connect(server, path).await.unwrap()
    }

    pub(crate) async fn try_connect(server: SocketAddr, path: &str) -> Result<Self, tungstenite::Error> {
        let stream = TcpStream::connect(server).await?;
        let (socket, _) = within("the upgrade", client_async(format!("ws://{server}{path}"), stream)).await?;
        Ok(Self { socket })
    }

    pub(crate) async fn send(&mut self, payload: Value) {
        self.send_text(&json!({"PAYLOAD": payload}).to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next text frame.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            match within("a frame", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("a text frame was expected, not {other:?}"),
            }
        }
    }

    /// Code and reason of the close frame that comes next.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match within("a close frame", self.socket.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => return (frame.code.into(), frame.reason.to_string()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("a close frame was expected, not {other:?}"),
            }
        }
    }

    pub(crate) async fn ask(&mut self, payload: Value) -> Value {
        self.send(payload).await;
        self.next().await
    }
}

/// A user with a seat and an open lobby.
pub(crate) struct Player {
    pub(crate) user: String,
    pub(crate) game: String,
    pub(crate) lobby: Client,
    pub(crate) action: Client,
}

impl Player {
    /// Logs in under a name, finds a game, enters its lobby.
    pub(crate) async fn join(server: &Running, name: &str, participants: u32) -> Self {
        let user = login(server, name).await;
        let found = server.connect(FIND).await.ask(json!({"USER_TOKEN": user, "PARTICIPANTS": participants})).await;
        let game = text(&found["PAYLOAD"]["GAME_TOKEN"]);
        let lobby = enter(server, &game, &user).await;
        let action = server.connect(ACTION).await;
        Self { user, game, lobby, action }
    }

    /// The next push's `STATUS.GAME`.
    pub(crate) async fn push(&mut self) -> String {
        text(&self.lobby.next().await["STATUS"]["GAME"])
    }

    pub(crate) async fn attack(&mut self, enemy: Value) -> Value {
        let (game, user) = (&self.game, &self.user);
        let payload = json!({"GAME_TOKEN": game, "USER_TOKEN": user, "ENEMY_TOKEN": enemy, "ACTION": "ATTACK"});
        self.action.ask(payload).await
    }
}

pub(crate) async fn login(server: &Running, name: &str) -> String {
    let mut client = server.connect(LOGIN).await;
    let mut answer = client.ask(json!({"USER": name})).await;
    if answer["STATUS"] == "USER CREATED" {
        answer = client.next().await;
    }
    text(&answer["PAYLOAD"]["USER_TOKEN"])
}

/// A lobby whose request was sent.
pub(crate) async fn enter(server: &Running, game: &str, user: &str) -> Client {
    let mut lobby = server.connect(LOBBY).await;
    lobby.send(json!({"GAME_TOKEN": game, "USER_TOKEN": user})).await;
    lobby
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a string was expected, not {value}")).to_owned()
}
