// Engine.IO 4 over the bare echo: handshake, framing, heartbeat, close, upgrade, limits.

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { after, before, describe, it } from "node:test";

import { assertGone, engineCases, parkedPoll, PAYLOAD_MAX, PING_INTERVAL_MS, PING_TIMEOUT_MS, probe } from "./engine-cases.js";
import { ConformanceServer } from "./server.js";
import { Polling, Wire } from "./wire.js";

const PATH = "/engine.io/";

let server;
before(async () => (server = await ConformanceServer.start({ pingTimeout: PING_TIMEOUT_MS })));
after(() => server?.stop());

const open = () => Polling.open(server.url, PATH);
const wireFor = async (t, options) => {
  const wire = await Wire.open(server.url, { path: PATH, ...options });
  t.after(() => wire.close());
  return wire;
};

describe("sessions", () => engineCases(() => server, PATH));

describe("an upgrade", () => {
  // Some clients do not wait for their POST. Packets of both transports were once handled at the same time.
  it("waits for a POST that is on its way, and handles its packets first", async (t) => {
    const session = await open();
    const wire = await probe(server.url, PATH, session);
    const socket = net.connect(new URL(server.url).port, "127.0.0.1");
    t.after(() => (wire.close(), socket.destroy()));
    await once(socket, "connect");
    const { pathname, search } = new URL(session.url);
    socket.write(`POST ${pathname}${search} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\n4post`);
    await new Promise((resolve) => setTimeout(resolve, 100));
    wire.send("5");
    wire.send("4wire");
    await new Promise((resolve) => setTimeout(resolve, 200));
    socket.write("1");
    await wire.expect("4post1", "4wire");
  });
});

describe("messages over polling", () => {
  const bodies = {
    "one text packet": "4hello",
    "several text packets": "4test1\x1e4test2\x1e4test3",
    "text and binary": "4hello\x1ebAQIDBA==",
    "an empty text packet": "4",
    "an empty binary packet between others": "4a\x1eb\x1e4b",
    "text beyond ASCII": "4é😀\u2028\u0000",
    "every padding of base64": "bAQ==\x1ebAQI=\x1ebAQID",
    "a text that looks like packets": "42probe\x1e4bAQID\x1e44",
  };
  for (const [what, body] of Object.entries(bodies)) {
    it(`echoes ${what} in one poll`, async () => {
      const session = await open();
      const pushed = await session.post(body);
      assert.deepEqual([pushed.status, pushed.body], [200, "ok"]);
      const polled = await session.answer();
      assert.deepEqual([polled.status, polled.body], [200, body]);
      assert.match(polled.headers["content-type"], /^text\/plain; ?charset=utf-8$/i);
    });
  }

  it("delivers to a poll that was waiting", async () => {
    let answered;
    do {
      const session = await open();
      const { answer } = await parkedPoll(session);
      await session.post("4now");
      answered = await answer;
    } while (answered.body === "2"); // A heartbeat came first: once more.
    assert.equal(answered.body, "4now");
  });

  it("joins what several posts left into one poll, in order", async () => {
    const session = await open();
    for (const n of [1, 2, 3, 4]) await session.post(`4${n}`);
    assert.equal((await session.answer()).body, "41\x1e42\x1e43\x1e44");
  });

  for (const body of ["abc", "", "\x1e", "4a\x1e", "7", "9", "4a\x1eabc"]) {
    it(`closes the session on the malformed payload ${JSON.stringify(body)}`, async () => {
      const session = await open();
      const pushed = await session.post(body).catch(() => ({ status: 400 })); // The connection may be cut as well.
      assert.equal(pushed.status, 400);
      assertGone(await session.poll());
    });
  }

  it("closes the session when two polls overlap", async () => {
    const session = await open();
    const answers = await Promise.all([session.poll(), session.poll()]);
    const [accepted, refused] = answers.sort((a, b) => a.status - b.status);
    assert.deepEqual([accepted.status, accepted.body], [200, "1"]);
    assert.equal(refused.status, 400);
    assertGone(await session.poll());
  });

  it("closes the session when a poll is cut off", async () => {
    const session = await open();
    const controller = new AbortController();
    await parkedPoll(session, { signal: controller.signal });
    controller.abort();
    // Seen before the end of the other connection, this poll is a second one; seen after it, one of nobody.
    assert.equal((await session.poll()).status, 400);
    assertGone(await session.poll());
  });
});

describe("messages over websocket", () => {
  it("echoes text", async (t) => {
    const wire = await wireFor(t);
    for (const text of ["4hello", "4", "4é😀\u2028\u0000", "4a\x1e4b"]) {
      wire.send(text);
      await wire.expect(text);
    }
  });

  it("echoes binary", async (t) => {
    const wire = await wireFor(t);
    for (const bytes of [Buffer.from([1, 2, 3, 4]), Buffer.alloc(0), Buffer.alloc(70_000, 0xff), Buffer.from("4")]) {
      wire.send(bytes);
      await wire.expect(bytes);
    }
  });

  it("keeps text and binary in order", async (t) => {
    const wire = await wireFor(t);
    for (let n = 0; n < 200; n += 1) wire.send(n % 2 ? Buffer.from([n]) : `4${n}`);
    for (let n = 0; n < 200; n += 1) await wire.expect(n % 2 ? Buffer.from([n]) : `4${n}`);
  });

  for (const frame of ["abc", "", "7", "9x"]) {
    it(`closes the session on the malformed packet ${JSON.stringify(frame)}`, async (t) => {
      const wire = await wireFor(t);
      wire.send(frame);
      await wire.closed();
      assertGone(await (await sessionOf(wire)).poll());
    });
  }

  it("puts fragments together, with a ping between them", async (t) => {
    const wire = await wireFor(t);
    const pong = new Promise((resolve) => wire.socket.once("pong", resolve));
    wire.send("4hel", { fin: false });
    wire.socket.ping("between");
    wire.send("lo", { fin: false });
    wire.send("", { fin: true });
    assert.equal((await pong).toString(), "between");
    await wire.expect("4hello");
  });

  it("puts characters together that fragments cut", async (t) => {
    const wire = await wireFor(t);
    const bytes = Buffer.from("4😀");
    wire.send(bytes.subarray(0, 3), { binary: false, fin: false });
    wire.send(bytes.subarray(3), { binary: false, fin: true });
    await wire.expect("4😀");
  });

  const closeCodes = {
    "text that is not UTF-8": [1007, (wire) => wire.send(Buffer.from([0x34, 0xff]), { binary: false })],
    "a frame without mask": [1002, (wire) => wire.send("4hello", { mask: false })],
    "a reserved opcode": [1002, (wire) => wire.socket._socket.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0]))],
    "a reserved bit": [1002, (wire) => wire.socket._socket.write(Buffer.from([0x91, 0x80, 0, 0, 0, 0]))],
    "a continuation of nothing": [1002, (wire) => wire.socket._socket.write(Buffer.from([0x80, 0x80, 0, 0, 0, 0]))],
    "a fragmented ping": [1002, (wire) => wire.socket._socket.write(Buffer.from([0x09, 0x80, 0, 0, 0, 0]))],
    "a message over the limit": [1009, (wire) => wire.send(`4${"x".repeat(PAYLOAD_MAX)}`)],
    "fragments that add up over the limit": [1009, (wire) => {
      wire.send(`4${"x".repeat(PAYLOAD_MAX / 2)}`, { fin: false });
      wire.send("x".repeat(PAYLOAD_MAX / 2), { fin: true });
    }],
  };
  for (const [what, [code, misbehave]] of Object.entries(closeCodes)) {
    it(`closes with ${code} on ${what}`, async (t) => {
      const wire = await wireFor(t);
      misbehave(wire);
      assert.equal(await wire.closed(), code);
    });
  }

  it("answers a closing handshake", async (t) => {
    const wire = await wireFor(t);
    wire.socket.close(1001, "leaving");
    assert.ok([1000, 1001].includes(await wire.closed()));
  });
});

describe("limits", () => {
  it("takes exactly the limit over websocket", async (t) => {
    const wire = await wireFor(t);
    const text = `4${"x".repeat(PAYLOAD_MAX - 1)}`;
    wire.send(text);
    assert.ok((await wire.next()) === text);
  });

  it("takes exactly the limit over polling", async () => {
    const session = await open();
    const text = `4${"x".repeat(PAYLOAD_MAX - 1)}`;
    assert.equal((await session.post(text)).status, 200);
    assert.ok((await session.answer()).body === text);
  });

  it("answers 413 to a post over the limit", async () => {
    const session = await open();
    const answer = await session.post(`4${"x".repeat(PAYLOAD_MAX)}`);
    assert.equal(answer.status, 413);
  });
});

describe("upgrade", () => {
  it("keeps polling alive when the websocket leaves before the probe", async () => {
    const session = await open();
    const wire = await Wire.open(server.url, { path: PATH, sid: session.sid });
    wire.socket.close();
    await wire.closed();
    await assertEchoes(session);
  });

  it("keeps polling alive when the websocket leaves after the probe", async () => {
    const session = await open();
    const wire = await probe(server.url, PATH, session);
    wire.socket.close();
    await wire.closed();
    await assertEchoes(session);
  });

  for (const frame of ["2wrong", "4hello", "abc"]) {
    it(`drops a websocket that opens with ${frame} instead of a probe, and keeps polling alive`, async () => {
      const session = await open();
      const wire = await Wire.open(server.url, { path: PATH, sid: session.sid });
      wire.send(frame);
      await wire.closed();
      await assertEchoes(session);
    });
  }

  it("can be tried again after it failed", async (t) => {
    const session = await open();
    const failed = await probe(server.url, PATH, session);
    failed.socket.close();
    await failed.closed();
    const wire = await probe(server.url, PATH, session);
    t.after(() => wire.close());
    wire.send("5");
    wire.send("4hello");
    await wire.expect("4hello");
  });

  it("hands over what polling had not fetched yet", async (t) => {
    const session = await open();
    await session.post("4a\x1ebAQID");
    const wire = await probe(server.url, PATH, session);
    t.after(() => wire.close());
    wire.send("5");
    wire.send("4b");
    await wire.expect("4a", Buffer.from([1, 2, 3]), "4b");
  });

  it("loses, doubles and reorders nothing while messages flow both ways", async () => {
    const sessions = 200;
    const atOnce = 8;
    let heldUp = 0;
    for (let done = 0; done < sessions; ) {
      const outcomes = await Promise.allSettled(Array.from({ length: atOnce }, (_, n) => upgradeUnderTraffic(done + n)));
      const failures = outcomes.filter(({ status }) => status === "rejected").map(({ reason }) => reason);
      const wrong = failures.find((reason) => !(reason instanceof HeldUp));
      if (wrong) throw wrong;
      if (failures.length === 0) done += atOnce;
      else assert.ok((heldUp += 1) < 20, failures[0].message);
    }
  });
});

async function sessionOf(wire) {
  const session = new Polling();
  session.url = `${server.url}${PATH}?EIO=4&transport=polling&sid=${wire.handshake.sid}`;
  return session;
}

async function assertEchoes(session) {
  await session.post("4alive");
  assert.deepEqual(await session.packets(1), ["4alive"]);
}

/** The session is rightly gone: its pong came too late for the heartbeats that the suites prescribe, on a machine that is busy. */
class HeldUp extends Error {}

/** Upgrades the way clients do while numbered messages go out and their echoes come back. */
async function upgradeUnderTraffic(seed) {
  let heard = performance.now();
  const session = await open();
  const received = [];
  let sent = 0;
  const numbered = (count) => Array.from({ length: count }, () => `4${sent++}`);

  // Asked when the session is gone. Whatever else goes wrong is wrong.
  const judge = () => {
    const silence = performance.now() - heard;
    if (silence > PING_INTERVAL_MS + PING_TIMEOUT_MS) throw new HeldUp(`no pong for ${silence} ms`);
  };
  const taken = (answer) => {
    if (answer.status === 400) judge();
    assert.equal(answer.status, 200, answer.body);
    return answer;
  };

  let [probed, isClosed] = [false, false];
  const poll = async () => {
    while (!probed) {
      for (const packet of taken(await session.poll()).body.split("\x1e")) {
        if (packet === "2") await post("3");
        else if (packet !== "6") received.push(packet);
      }
    }
  };
  // Posts may not overlap either, so heartbeats and messages take turns.
  let posting = Promise.resolve();
  const post = (body) => {
    posting = posting.then(async () => {
      const sentAt = performance.now();
      taken(await session.post(body));
      if (body === "3") heard = sentAt;
    });
    return posting;
  };
  const push = async () => {
    while (!probed) await post(numbered(1 + ((sent + seed) % 3)).join("\x1e"));
  };

  const flowing = Promise.all([poll(), push()]);
  flowing.catch(() => {}); // Awaited below; a failure must not surface twice.
  while (sent < seed % 7) await posting;
  const wire = await probe(server.url, PATH, session).catch(async (error) => {
    await flowing; // It knows whether the session is gone.
    throw error;
  }).finally(() => (probed = true));
  await flowing; // The last poll comes back, with messages or with a noop, and so does the last post.
  wire.send("5");
  for (const packet of numbered(10 + (seed % 5))) wire.send(packet);

  wire.socket.on("message", (data) => data.toString() === "2" && (heard = performance.now()));
  wire.ended.then(() => (isClosed = true));
  while (received.length < sent) {
    const packet = await wire.next().catch((error) => {
      if (isClosed) judge();
      throw error;
    });
    received.push(packet);
  }
  assert.deepEqual(received, Array.from({ length: sent }, (_, n) => `4${n}`));
  wire.close();
}
