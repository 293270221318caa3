// A reader of server-sent events, as browsers read them.

import assert from "node:assert/strict";
import http from "node:http";

import { within } from "./wire.js";

export class EventStream {
  comments = 0;
  #arrived = [];
  #wake = () => {};
  #ended;
  #outgoing;

  /** `path` begins behind /v1. With `key: false` the server's key is not sent. */
  static async open(t, server, path, { headers = {}, key = true } = {}) {
    const stream = new EventStream();
    const all = { accept: "text/event-stream", ...(key ? { authorization: server.key } : {}), ...headers };
    const outgoing = http.get(`${server.url}/v1${path}`, { headers: all, agent: false });
    t.after(() => outgoing.destroy());
    const opened = new Promise((resolve, reject) => outgoing.once("response", resolve).once("error", reject));
    const incoming = await within(opened, "the stream to open");
    outgoing.on("error", () => {}); // A server that is killed cuts the stream; `closed` tells.
    stream.status = incoming.statusCode;
    stream.headers = incoming.headers;
    stream.#outgoing = outgoing;
    stream.#ended = new Promise((resolve) => incoming.once("close", resolve));
    let rest = "";
    incoming.setEncoding("utf8").on("error", () => {}).on("data", (text) => {
      rest += text;
      if (rest.endsWith("\r")) return; // Perhaps half of a line break.
      const blocks = rest.replace(/\r\n?/g, "\n").split("\n\n");
      rest = blocks.pop();
      blocks.forEach((block) => stream.#take(block));
      stream.#wake();
    });
    return stream;
  }

  #take(block) {
    const event = {};
    const data = [];
    for (const line of block.split("\n")) {
      const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (name === "") this.comments += 1;
      else if (name === "data") data.push(value);
      else event[name] = value;
    }
    if (data.length > 0) this.#arrived.push({ ...event, data: data.join("\n") });
  }

  /** Goes away. */
  abandon() {
    this.#outgoing.destroy();
  }

  closed() {
    return within(this.#ended, "the stream to be closed by the server");
  }

  async next() {
    while (this.#arrived.length === 0) await within(new Promise((resolve) => (this.#wake = resolve)), "an event of the stream");
    return this.#arrived.shift();
  }

  /** Takes the next events, which must carry this JSON, and gives the id of the last. */
  async expect(...all) {
    let last;
    for (const json of all) assert.equal((last = await this.next()).data, json);
    return last?.id;
  }
}
