// A stock Socket.IO client, unmodified, that keeps what it hears, in order, for the test to look at.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";

import { within } from "./wire.js";

export const TRANSPORTS = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };

/** Longer than any burst goes on. */
const EVENTS_MS = 100_000;

/** What a client keeps between two connections to come back from. */
export const CURSOR = /^ca1\.[A-Za-z0-9_.~-]{28}$/;

export const freshName = () => `c-${randomUUID()}`;

export class StockClient {
  /** Everything heard: `["connect", recovered]`, `["disconnect", reason]`, `["connect_error", error]`, and every event as it came. */
  heard = [];
  #waiting = new Set();

  /** `options` are the client's own. It connects at once, and is gone when the test ends. */
  constructor(t, io, url, options = {}) {
    const quickly = { reconnectionDelay: 50, reconnectionDelayMax: 200 };
    this.socket = io(url, { transports: ["websocket"], forceNew: true, ...quickly, ...options, autoConnect: false });
    this.socket.on("connect", () => this.#hear(["connect", this.socket.recovered === true]));
    this.socket.on("disconnect", (reason) => this.#hear(["disconnect", reason]));
    this.socket.on("connect_error", (error) => this.#hear(["connect_error", error]));
    this.socket.onAny((...event) => this.#hear(event));
    t.after(() => this.socket.disconnect());
    this.socket.connect();
  }

  #hear(event) {
    this.heard.push(event);
    this.#waiting.forEach((look) => look());
  }

  /** The arguments of each event of this name. */
  of(name) {
    return this.heard.filter(([heard]) => heard === name).map(([, ...args]) => args);
  }

  /** The data of every message. Each came with one argument, or with none for null. */
  get messages() {
    return this.of("message").map((args) => {
      assert.ok(args.length <= 1, `a message with ${args.length} arguments: ${JSON.stringify(args)}`);
      return args[0];
    });
  }

  /** Whether each connection, the first one included, was told that it recovered. */
  get recoveries() {
    return this.of("connect").map(([recovered]) => recovered);
  }

  /** Waits until `holds`, and gives what it returned. Patience starts anew with every event, but not for ever. */
  async until(what, holds) {
    const deadline = performance.now() + EVENTS_MS;
    for (;;) {
      const found = holds();
      if (found) return found;
      assert.ok(performance.now() < deadline, `for ${EVENTS_MS} ms events came, but not ${what}; the last heard: ${JSON.stringify(this.heard.slice(-5))}`);
      let look;
      const heard = new Promise((resolve) => this.#waiting.add((look = resolve)));
      try {
        await within(heard, `${what}; the last heard: ${JSON.stringify(this.heard.slice(-5))}`);
      } finally {
        this.#waiting.delete(look);
      }
    }
  }

  /** Waits for the `count`-th event of this name and gives its arguments. */
  nth(name, count = 1) {
    return this.until(`${name} number ${count}`, () => this.of(name)[count - 1]);
  }

  /** Waits for this very data. */
  async message(data) {
    const text = JSON.stringify(data);
    await this.until(`the message ${text}`, () => this.messages.some((heard) => JSON.stringify(heard) === text));
  }

  /** Waits until the latest connection has its first checkpoint: from here on it can be resumed. */
  async settled() {
    await this.until("a checkpoint of this connection", () => {
      const names = this.heard.map(([name]) => name);
      const at = names.lastIndexOf("connect");
      return at >= 0 && names.lastIndexOf("disconnect") < at && names.indexOf("checkpoint", at) > 0;
    });
  }

  /** Waits for this very data and the checkpoint behind it. */
  async kept(data) {
    await this.message(data);
    await this.until("the checkpoint behind the last message", () => this.heard.at(-1)[0] === "checkpoint");
  }

  /** Waits for the upgrade, where there is one to wait for. */
  async upgraded() {
    const { engine } = this.socket.io;
    if (this.socket.io.opts.transports.includes("websocket") && engine.transport.name !== "websocket") {
      await within(new Promise((resolve) => engine.once("upgrade", resolve)), "the upgrade to websocket");
    }
  }

  /** Emits and gives the arguments of the acknowledgement. */
  ask(event, argument) {
    return within(new Promise((resolve) => this.socket.emit(event, argument, (...args) => resolve(args))), `the ack of ${event}`);
  }

  /** Loses its network for as long as it takes to notice. */
  async lose(link) {
    const count = this.of("disconnect").length;
    link.cut();
    await this.nth("disconnect", count + 1);
    link.restore();
  }
}
