"""The seed contract on python-socketio and uvicorn, kept in memory.

Written as its users would write it, with default settings and what `uvicorn[standard]` brings along.
"""

import argparse
import ctypes
import hmac
import json
import secrets
import signal

import socketio
import uvicorn

PR_SET_PDEATHSIG = 1

# A client hears that it is let in before anything else, as every other server has it.
sio = socketio.AsyncServer(async_mode="asgi", always_connect=True)
tokens: dict[str, str] = {}
channels: dict[str, str] = {}


@sio.event
async def connect(sid, _environ):
    await sio.emit("clientevent", {"data": "Connected", "count": 0}, to=sid)


@sio.event
async def join_channel(sid, join):
    channel = channels.get(join["token"])
    if channel is None:
        await sio.disconnect(sid)
        return
    await sio.enter_room(sid, channel)
    await sio.emit("clientevent", {"data": f"Connected to {channel}"}, to=sid)


def token_of(channel: str) -> str:
    if channel not in tokens:
        token = secrets.token_urlsafe(32)
        tokens[channel] = token
        channels[token] = channel
    return tokens[channel]


class Publishers:
    """The HTTP routes, as an ASGI application."""

    def __init__(self, auth_key: str):
        self.auth_key = auth_key.encode()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body = b""
        while True:
            part = await receive()
            body += part.get("body", b"")
            if not part.get("more_body"):
                break
        status, answer = await self.answer(scope, body)
        text = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async def answer(self, scope, body):
        if scope["path"] == "/healthz":
            return 200, {}
        if not hmac.compare_digest(dict(scope["headers"]).get(b"authorization", b""), self.auth_key):
            return 403, {"success": False, "message": "wrong key"}
        _, route, channel = scope["path"].split("/", 2)
        if route == "channel":
            return 200, {"success": True, "token": token_of(channel)}
        if route == "message":
            await sio.emit("message", json.loads(body)["message"], room=channel)
            return 200, {"success": True}
        return 404, {"success": False, "message": "no such route"}


def main():
    # It dies with the benchmark that started it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--auth-key", required=True)
    options = parser.parse_args()
    application = socketio.ASGIApp(sio, Publishers(options.auth_key))
    # The publishers of a benchmark keep their connections, however quiet they are.
    uvicorn.run(
        application, host=options.address, port=options.port, log_level="warning", timeout_keep_alive=600
    )


if __name__ == "__main__":
    main()
