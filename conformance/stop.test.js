// SIGTERM ends the server cleanly and in time, whoever is still connected: within the ten seconds that
// container runtimes leave before they kill.

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { describe, it } from "node:test";

import { parkedPoll } from "./engine-cases.js";
import { Server } from "./server.js";
import { Polling, Wire } from "./wire.js";

const connectedPolling = async (server) => {
  const session = await Polling.open(server.url);
  await session.post("40");
  await session.packets(2);
  return session;
};

// Each leaves something behind, and may return a check of what that saw of the end.
const leftBehind = {
  nothing: async () => {},
  "a connected websocket": async (server) => {
    const wire = await Wire.open(server.url);
    wire.send("40");
    await wire.next();
    await wire.next();
    return async () => {
      const last = await wire.next().catch(() => "closed");
      assert.notEqual(last, "41", "a client that is sent 41 does not come back by itself");
      assert.equal(await wire.closed(), 1006, "after a close frame the Java client does not come back for 45 seconds");
    };
  },
  "a websocket without a CONNECT": async (server) => {
    const wire = await Wire.open(server.url);
    return () => wire.closed();
  },
  "a client whose poll waits": async (server) => {
    const session = await connectedPolling(server);
    const { answer } = await parkedPoll(session);
    return async () => {
      const { body } = await answer.catch(() => ({ body: "cut off" }));
      assert.notEqual(body, "1", "python-socketio takes an Engine.IO close for a farewell and does not come back by itself");
    };
  },
  "a polling client that went away": async (server) => void (await connectedPolling(server)),
  "a polling client that said goodbye": async (server) => void (await (await connectedPolling(server)).post("1")),
  "a polling session without a CONNECT": async (server) => void (await Polling.open(server.url)),
  "an upgrade that stopped half-way": async (server) => {
    const session = await Polling.open(server.url);
    const wire = await Wire.open(server.url, { sid: session.sid });
    wire.send("2probe");
    await wire.expect("3probe");
    return () => wire.closed();
  },
  "an idle HTTP connection": async (server) => void (await (await fetch(server.url)).text()),
  "a TCP connection that says nothing": async (server) => {
    const socket = net.connect(server.port, "127.0.0.1");
    socket.on("error", () => {});
    await once(socket, "connect");
    return () => socket.destroy();
  },
  "half of a request": async (server) => {
    const socket = net.connect(server.port, "127.0.0.1");
    socket.on("error", () => {});
    await once(socket, "connect");
    socket.write("POST /message/demo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n");
    return () => socket.destroy();
  },
  "half of a polling POST": async (server) => {
    const session = await Polling.open(server.url);
    const socket = net.connect(server.port, "127.0.0.1");
    socket.on("error", () => {});
    await once(socket, "connect");
    const path = session.url.slice(server.url.length);
    const seen = once(socket, "close");
    socket.resume();
    socket.write(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n4`);
    return () => seen;
  },
};

describe("SIGTERM", () => {
  for (const [what, leave] of Object.entries(leftBehind)) {
    it(`ends the server with ${what} left behind`, async () => {
      const server = await Server.start();
      const check = await leave(server);
      await server.stop();
      assert.doesNotMatch(server.log, /the time to stop is over/, "the end waited for somebody who is not there");
      await check?.();
    });
  }

  it("waits a moment for the rest of a request", async () => {
    const server = await Server.start();
    const body = '{"message":"the rest"}';
    const head = `POST /message/demo HTTP/1.1\r\nHost: x\r\nAuthorization: ${server.key}\r\nContent-Length: ${body.length}\r\n\r\n`;
    const sends = [
      [head.slice(0, 40), head.slice(40) + body],
      [head, body],
      [head + body.slice(0, 5), body.slice(5)],
      // hyper has this one, and it counts as under way: as long as its rest is missing, the server does not end.
      [head.replace(/Content-Length: \d+/u, "Transfer-Encoding: chunked"), `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`],
    ];
    const wires = [];
    for (const [beginning] of sends) {
      const socket = net.connect(server.port, "127.0.0.1");
      await once(socket, "connect");
      socket.write(beginning);
      wires.push(socket);
    }
    // Everything has arrived when a later request is answered, or soon after.
    await fetch(server.url);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const stopped = server.stop();
    await new Promise((resolve) => setTimeout(resolve, 50));
    for (const [number, socket] of wires.entries()) {
      let answer = "";
      socket.setEncoding("utf8").on("data", (data) => void (answer += data));
      socket.write(sends[number][1]);
      await once(socket, "close");
      assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/u);
      assert.match(answer, /"success": true/u);
    }
    await stopped;
    assert.doesNotMatch(server.log, /the time to stop is over/);
  });

  it("waits for the rest of a request on a slow line, though nothing else is under way", async () => {
    const server = await Server.start();
    const body = '{"message":"the rest"}';
    const socket = net.connect(server.port, "127.0.0.1");
    await once(socket, "connect");
    socket.write(`POST /message/demo HTTP/1.1\r\nHost: x\r\nAuthorization: ${server.key}\r\nContent-Length: ${body.length}\r\n\r\n{`);
    await fetch(server.url);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const stopped = server.stop();
    let answer = "";
    socket.setEncoding("utf8").on("data", (data) => void (answer += data));
    // Two seconds are what it has.
    await new Promise((resolve) => setTimeout(resolve, 600));
    socket.write(body.slice(1));
    await once(socket, "close");
    assert.match(answer, /"success": true/u);
    await stopped;
  });
});
