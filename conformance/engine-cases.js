// What Engine.IO 4 promises on any path: run against the bare echo and again underneath Socket.IO.

import assert from "node:assert/strict";
import { it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { request } from "./http.js";
import { Polling, Wire, within } from "./wire.js";

export const PING_INTERVAL_MS = 300;
/** Ten times what the official suites prescribe: a machine may be busy. */
export const PING_TIMEOUT_MS = 2_000;
export const PAYLOAD_MAX = 1_000_000;

// Timers may be coarse, and a busy machine late by any time that is not worth measuring; the intervals that are not asked for
// here, such as the default of 25 s, are outside these bounds all the same.
const EARLY_MS = 100;
const LATE_MS = 10_000;

const HEARTBEATS = 3;

/** Starts a poll and gives the server a moment to have it in hand: nothing on the wire announces that. A heartbeat is answered. */
export async function parkedPoll(session, options) {
  for (;;) {
    let answered;
    const answer = session.poll(options);
    // The test looks at it later; it must not count as unhandled meanwhile.
    answer.then(
      ({ body }) => (answered = body),
      () => {},
    );
    await sleep(20);
    if (answered !== "2") return { answer };
    await session.post("3");
  }
}

/** Opens the WebSocket of an upgrade and probes it; the caller decides whether to complete. */
export async function probe(base, path, session) {
  const wire = await Wire.open(base, { path, sid: session.sid });
  wire.send("2probe");
  await wire.expect("3probe");
  return wire;
}

/** Polls until a heartbeat comes. What answers the message that enters may come first. */
async function pinged(session) {
  for (;;) {
    const answer = await session.poll();
    assert.equal(answer.status, 200, answer.body);
    if (answer.body.split("\x1e").includes("2")) return;
  }
}

export function assertGone(answer) {
  assert.equal(answer.status, 400);
  assert.deepEqual(JSON.parse(answer.body), { code: 1, message: "Session ID unknown" });
}

export const REFUSED_HANDSHAKES = [
  // [what, query, code, message]
  ["no EIO", "transport=polling", 5, "Unsupported protocol version"],
  ["EIO=abc", "EIO=abc&transport=polling", 5, "Unsupported protocol version"],
  ["EIO=3", "EIO=3&transport=polling", 5, "Unsupported protocol version"],
  ["EIO=5", "EIO=5&transport=polling", 5, "Unsupported protocol version"],
  ["no transport", "EIO=4", 0, "Transport unknown"],
  ["transport=abc", "EIO=4&transport=abc", 0, "Transport unknown"],
  ["no query", "", 0, "Transport unknown"],
  ["an unknown sid", "EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA", 1, "Session ID unknown"],
  ["a sid given twice", "EIO=4&transport=polling&sid=a&sid=b", 1, "Session ID unknown"],
  ["a sid called like a property", "EIO=4&transport=polling&sid=__proto__", 1, "Session ID unknown"],
  ["a websocket handshake by plain GET", "EIO=4&transport=websocket", 3, "Bad request"],
];

/**
 * `server()` gives the running ConformanceServer; `path` is where Engine.IO answers; `enter` is the message without which whatever is
 * above Engine.IO closes a session soon: long ones begin with it.
 */
export function engineCases(server, path, { enter } = {}) {
  const base = () => server().url;
  const open = () => Polling.open(base(), path);
  const wire = async (t, options) => {
    const opened = await Wire.open(base(), { path, ...options });
    t.after(() => opened.close());
    return opened;
  };

  it("opens a polling session", async () => {
    const { handshake } = await open();
    const { sid, ...rest } = handshake;
    assert.equal(typeof sid, "string");
    assert.ok(sid.length >= 20);
    assert.deepEqual(rest, { upgrades: ["websocket"], pingInterval: PING_INTERVAL_MS, pingTimeout: PING_TIMEOUT_MS, maxPayload: PAYLOAD_MAX });
  });

  it("opens a websocket session, which has nothing to upgrade to", async (t) => {
    const { sid, ...rest } = (await wire(t)).handshake;
    assert.equal(typeof sid, "string");
    assert.deepEqual(rest, { upgrades: [], pingInterval: PING_INTERVAL_MS, pingTimeout: PING_TIMEOUT_MS, maxPayload: PAYLOAD_MAX });
  });

  it("never gives a session id twice", async () => {
    const sids = await Promise.all(Array.from({ length: 50 }, async () => (await open()).sid));
    assert.equal(new Set(sids).size, 50);
  });

  for (const [what, query, code, message] of REFUSED_HANDSHAKES) {
    it(`refuses ${what} over polling with code ${code}`, async () => {
      const answer = await request(`${base()}${path}?${query}`);
      assert.deepEqual([answer.status, answer.body], [400, `{"code":${code},"message":"${message}"}`]);
      assert.match(answer.headers["content-type"], /^application\/json/);
    });
  }

  for (const method of ["POST", "PUT", "DELETE"]) {
    it(`refuses a handshake by ${method}`, async () => {
      const answer = await request(`${base()}${path}?EIO=4&transport=polling`, { method });
      assert.deepEqual([answer.status, answer.body], [400, '{"code":2,"message":"Bad handshake method"}']);
    });
  }

  for (const [what, query] of REFUSED_HANDSHAKES.filter(([, query]) => query !== "EIO=4&transport=websocket")) {
    it(`refuses ${what} over websocket with 400, before any 101`, async () => {
      const refused = new Wire(`${base()}${path}?${query.replace("transport=polling", "transport=websocket")}`);
      const status = await within(Promise.race([refused.refused, refused.opened.then(() => "101")]), "a refusal");
      refused.close();
      assert.equal(status, 400);
    });
  }

  it("pings a polling session, one interval after the handshake and after each pong", async () => {
    let asked = performance.now(); // Before the server's interval begins, however long the answer takes to arrive.
    const session = await open();
    if (enter) await session.post(enter);
    for (let round = 0; round < HEARTBEATS; round += 1) {
      await pinged(session);
      assertAbout(performance.now() - asked, PING_INTERVAL_MS);
      asked = performance.now();
      assert.equal((await session.post("3")).body, "ok");
    }
  });

  it("pings a websocket session, one interval after the handshake and after each pong", async (t) => {
    let asked = performance.now();
    const opened = await wire(t, { pings: "show" });
    if (enter) opened.send(enter);
    for (let round = 0; round < HEARTBEATS; round += 1) {
      while ((await opened.next()) !== "2"); // First comes what answers `enter`.
      assertAbout(performance.now() - asked, PING_INTERVAL_MS);
      asked = performance.now();
      opened.send("3");
    }
  });

  it("closes a polling session that does not pong", async () => {
    const started = performance.now();
    const session = await open();
    if (enter) await session.post(enter);
    await pinged(session);
    const parked = await session.poll(); // Held until the server gives the session up.
    assert.ok(parked.status === 400 || parked.body === "1", parked.body);
    assertAbout(performance.now() - started, PING_INTERVAL_MS + PING_TIMEOUT_MS);
    assertGone(await session.poll());
  });

  it("closes a websocket session that does not pong", async (t) => {
    const started = performance.now();
    const opened = await wire(t, { pings: "show" });
    if (enter) opened.send(enter);
    await opened.closed();
    assertAbout(performance.now() - started, PING_INTERVAL_MS + PING_TIMEOUT_MS);
  });

  it("closes a polling session when the client says so, and releases its poll", async () => {
    let session, released;
    do {
      session = await open();
      const { answer } = await parkedPoll(session);
      assert.equal((await session.post("1")).status, 200);
      released = await answer;
    } while (released.body === "2"); // A heartbeat came first: once more.
    assert.deepEqual([released.status, released.body], [200, "6"]);
    assertGone(await session.poll());
    assertGone(await session.post("4late"));
  });

  it("closes a websocket session when the client says so", async (t) => {
    const opened = await wire(t);
    opened.send("1");
    await opened.closed();
  });

  it("forgets a websocket session whose connection is gone", async (t) => {
    const opened = await wire(t);
    opened.socket.close(1000);
    assert.equal(await opened.closed(), 1000);
    assertGone(await request(`${base()}${path}?EIO=4&transport=polling&sid=${opened.handshake.sid}`));
  });

  it("answers a probe and releases the poll with a noop", async (t) => {
    const session = await open();
    const upgrade = await probe(base(), path, session);
    t.after(() => upgrade.close());
    const answer = await session.answer();
    assert.deepEqual([answer.status, answer.body], [200, "6"]);
    upgrade.send("5");
    await stillAlive(upgrade);
  });

  it("refuses polling once upgraded, and the upgraded session lives on", async (t) => {
    const session = await open();
    const upgrade = await probe(base(), path, session);
    t.after(() => upgrade.close());
    upgrade.send("5");
    if (enter) upgrade.send(enter);
    await stillAlive(upgrade);
    const refusals = [await session.poll(), await session.post("4x")];
    for (const answer of refusals) {
      assert.equal(answer.status, 400);
      // "Bad request", or "Session ID unknown": the session is no longer one of polling.
      assert.ok([1, 3].includes(JSON.parse(answer.body).code), answer.body);
    }
    await stillAlive(upgrade);
  });

  it("refuses a second websocket once upgraded, and the upgraded session lives on", async (t) => {
    const session = await open();
    const upgrade = await probe(base(), path, session);
    t.after(() => upgrade.close());
    upgrade.send("5");
    if (enter) upgrade.send(enter);
    await stillAlive(upgrade);
    const second = new Wire(`${base()}${path}?EIO=4&transport=websocket&sid=${session.sid}`);
    await second.closed();
    await stillAlive(upgrade);
  });

  it("refuses a second websocket on a session that began as one", async (t) => {
    const first = await wire(t);
    const second = new Wire(`${base()}${path}?EIO=4&transport=websocket&sid=${first.handshake.sid}`);
    await second.closed();
    await stillAlive(first);
  });

  it("answers a preflight for pages of other origins", async () => {
    const headers = { origin: "https://app.example.com", "access-control-request-method": "POST", "access-control-request-headers": "content-type" };
    const preflight = await request(`${base()}${path}?EIO=4&transport=polling`, { method: "OPTIONS", headers });
    assert.ok([200, 204].includes(preflight.status), String(preflight.status));
    assertAllows(preflight, headers.origin);
    assert.match(preflight.headers["access-control-allow-methods"], /POST/);
    assert.match(preflight.headers["access-control-allow-headers"], /content-type|\*/i);
  });

  it("lets pages of other origins read answers, refusals too", async () => {
    const headers = { origin: "https://app.example.com" };
    assertAllows(await request(`${base()}${path}?EIO=4&transport=polling`, { headers }), headers.origin);
    assertAllows(await request(`${base()}${path}?EIO=4&transport=polling&sid=unknown`, { headers }), headers.origin);
  });
}

function assertAllows(answer, origin) {
  assert.ok(["*", origin].includes(answer.headers["access-control-allow-origin"]), JSON.stringify(answer.headers));
}

function assertAbout(elapsed, expected) {
  assert.ok(elapsed > expected - EARLY_MS && elapsed < expected + LATE_MS, `${elapsed} ms instead of ${expected} ms`);
}

/** A further heartbeat proves the session alive on any path, with an application above it or without. */
async function stillAlive({ socket }) {
  await within(
    new Promise((resolve, reject) => {
      socket.on("message", (data) => data.toString() === "2" && resolve());
      socket.once("close", () => reject(new Error("the session was closed")));
    }),
    "a heartbeat",
  );
}
