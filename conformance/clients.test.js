// The matrix: every generation of the stock JavaScript client, over every transport, through one user's story.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";

import { io as io30 } from "socket.io-client-3.0";
import { io as io31 } from "socket.io-client-3.1";
import { io as io40 } from "socket.io-client-4.0";
import { io as io4x } from "socket.io-client-4.x";

import { Server } from "./server.js";
import { within } from "./wire.js";

const CLIENTS = { "3.0": io30, 3.1: io31, "4.0": io40, "4.x": io4x };
const TRANSPORTS = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

/** A stock client that keeps what it hears, in order, until the test asks for it. */
class Listener {
  #events = [];
  #wake = () => {};

  constructor(io, transports) {
    const quickly = { reconnectionDelay: 50, reconnectionDelayMax: 200 };
    this.socket = io(server.url, { transports, forceNew: true, autoConnect: false, ...quickly });
    for (const name of ["connect", "disconnect", "clientevent", "message"]) {
      this.socket.on(name, (...args) => {
        this.#events.push([name, ...args]);
        this.#wake();
      });
    }
    this.socket.connect();
  }

  get transport() {
    return this.socket.io.engine.transport.name;
  }

  async next() {
    while (this.#events.length === 0) {
      await within(new Promise((resolve) => (this.#wake = resolve)), "the client to hear something");
    }
    return this.#events.shift();
  }

  async expect(...events) {
    for (const event of events) assert.deepEqual(await this.next(), event);
  }

  async greeted() {
    await this.expect(["connect"], ["clientevent", { data: "Connected", count: 0 }]);
  }

  async join(channel, asText = false) {
    const argument = { token: await server.token(channel) };
    this.socket.emit("join_channel", asText ? JSON.stringify(argument) : argument);
    await this.expect(["clientevent", { data: `Connected to ${channel}` }]);
  }

  engineClosed() {
    const engine = this.socket.io.engine;
    if (engine.readyState === "closed") return Promise.resolve();
    return within(new Promise((resolve) => engine.once("close", resolve)), "the client to close its transport");
  }

  /** Resolves once an upgrade has gone through. */
  upgraded() {
    const engine = this.socket.io.engine;
    if (this.transport === "websocket") return Promise.resolve();
    return within(new Promise((resolve) => engine.once("upgrade", resolve)), "the upgrade to websocket");
  }
}

for (const [version, io] of Object.entries(CLIENTS)) {
  for (const [mode, transports] of Object.entries(TRANSPORTS)) {
    describe(`socket.io-client ${version}, ${mode}`, () => storyOf(io, transports, mode));
  }
}

function storyOf(io, transports, mode) {
  const channelName = () => `c-${randomUUID()}`;
  const connect = async (t) => {
    const listener = new Listener(io, transports);
    t.after(() => listener.socket.disconnect());
    await listener.greeted();
    if (mode === "upgrade") await listener.upgraded();
    return listener;
  };

  it("connects, over the transport it was told to use", async (t) => {
    const listener = await connect(t);
    assert.equal(listener.transport, mode === "polling" ? "polling" : "websocket");
    assert.equal(typeof listener.socket.id, "string");
    assert.notEqual(listener.socket.id, listener.socket.io.engine.id, "the session id is a secret of its own");
  });

  for (const [what, asText] of [["an object", false], ["a JSON string", true]]) {
    it(`joins with ${what} and receives in order`, async (t) => {
      const listener = await connect(t);
      const channel = channelName();
      await listener.join(channel, asText);
      for (const json of ['"hello"', "[1,[2]]", '{"a":{"b":null}}', "0", "false"]) await server.publish(channel, json);
      await listener.expect(["message", "hello"], ["message", [1, [2]]], ["message", { a: { b: null } }], ["message", 0], ["message", false]);
      await server.publish(channel, "null");
      await listener.expect(["message"]);
    });
  }

  it("has its join acknowledged", async (t) => {
    const listener = await connect(t);
    const channel = channelName();
    const token = await server.token(channel);
    const acknowledged = new Promise((resolve) => listener.socket.emit("join_channel", { token }, (...args) => resolve(args)));
    assert.deepEqual(await within(acknowledged, "the ack"), []);
    await listener.expect(["clientevent", { data: `Connected to ${channel}` }]);
  });

  it("is disconnected by a wrong token, and stays away", async (t) => {
    const listener = await connect(t);
    listener.socket.emit("join_channel", { token: "wrong" });
    const [name, reason] = await listener.next();
    assert.deepEqual([name, reason], ["disconnect", "io server disconnect"]);
    assert.equal(listener.socket.connected, false);
    assert.equal(listener.socket.active ?? false, false, "a stock client does not come back from this by itself");
  });

  it("can connect again after it was disconnected", async (t) => {
    const listener = await connect(t);
    listener.socket.emit("join_channel", { token: "wrong" });
    assert.equal((await listener.next())[0], "disconnect");
    await listener.engineClosed(); // Clients before 4.x trip over a connect() while their old transport still closes.
    listener.socket.connect();
    await listener.greeted();
    const channel = channelName();
    await listener.join(channel);
    await server.publish(channel, 1);
    await listener.expect(["message", 1]);
  });

  it("receives 64 kB", async (t) => {
    const listener = await connect(t);
    const channel = channelName();
    await listener.join(channel);
    const text = "é😀x".repeat(65_536 / 7);
    await server.publish(channel, JSON.stringify(text));
    const [name, received] = await listener.next();
    assert.equal(name, "message");
    assert.ok(received === text, `${received.length} of ${text.length} characters`);
  });

  it("receives any character", async (t) => {
    const listener = await connect(t);
    const channel = channelName();
    await listener.join(channel);
    for (const json of ['"😀👩‍👩‍👧 e\u0301 \u2028\u2029 \ufeff"', '"\\u0000\\u001e\\ud83d\\ude00\\u2028"', '{"ключ":"值"}']) {
      await server.publish(channel, json);
      await listener.expect(["message", JSON.parse(json)]);
    }
  });

  it("receives each publication once, in order, while it connects and upgrades", async (t) => {
    const listener = new Listener(io, transports);
    t.after(() => listener.socket.disconnect());
    await listener.greeted();
    const channel = channelName();
    await listener.join(channel);
    const count = 60;
    for (let n = 0; n < count; n += 1) await server.publish(channel, n);
    for (let n = 0; n < count; n += 1) await listener.expect(["message", n]);
    if (mode === "upgrade") await listener.upgraded();
  });

  for (const [what, outage] of [["a restart", "restart"], ["a kill -9", "crashAndRestart"]]) {
    it(`comes back by itself after ${what} of the server`, async (t) => {
      const listener = await connect(t);
      const channel = channelName();
      await listener.join(channel);
      await server[outage]();
      const [name, reason] = await listener.next();
      assert.equal(name, "disconnect");
      assert.notEqual(reason, "io server disconnect", "which would keep the client away");
      await listener.greeted();
      await listener.join(channel);
      await server.publish(channel, '"again"');
      await listener.expect(["message", "again"]);
    });
  }
}
