// /v1 behind a bad network: readers that do not read, and publishers that hang up.

import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { publishAll } from "./burst.js";
import { Server } from "./server.js";
import { freshName } from "./stock.js";

const DEADLINE_MS = 20_000;

let server;
// More than the kernel takes for a client that does not read.
const CONFIG = '[history]\nmax_messages = 400\nmax_bytes = "64MiB"\n';
const SIZE = 60_000;

before(async () => (server = await Server.start([], { config: CONFIG })));
after(() => server?.stop());

/** A stream whose bytes are taken from the kernel only when the test says so. */
class Reader {
  text = "";

  static async open(t, channel) {
    const reader = new Reader();
    reader.socket = connect(server.port, "127.0.0.1");
    t.after(() => reader.socket.destroy());
    reader.socket.write(`GET /v1/channels/${channel}/stream HTTP/1.1\r\nHost: x\r\nAuthorization: ${server.key}\r\n\r\n`);
    await new Promise((resolve) => reader.socket.once("readable", resolve));
    return reader;
  }

  /** Reads until message `n` has come. */
  async readUntil(n) {
    this.socket.setEncoding("utf8").on("data", (chunk) => (this.text += chunk));
    const deadline = Date.now() + DEADLINE_MS;
    while (!this.text.includes(`data: {"n":${n},`)) {
      assert.ok(Date.now() < deadline, `message ${n} should have come; the end of what did: ${this.text.slice(-200)}`);
      await sleep(10);
    }
    this.seen = [...this.text.matchAll(/data: \{"n":(\d+),/g)].map(([, number]) => Number(number));
    this.gaps = [...this.text.matchAll(/event: gap\ndata: (.*)/g)].map(([, data]) => JSON.parse(data));
  }
}

const messages = (count) => Array.from({ length: count }, (_, n) => ({ n, filler: "x".repeat(SIZE) }));

describe("a stream whose client does not read", () => {
  it("gets everything that is kept, once and in order, as soon as it does", async (t) => {
    const channel = freshName();
    const reader = await Reader.open(t, channel);
    await publishAll(server, channel, messages(400));
    await reader.readUntil(399);
    assert.deepEqual(reader.seen, Array.from({ length: 400 }, (_, n) => n));
    assert.deepEqual(reader.gaps, []);
  });

  it("is told of what is not kept any more", async (t) => {
    const channel = freshName();
    const reader = await Reader.open(t, channel);
    await publishAll(server, channel, messages(900));
    await reader.readUntil(899);
    assert.ok(reader.seen.length < 900);
    assert.ok(reader.seen.every((n, index) => index === 0 || n > reader.seen[index - 1]), `${reader.seen}`);
    assert.deepEqual(reader.gaps[0], { channel, reason: "trimmed" });
  });

  it("leaves its channel when it hangs up", async (t) => {
    const channel = freshName();
    const subscribers = async () => (await server.v1("GET", `/channels/${channel}`)).json.subscribers;
    const reader = await Reader.open(t, channel);
    assert.equal(await subscribers(), 1);
    reader.socket.destroy();
    const deadline = Date.now() + DEADLINE_MS;
    while ((await subscribers()) > 0) assert.ok(Date.now() < deadline, "it should have left");
  });
});

describe("a publisher that hangs up", () => {
  it("has published all of its batch or nothing, and a repeat completes it", async () => {
    const channel = freshName();
    const rounds = 30;
    const batch = (round) => JSON.stringify({ messages: Array.from({ length: 10 }, (_, item) => ({ channel, data: { round, item } })) });
    for (let round = 0; round < rounds; round += 1) {
      const body = batch(round);
      const socket = connect(server.port, "127.0.0.1").on("error", () => {});
      socket.write(`POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: ${server.key}\r\nIdempotency-Key: ${round}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
      await sleep(round % 6); // Any moment will do: each must hold.
      socket.destroy();
    }
    const stored = async () => (await server.v1("GET", `/channels/${channel}/messages?limit=1000`)).json.messages.map(({ data }) => data);
    const whole = (all) => all.every(({ round, item }, index) => item === index % 10 && round === all[index - item].round);
    const first = await stored();
    assert.ok(first.length % 10 === 0 && whole(first), JSON.stringify(first));
    for (let round = 0; round < rounds; round += 1) {
      const { json } = await server.v1("POST", "/messages", batch(round), { "idempotency-key": `${round}` });
      assert.equal(json.failed, 0);
    }
    const second = await stored();
    assert.ok(second.length === rounds * 10 && whole(second));
  });
});
