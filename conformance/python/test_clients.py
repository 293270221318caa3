"""The matrix of python-socketio: Client and AsyncClient, over every transport, through one user's story."""

import json
import queue
import unittest
import uuid

from listener import PATIENCE_SECONDS, AsyncListener, SyncListener
from server import Server

LISTENERS = {"Client": SyncListener, "AsyncClient": AsyncListener}
TRANSPORTS = {"Polling": ["polling"], "Websocket": ["websocket"], "Upgrade": ["polling", "websocket"]}

server = None


def setUpModule():
    global server
    server = Server()


def tearDownModule():
    server.stop()


class Story:
    """What each combination below goes through."""

    listener_type = None
    transports = None

    def connect(self):
        listener = self.listener_type(server.url, self.transports)
        self.addCleanup(listener.close)
        listener.connect()
        listener.greeted()
        return listener

    def expect(self, listener, *events):
        for event in events:
            self.assertEqual(listener.next(), event)

    def join(self, listener, channel, as_text=False):
        argument = {"token": server.token(channel)}
        listener.emit("join_channel", json.dumps(argument) if as_text else argument)
        self.expect(listener, ("clientevent", {"data": f"Connected to {channel}"}))

    def joined(self, as_text=False):
        listener, channel = self.connect(), f"c-{uuid.uuid4()}"
        self.join(listener, channel, as_text)
        return listener, channel

    def test_connects_over_the_transport_it_was_told_to_use(self):
        listener = self.connect()
        self.assertEqual(listener.transport(), "polling" if self.transports == ["polling"] else "websocket")

    def test_joins_with_an_object_and_receives(self):
        self.receives(*self.joined())

    def test_joins_with_a_json_string_and_receives(self):
        self.receives(*self.joined(as_text=True))

    def receives(self, listener, channel):
        # One at a time: python-socketio runs each handler in a thread or task of its own and promises no order.
        for text in ['"hello"', "[1, [2]]", '{"a": {"b": null}}', "0", "false", "123456789012345678901234567890"]:
            server.publish(channel, text)
            self.expect(listener, ("message", json.loads(text)))

    def test_receives_each_publication_once(self):
        listener, channel = self.joined()
        count = 50
        for number in range(count):
            server.publish(channel, str(number))
        self.assertEqual(sorted(listener.next() for _ in range(count)), [("message", number) for number in range(count)])
        server.publish(channel, '"the last"')
        self.expect(listener, ("message", "the last"))

    def test_has_its_join_acknowledged(self):
        listener, channel = self.connect(), f"c-{uuid.uuid4()}"
        acknowledged = queue.Queue()
        listener.emit("join_channel", {"token": server.token(channel)}, callback=lambda *args: acknowledged.put(args))
        self.assertEqual(acknowledged.get(timeout=PATIENCE_SECONDS), ())
        self.expect(listener, ("clientevent", {"data": f"Connected to {channel}"}))

    def test_is_disconnected_by_a_wrong_token(self):
        listener = self.connect()
        listener.emit("join_channel", {"token": "wrong"})
        self.expect(listener, ("disconnect", listener.client.reason.SERVER_DISCONNECT))
        self.assertFalse(listener.client.connected)

    def test_receives_64_kilobytes(self):
        listener, channel = self.joined()
        text = "é😀x" * (65_536 // 7)
        server.publish(channel, json.dumps(text, ensure_ascii=False))
        self.expect(listener, ("message", text))

    def test_receives_any_character(self):
        listener, channel = self.joined()
        for text in ['"😀👩‍👩‍👧 e\u0301 \u2028\u2029 \ufeff"', '"\\u0000\\u001e\\ud83d\\ude00\\u2028"', '{"ключ": "值"}']:
            server.publish(channel, text)
            self.expect(listener, ("message", json.loads(text)))

    def test_comes_back_by_itself_after_a_restart(self):
        self.comes_back_after(server.restart)

    def test_comes_back_by_itself_after_a_kill(self):
        self.comes_back_after(server.crash_and_restart)

    def comes_back_after(self, outage):
        listener, channel = self.joined()
        outage()
        name, reason = listener.next()
        self.assertEqual(name, "disconnect")
        self.assertNotEqual(reason, listener.client.reason.SERVER_DISCONNECT, "which would keep the client away")
        listener.greeted()
        self.join(listener, channel)
        server.publish(channel, '"again"')
        self.expect(listener, ("message", "again"))


for client, listener_type in LISTENERS.items():
    for mode, transports in TRANSPORTS.items():
        name = f"{client}{mode}Test"
        globals()[name] = type(name, (Story, unittest.TestCase), {"listener_type": listener_type, "transports": transports})

if __name__ == "__main__":
    unittest.main()
