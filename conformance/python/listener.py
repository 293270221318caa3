"""python-socketio's two clients behind one blocking face, so that one story serves both."""

import asyncio
import queue
import threading

import socketio

PATIENCE_SECONDS = 15
# What may be heard before it is heard that the client is in.
OTHERS_MAX = 20
QUICKLY = {"reconnection_delay": 0.05, "reconnection_delay_max": 0.3}


class Listener:
    """Keeps what the client hears, in order, until the test asks for it.

    The handlers have a fixed arity on purpose: that is how people write them, and a server that sent one
    argument more or less would break them.
    """

    def __init__(self, url, transports, auth=None, also=()):
        """`also` names more events to hear, each by a handler with one argument."""
        self._events = queue.Queue()
        self._set_aside = []
        self._url = url
        self._transports = transports
        self._auth = auth
        self._also = also

    def _register(self, client):
        hear = self._events.put
        client.on("connect", lambda: hear(("connect",)))
        client.on("disconnect", lambda reason: hear(("disconnect", reason)))
        client.on("clientevent", lambda data: hear(("clientevent", data)))
        client.on("message", self._message_handler())
        for name in self._also:
            client.on(name, lambda data, name=name: hear((name, data)))

    def _message_handler(self):
        def on_message(data):
            self._events.put(("message", data))

        return on_message

    def greeted(self):
        """Waits for what everybody hears who comes in. The client runs its handlers concurrently, so these two may be heard either
        way round, and after what follows them, which is left for `next`."""
        missing = [("clientevent", {"data": "Connected", "count": 0}), ("connect",)]
        others = []
        while missing:
            event = self.next()
            if event in missing:
                missing.remove(event)
            elif len(others) < OTHERS_MAX:
                others.append(event)
            else:
                raise AssertionError(f"{missing} is missing, but heard was {others}")
        self._set_aside = others

    def next(self):
        if self._set_aside:
            return self._set_aside.pop(0)
        try:
            return self._events.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            raise AssertionError(f"the client heard nothing for {PATIENCE_SECONDS} s") from None


class SyncListener(Listener):
    """socketio.Client, which works in threads."""

    def connect(self):
        self.client = socketio.Client(**QUICKLY)
        self._register(self.client)
        self.client.connect(self._url, transports=self._transports, auth=self._auth, wait_timeout=PATIENCE_SECONDS)

    def transport(self):
        return self.client.transport()

    def emit(self, event, data, callback=None):
        self.client.emit(event, data, callback=callback)

    def close(self):
        self.client.shutdown()


class AsyncListener(Listener):
    """socketio.AsyncClient, on an event loop of its own in a thread of its own."""

    def connect(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._connect())

    async def _connect(self):
        self.client = socketio.AsyncClient(**QUICKLY)
        self._register(self.client)
        await self.client.connect(self._url, transports=self._transports, auth=self._auth, wait_timeout=PATIENCE_SECONDS)

    def _message_handler(self):
        async def on_message(data):
            self._events.put(("message", data))

        return on_message

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_SECONDS)

    def transport(self):
        return self.client.transport()

    def emit(self, event, data, callback=None):
        self._run(self.client.emit(event, data, callback=callback))

    def close(self):
        if self._loop.is_closed():
            return  # The test closed it already.
        self._run(self._shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()

    async def _shutdown(self):
        await self.client.shutdown()
        # The client leaves tasks behind that wait for a connection which is gone.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
