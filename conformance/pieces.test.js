// The same request, however it arrives: as a whole, in pieces, close behind another one. The answer is the same.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Server } from "./server.js";
import { freshName } from "./stock.js";
import { within } from "./wire.js";

let server;

before(async () => (server = await Server.start()));
after(() => server?.stop());

/** A connection that carries what the test writes, and collects what comes back. */
class Raw {
  bytes = Buffer.alloc(0);

  static async open(t) {
    const raw = new Raw();
    raw.socket = connect({ port: server.port, host: "127.0.0.1", noDelay: true });
    raw.socket.on("data", (chunk) => (raw.bytes = Buffer.concat([raw.bytes, chunk])));
    raw.ended = once(raw.socket, "close");
    t.after(() => raw.socket.destroy());
    await once(raw.socket, "connect");
    return raw;
  }

  /** Writes pieces that arrive apart. */
  async write(...pieces) {
    for (const [index, piece] of pieces.entries()) {
      if (index > 0) await sleep(20);
      this.socket.write(piece);
    }
  }

  /** The next answer: its status, the names of its headers as they came, and its body. */
  async answer() {
    const arrive = async () => {
      for (;;) {
        const end = this.bytes.indexOf("\r\n\r\n");
        if (end >= 0) {
          const [line, ...headers] = this.bytes.subarray(0, end).toString().split("\r\n");
          const status = Number(line.split(" ")[1]);
          const length = Number(headers.find((header) => header.startsWith("content-length:"))?.split(":")[1] ?? 0);
          if (this.bytes.length >= end + 4 + length) {
            const body = this.bytes.subarray(end + 4, end + 4 + length).toString();
            this.bytes = this.bytes.subarray(end + 4 + length);
            return { status, line, names: headers.map((header) => header.split(":")[0]), body };
          }
        }
        await sleep(2);
      }
    };
    return within(arrive(), "an answer");
  }
}

function request(method, path, body, headers = "") {
  return `${method} ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: ${server.key}\r\n${headers}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

const post = (path, body, headers) => request("POST", path, body, headers);

const GET = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

// Of a kind that the server reads in another way, and so is everything behind it.
const OTHER = "OPTIONS /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n";

/** How a request can arrive: what is written, and how many answers come before its own. */
const WAYS = {
  "as a whole": (text) => [[text], 0],
  "in two pieces": (text) => [[text.slice(0, 60), text.slice(60)], 0],
  "with its body apart": (text) => [text.split(/(?<=\r\n\r\n)/), 0],
  "in very many pieces": (text) => [[...text.match(/.{1,9}/gs)], 0],
  "behind another request": (text) => [[GET, text], 1],
  "together with another request": (text) => [[GET + text], 1],
  "behind one of another kind": (text) => [[OTHER, text], 1],
  "together with one of another kind": (text) => [[OTHER + text], 1],
  "twice on the same connection": (text) => [[text, text], 1],
  "twice at once": (text) => [[text + text], 1],
};

const ROUTES = [
  { name: "the seed's route", path: (channel) => `/message/${channel}`, body: '{"message":1}', status: 200 },
  { name: "version 1", path: (channel) => `/v1/channels/${channel}/messages`, body: '{"data":1}', status: 201 },
  { name: "version 1, volatile", path: (channel) => `/v1/channels/${channel}/messages`, body: '{"data":1,"volatile":true}', status: 200 },
  { name: "a bad body", path: (channel) => `/v1/channels/${channel}/messages`, body: '{"data":', status: 400 },
  { name: "a bad name", path: () => "/message/%00", body: '{"message":1}', status: 400 },
  { name: "the route of a token", path: (channel) => `/channel/${channel}`, body: "", status: 200 },
  { name: "a route that is none", path: () => "/v1/nothing", body: "{}", status: 404 },
  { name: "the opening of a session", method: "GET", path: () => "/socket.io/?EIO=4&transport=polling", body: "", status: 200 },
  { name: "a session that is none", method: "GET", path: () => "/socket.io/?EIO=4&transport=polling&sid=none", body: "", status: 400 },
  { name: "a transport that is none", method: "GET", path: () => "/socket.io/?EIO=4&transport=pigeon", body: "", status: 400 },
  { name: "packets for a session that is none", path: () => "/socket.io/?EIO=4&transport=polling&sid=none", body: "40", status: 400 },
];

const unnamed = ({ status, line, names, body }) => ({
  status,
  line,
  names,
  body: body.replace(/"(id|epoch|cursor|request_id|channel|token|sid)": ?"[^"]*"/g, '"$1":""').replace(/"offset":\d+/, '"offset":0'),
});

for (const { name, method = "POST", path, body, status } of ROUTES) {
  describe(`a request by ${name}`, () => {
    let expected;
    for (const [way, pieces] of Object.entries(WAYS)) {
      it(`is answered the same ${way}`, async (t) => {
        const raw = await Raw.open(t);
        const [parts, before] = pieces(request(method, path(freshName()), body));
        await raw.write(...parts);
        for (let n = 0; n < before; n += 1) await raw.answer();
        const answer = unnamed(await raw.answer());
        assert.equal(answer.status, status);
        expected ??= answer;
        assert.deepEqual(answer, expected);
      });
    }
  });
}

describe("a publication", () => {
  it("is the last on its connection if it says so", async (t) => {
    for (const way of ["as a whole", "behind another request", "behind one of another kind"]) {
      const raw = await Raw.open(t);
      const [parts, before] = WAYS[way](post(`/message/${freshName()}`, '{"message":1}', "Connection: close\r\n"));
      await raw.write(...parts);
      for (let n = 0; n < before; n += 1) await raw.answer();
      const { status, names } = await raw.answer();
      assert.equal(status, 200);
      assert.ok(names.includes("connection"), `${names}`);
      await within(raw.ended, "the server to close");
    }
  });

  it("that never arrives as a whole is none, and says so", async (t) => {
    const channel = freshName();
    const raw = await Raw.open(t);
    await raw.write(post(`/v1/channels/${channel}/messages`, '{"data":1}').slice(0, -1));
    const { status } = await within(raw.answer(), "the server to give up", 20_000);
    assert.equal(status, 408);
  });

  it("of which two readers could see different things is refused or read in one way", async (t) => {
    const channel = freshName();
    const attack = `POST /message/${channel} HTTP/1.1\r\nHost: x\r\nAuthorization: ${server.key}\r\n`;
    const chunked = "10\r\n{\"message\":\"c\"}\n\r\n0\r\n\r\n";
    for (const [headers, body, statuses] of [
      ["Content-Length: 13\r\nTransfer-Encoding: chunked\r\n", chunked, [200, 400]],
      ["Content-Length: 13\r\nContent-Length: 14\r\n", '{"message":1}', [400]],
      ["Content-Length: +13\r\n", '{"message":1}', [400]],
      ["Content-Length : 13\r\n", '{"message":1}', [400]],
      ["Content-Length: 13, 13\r\n", '{"message":1}', [400]],
    ]) {
      const raw = await Raw.open(t);
      await raw.write(`${attack}${headers}\r\n${body}`);
      const { status } = await raw.answer();
      assert.ok(statuses.includes(status), `${JSON.stringify(headers)}: ${status}`);
    }
  });
});

describe("polling", () => {
  /** A session that is open, by connections that the test writes. */
  async function session(t) {
    const raw = await Raw.open(t);
    await raw.write(request("GET", "/socket.io/?EIO=4&transport=polling", ""));
    const path = `/socket.io/?EIO=4&transport=polling&sid=${JSON.parse((await raw.answer()).body.slice(1)).sid}`;
    return { raw, path, poll: request("GET", path, "") };
  }

  for (const [way, pieces] of Object.entries(WAYS).filter(([way]) => !way.startsWith("twice"))) {
    it(`waits and is answered ${way}, and so is what brings packets`, async (t) => {
      const { path, poll } = await session(t);
      const polls = await Raw.open(t);
      const [parts, before] = pieces(poll);
      await polls.write(...parts);
      for (let n = 0; n < before; n += 1) await polls.answer();
      await sleep(50);
      assert.equal(polls.bytes.length, 0, "nothing is there yet");
      const posts = await Raw.open(t);
      const [packets, others] = pieces(post(path, "40"));
      await posts.write(...packets);
      for (let n = 0; n < others; n += 1) await posts.answer();
      assert.equal((await posts.answer()).body, "ok");
      assert.match((await polls.answer()).body, /^40\{"sid":/u);
    });
  }

  it("answers what is sent behind a poll while that waits", async (t) => {
    const { raw, path, poll } = await session(t);
    await raw.write(poll);
    await sleep(50);
    await raw.write(GET, post(path, "3"));
    await sleep(50);
    assert.equal(raw.bytes.length, 0, "answers keep their order");
    const posts = await Raw.open(t);
    await posts.write(post(path, "40"));
    assert.equal((await posts.answer()).body, "ok");
    assert.match((await raw.answer()).body, /^40\{"sid":/u);
    assert.match((await raw.answer()).body, /"status": "ok"/u);
    assert.equal((await raw.answer()).body, "ok");
  });

  it("ends with a client that hangs up while it waits, whatever it sent meanwhile", async (t) => {
    for (const sent of ["", GET, GET + GET]) {
      const { raw, path, poll } = await session(t);
      await raw.write(poll);
      await sleep(50);
      if (sent !== "") await raw.write(sent);
      raw.socket.destroy();
      const posts = await Raw.open(t);
      let status;
      // Few, so that it does not end because of these.
      for (const pause of [20, 50, 100, 200, 400, 800]) {
        await sleep(pause);
        await posts.write(post(path, "3"));
        ({ status } = await posts.answer());
        if (status === 400) break;
      }
      assert.equal(status, 400, "the session is over");
    }
  });
});

/** A masked text frame. */
function frame(text) {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([0x81, 0x80 | bytes.length, 0, 0, 0, 0]), bytes]);
}

describe("a WebSocket", () => {
  const UPGRADE =
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

  let expected;
  for (const way of Object.keys(WAYS).filter((way) => !way.startsWith("twice") && !way.includes("body"))) {
    it(`opens ${way}, and hears what is close behind`, async (t) => {
      const raw = await Raw.open(t);
      const [parts, before] = WAYS[way](UPGRADE);
      await raw.write(...parts.slice(0, -1), Buffer.concat([Buffer.from(parts.at(-1)), frame("40")]));
      for (let n = 0; n < before; n += 1) await raw.answer();
      const { line, names } = await raw.answer();
      assert.equal(line, "HTTP/1.1 101 Switching Protocols");
      expected ??= names;
      assert.deepEqual(names, expected);
      const joined = async () => {
        while (!raw.bytes.includes('40{"sid":')) await sleep(2);
      };
      await within(joined(), "the namespace to open");
    });
  }

  // A proxy may believe that a client left HTTP, and let through whatever it sends: nothing is read behind.
  it("that is refused ends the connection", async (t) => {
    for (const [from, to, status] of [
      ["EIO=4", "EIO=3", 400],
      ["Version: 13", "Version: 12", 426],
    ]) {
      const raw = await Raw.open(t);
      await raw.write(UPGRADE.replace(from, to) + UPGRADE);
      assert.equal((await raw.answer()).status, status);
      await within(raw.ended, "the server to close");
      assert.equal(raw.bytes.length, 0);
    }
  });
});
