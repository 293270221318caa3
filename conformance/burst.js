// A backend in full flow: it publishes until every message is accepted, with the same Idempotency-Key each time it has to ask again.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { within } from "./wire.js";

/** How the n-th message of a writer looks, so that whoever hears it knows where it belongs. */
export const PAYLOADS = {
  objects: { write: (writer, n) => ({ writer, n }), read: ({ writer, n }) => [writer, n] },
  // A stock client takes a string at the end of any event for its offset.
  "bare strings": { write: (writer, n) => `${writer} ${n}`, read: (text) => [text.split(" ")[0], Number(text.split(" ")[1])] },
};

const RUN_MS = 90_000;
const RETRY_MS = 5;

export class Burst {
  accepted = 0;
  /** The offsets each writer was given, in its order. */
  offsets = {};
  #waiting = [];

  /** `channels` may name a channel several times: each entry is a writer of its own, which publishes `each` messages one by one. */
  constructor(server, channels, { payload = "objects", each = 100 } = {}) {
    this.server = server;
    this.payload = PAYLOADS[payload];
    this.writers = channels.map((channel, index) => ({ channel, name: `w${index}` }));
    this.each = each;
    this.total = each * channels.length;
  }

  run() {
    this.finished = within(Promise.all(this.writers.map((writer) => this.#write(writer))), "all to be accepted", RUN_MS);
    this.finished.catch(() => {}); // Whoever awaits it hears of it.
    return this;
  }

  async #write({ channel, name }) {
    this.offsets[name] = [];
    for (let n = 0; n < this.each; n += 1) {
      const { offset } = await untilAccepted(this.server, channel, this.payload.write(name, n));
      this.offsets[name].push(offset);
      this.accepted += 1;
      this.#waiting = this.#waiting.filter(({ count, resolve }) => this.accepted < count || resolve());
    }
  }

  /** Resolves once `count` messages are accepted: somewhere in the middle. */
  async reached(count) {
    if (this.accepted < count) await Promise.race([new Promise((resolve) => this.#waiting.push({ count, resolve })), this.finished]);
    assert.ok(this.accepted < this.total, "the burst was over before its middle: make it longer");
  }

  /** Waits until `client` has heard all of it and something published afterwards, and checks that nothing was lost, repeated or moved. */
  async arrivedAt(client) {
    await this.finished;
    await client.until(`${this.total} messages`, () => client.of("message").length >= this.total);
    const ends = this.writers.map(({ name }) => this.payload.write(`${name}-end`, 0));
    for (const [index, { channel }] of this.writers.entries()) await untilAccepted(this.server, channel, ends[index]);
    for (const end of ends) await client.message(end);
    const heard = client.messages.map(this.payload.read);
    const expected = Array.from({ length: this.each }, (_, n) => n);
    for (const { name } of this.writers) {
      assert.deepEqual(heard.filter(([writer]) => writer === name).map(([, n]) => n), expected, `what ${name} published; gaps: ${JSON.stringify(client.of("gap"))}`);
    }
    assert.equal(heard.length, this.total + ends.length, "and nothing else");
  }
}

async function untilAccepted(server, channel, data) {
  const key = randomUUID();
  for (;;) {
    const answer = await publish(server, channel, data, { "idempotency-key": key }).catch(() => undefined);
    if (answer?.status === 201 || answer?.status === 200) return answer.json;
    assert.ok([undefined, 503, 504].includes(answer?.status), `${answer?.status} ${answer?.body}`);
    await sleep(RETRY_MS);
  }
}

/** One publication by /v1, whatever comes of it. */
export function publish(server, channel, data, headers = {}) {
  return server.v1("POST", `/channels/${encodeURIComponent(channel)}/messages`, { data }, headers);
}

/** Publishes each of `all`, in order, and gives the answers. */
export async function publishAll(server, channel, all) {
  const answers = [];
  for (const data of all) {
    const answer = await publish(server, channel, data);
    assert.equal(answer.status, 201, answer.body);
    answers.push(answer.json);
  }
  return answers;
}
