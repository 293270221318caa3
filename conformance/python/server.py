"""One channelapi process under test, the same as server.js starts for the JavaScript clients."""

import atexit
import http.client
import json
import os
import pathlib
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

READY_SECONDS = 15
STOP_SECONDS = 10

_executable = "channelapi.exe" if os.name == "nt" else "channelapi"
BINARY = os.environ.get("CHANNELAPI_BIN") or str(
    pathlib.Path(__file__).resolve().parents[2] / "target" / "release" / _executable
)
# Settings of the person who runs the tests must not reach the server under test.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PORT" and not name.startswith("CHANNELAPI_")}

# A run that is told to stop must not leave servers behind: atexit sees only an orderly end.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def free_port():
    """A port below the range that outgoing connections draw from: a client that dials it while the server
    restarts could otherwise be given that very port and connect to itself."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    """A server with a data directory and a key of its own."""

    def __init__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = secrets.token_hex(16)
        self.data_dir = tempfile.mkdtemp(prefix="channelapi-conformance-")
        self.log_file = tempfile.NamedTemporaryFile(prefix="channelapi-conformance-", suffix=".log")
        self.process = None
        atexit.register(self._kill)
        self._launch()

    def _launch(self):
        if not os.path.exists(BINARY):
            raise FileNotFoundError(
                f"{BINARY} is missing: build it with `cargo build --release`, or name another in CHANNELAPI_BIN"
            )
        arguments = ["--address", "127.0.0.1", "--port", str(self.port), "--data-dir", self.data_dir, "--auth-key", self.key]
        self.process = subprocess.Popen([BINARY, *arguments], stdout=self.log_file, stderr=self.log_file, env=ENVIRONMENT)
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self._request("GET", "/healthz")[0] == 200:
                    return
            except OSError:
                pass  # Not listening yet.
            time.sleep(0.02)
        self._kill()
        raise RuntimeError(f"the server was not ready; its log:\n{self.log()}")

    def log(self):
        return pathlib.Path(self.log_file.name).read_text(errors="replace")

    def _kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _terminate(self):
        """SIGTERM: the promise is a clean end, with exit code 0, within ten seconds."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            code = "no end at all"
        if code != 0:
            raise AssertionError(f"SIGTERM must end the server with 0 within {STOP_SECONDS} s, got {code}; its log:\n{self.log()}")

    def restart(self):
        try:
            self._terminate()
        finally:
            self._launch()  # Even if it stopped badly: one failure should not fail every test after it.

    def crash_and_restart(self):
        self._kill()
        self._launch()

    def stop(self):
        try:
            self._terminate()
        finally:
            shutil.rmtree(self.data_dir, ignore_errors=True)
            self.log_file.close()

    def _request(self, method, path, body=b""):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request(method, path, body, {"Authorization": self.key})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def token(self, channel):
        status, body = self._request("POST", f"/channel/{urllib.parse.quote(channel, safe='')}")
        assert status == 200, body
        return json.loads(body)["token"]

    def publish(self, channel, json_text):
        """Publishes JSON text as it stands."""
        body = f'{{"message": {json_text}}}'.encode()
        status, answer = self._request("POST", f"/message/{urllib.parse.quote(channel, safe='')}", body)
        assert status == 200, answer
