// The wire itself: Engine.IO over a bare WebSocket and over bare HTTP, so that tests see every byte.

import assert from "node:assert/strict";

import { WebSocket } from "ws";

import { request } from "./http.js";

const PATIENCE_MS = 15_000;

/** Rejects when `promise` takes longer than anything that works would. */
export function within(promise, what, ms = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** One WebSocket whose frames wait in order until they are asked for. */
export class Wire {
  #arrived = [];
  #waiting = [];
  #over;

  /** `pings: "show"` hands heartbeats to the test; otherwise they are answered unseen. */
  constructor(url, { pings = "answer" } = {}) {
    this.socket = new WebSocket(url.replace(/^http/, "ws"));
    this.socket.on("message", (data, isBinary) => {
      if (!isBinary && data.toString() === "2" && pings === "answer") this.socket.send("3");
      else this.#push({ frame: isBinary ? data : data.toString() });
    });
    this.opened = new Promise((resolve) => this.socket.once("open", resolve));
    this.refused = new Promise((resolve) => this.socket.once("unexpected-response", (_, answer) => resolve(answer.statusCode)));
    this.refused.then(() => this.socket.terminate());
    this.socket.on("error", (error) => (this.error = error));
    this.ended = new Promise((resolve) => this.socket.once("close", (code) => resolve(code)));
    this.ended.then((code) => {
      this.#over = new Error(`the connection is closed (${code}${this.error ? `, ${this.error.message}` : ""})`);
      this.#waiting.splice(0).forEach(({ reject }) => reject(this.#over));
    });
  }

  /** Opens and takes the Engine.IO handshake, which is left in `handshake`. */
  static async open(base, { path = "/socket.io/", sid, pings } = {}) {
    const wire = new Wire(`${base}${path}?EIO=4&transport=websocket${sid ? `&sid=${sid}` : ""}`, { pings });
    await within(Promise.race([wire.opened, wire.ended]), "the WebSocket to open");
    if (sid) return wire;
    const open = await wire.next();
    assert.equal(open[0], "0");
    wire.handshake = JSON.parse(open.slice(1));
    return wire;
  }

  #push(item) {
    const waiter = this.#waiting.shift();
    if (waiter) waiter.resolve(item.frame);
    else this.#arrived.push(item);
  }

  send(frame, options) {
    this.socket.send(frame, options);
  }

  /** The next frame: a string, or a Buffer for a binary one. */
  next() {
    const item = this.#arrived.shift();
    if (item) return Promise.resolve(item.frame);
    if (this.#over) return Promise.reject(this.#over);
    return within(new Promise((resolve, reject) => this.#waiting.push({ resolve, reject })), "a frame");
  }

  async expect(...frames) {
    for (const frame of frames) assert.deepEqual(await this.next(), frame);
  }

  /** The close code, once the far end has closed. */
  closed() {
    return within(this.ended, "the connection to be closed by the server");
  }

  close() {
    this.socket.terminate();
  }
}

/** One Engine.IO session over HTTP long-polling. */
export class Polling {
  static async open(base, path = "/socket.io/") {
    const session = new Polling();
    session.url = `${base}${path}?EIO=4&transport=polling`;
    const answer = await request(session.url);
    assert.equal(answer.status, 200, answer.body);
    assert.equal(answer.body[0], "0");
    session.handshake = JSON.parse(answer.body.slice(1));
    session.sid = session.handshake.sid;
    session.url += `&sid=${session.sid}`;
    return session;
  }

  poll(options) {
    return within(request(this.url, options), "a poll to be answered", 30_000);
  }

  post(body, headers = { "content-type": "text/plain;charset=UTF-8" }) {
    return within(request(this.url, { method: "POST", headers, body }), "a post to be answered");
  }

  /** The first answer to a poll that has more than heartbeats, which are answered, without these. */
  async answer() {
    for (;;) {
      const answer = await this.poll();
      const packets = answer.body.split("\x1e");
      const others = packets.filter((packet) => packet !== "2");
      if (others.length < packets.length) await this.post("3");
      if (others.length > 0) return { ...answer, body: others.join("\x1e") };
    }
  }

  /** Polls, answering heartbeats, until `count` packets that are neither heartbeat nor noop have come. */
  async packets(count) {
    const packets = [];
    while (packets.length < count) {
      const answer = await this.poll();
      assert.equal(answer.status, 200, answer.body);
      for (const packet of answer.body.split("\x1e")) {
        if (packet === "2") await this.post("3");
        else if (packet !== "6") packets.push(packet);
      }
    }
    return packets;
  }
}
