"""Every door, with handlers of fixed arity: `def on_message(data)` must never be handed an extra argument.

python-socketio knows no recovery. What it is promised is that doors made for clients that do leave it alone, and that it can
keep a checkpoint itself and come back with it.
"""

import json
import queue
import threading
import unittest
import uuid

import socketio

from listener import PATIENCE_SECONDS, AsyncListener, SyncListener
from server import Server

LISTENERS = {"Client": SyncListener, "AsyncClient": AsyncListener}
TRANSPORTS = {"Polling": ["polling"], "Websocket": ["websocket"], "Upgrade": ["polling", "websocket"]}
DATA = ['"hello"', "[1, [2]]", '{"a": {"b": null}}', "0", "false", '"ca1."', "123456789012345678901234567890"]

server = None


def setUpModule():
    global server
    server = Server()


def tearDownModule():
    server.stop()


class Doors:
    """What each combination below goes through."""

    listener_type = None
    transports = None

    def setUp(self):
        # A handler that is called with the wrong number of arguments raises in a thread of its own, where nobody would see it.
        self.raised = []
        earlier = threading.excepthook
        threading.excepthook = lambda args: (self.raised.append(args.exc_value), earlier(args))
        self.addCleanup(lambda: self.assertEqual(self.raised, []))
        self.addCleanup(setattr, threading, "excepthook", earlier)
        self.channel = f"c-{uuid.uuid4()}"

    def connect(self, **how):
        listener = self.listener_type(server.url, self.transports, **how)
        self.addCleanup(listener.close)
        listener.connect()
        listener.greeted()
        return listener

    def hears(self, listener):
        # One at a time: python-socketio runs each handler in a thread or task of its own and promises no order.
        for text in DATA:
            server.publish(self.channel, text)
            self.assertEqual(listener.next(), ("message", json.loads(text)))

    def join(self, listener, **how):
        listener.emit("join_channel", {"token": server.token(self.channel), **how})
        self.assertEqual(listener.next(), ("clientevent", {"data": f"Connected to {self.channel}"}))

    def away(self, listener, outage):
        outage()
        self.assertEqual(listener.next()[0], "disconnect")
        listener.greeted()

    def test_seed_door(self):
        listener = self.connect()
        self.join(listener)
        self.hears(listener)
        self.away(listener, server.crash_and_restart)
        self.join(listener)
        self.hears(listener)

    def test_handshake_door(self):
        listener = self.connect(auth={"token": server.token(self.channel)})
        self.hears(listener)
        self.away(listener, server.crash_and_restart)
        self.hears(listener)

    def test_handshake_door_without_resume(self):
        listener = self.connect(auth={"tokens": [server.token(self.channel)], "resume": False})
        self.hears(listener)

    def test_handshake_door_since_all(self):
        for text in DATA:
            server.publish(self.channel, text)
        listener = self.connect(auth={"token": server.token(self.channel), "since": "all"})
        replayed = [listener.next() for _ in DATA]
        self.assertCountEqual(map(repr, replayed), [repr(("message", json.loads(text))) for text in DATA])
        self.hears(listener)

    def test_comes_back_with_the_checkpoint_it_kept(self):
        token = server.token(self.channel)
        first = self.connect(auth={"token": token}, also=["checkpoint"])
        self.assertEqual(first.next()[0], "checkpoint")
        server.publish(self.channel, '"heard"')
        heard = dict([first.next(), first.next()])
        self.assertEqual(heard["message"], "heard")
        self.assertRegex(heard["checkpoint"], r"^ca1\..{28}$")
        first.close()
        server.publish(self.channel, '"missed"')
        server.crash_and_restart()
        second = self.connect(auth={"token": token, "since": heard["checkpoint"]})
        self.assertEqual(second.next(), ("message", "missed"))
        self.hears(second)

    def test_explicit_door(self):
        for text in DATA:
            server.publish(self.channel, text)
        listener = self.connect()
        answered = queue.Queue()
        argument = {"token": server.token(self.channel), "since": "all"}
        listener.emit("join_channel", argument, callback=lambda *args: answered.put(args))
        (answer,) = answered.get(timeout=PATIENCE_SECONDS)
        self.assertEqual((answer["recovered"], answer["offset"], answer["unread"]), (True, len(DATA), len(DATA)))
        heard = [listener.next() for _ in range(len(DATA) + 1)]
        expected = [("clientevent", {"data": f"Connected to {self.channel}"})]
        expected += [("message", json.loads(text)) for text in DATA]
        self.assertCountEqual(map(repr, heard), map(repr, expected))
        self.hears(listener)

    def test_acknowledges(self):
        for text in DATA:
            server.publish(self.channel, text)
        listener = self.connect()
        self.join(listener)
        answered = queue.Queue()
        listener.emit("ack", {"channel": self.channel, "offset": 3}, callback=lambda *args: answered.put(args))
        self.assertEqual(answered.get(timeout=PATIENCE_SECONDS), ({"offset": 3, "unread": len(DATA) - 3},))

    def test_is_refused_with_an_unknown_token(self):
        listener = self.listener_type(server.url, self.transports, auth={"token": "wrong"}, also=["connect_error"])
        with self.assertRaises(socketio.exceptions.ConnectionError):
            listener.connect()
        self.addCleanup(listener.close)
        name, error = listener.next()
        self.assertEqual((name, error["data"]["code"]), ("connect_error", "token_invalid"))


for client, listener_type in LISTENERS.items():
    for mode, transports in TRANSPORTS.items():
        name = f"{client}{mode}Test"
        globals()[name] = type(name, (Doors, unittest.TestCase), {"listener_type": listener_type, "transports": transports})

if __name__ == "__main__":
    unittest.main()
