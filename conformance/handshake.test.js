// The handshake door frame by frame: what a CONNECT with `auth` is answered, and what each kind of return gets.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { publish, publishAll } from "./burst.js";
import { Server } from "./server.js";
import { CURSOR, freshName } from "./stock.js";
import { Polling, Wire, within } from "./wire.js";

const GREETING = '42["clientevent",{"data":"Connected","count":0}]';

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);
const tokenOf = (channel) => server.token(channel);
const messages = (...all) => all.map((data) => `42["message",${JSON.stringify(data)}]`);

/** The cursor in a checkpoint. */
function cursorIn(frame) {
  const cursor = /^42\["checkpoint","([^"]+)"\]$/.exec(frame)?.[1];
  assert.match(cursor ?? frame, CURSOR);
  return cursor;
}

/** A connection that sent this auth and was let in and greeted. Its ids are in `wire.sid` and `wire.pid`. */
async function connect(t, auth, to = server) {
  const wire = await Wire.open(to.url);
  t.after(() => wire.close());
  wire.send(`40${JSON.stringify(auth)}`);
  const answer = await wire.next();
  assert.match(answer, /^40\{/);
  Object.assign(wire, JSON.parse(answer.slice(2)));
  await wire.expect(GREETING);
  return wire;
}

/** Reads up to a checkpoint with at least so many other frames before it: those frames, and the cursor in it. Behind text there is
 * one of its own, because stock clients take the text for it. */
async function flushed(wire, least = 0) {
  const frames = [];
  for (;;) {
    const frame = await wire.next();
    if (!frame.startsWith('42["checkpoint",')) frames.push(frame);
    else if (frames.length >= least) return { frames, cursor: cursorIn(frame) };
  }
}

/** Reads until this frame has come, and gives everything before it that is no checkpoint. */
async function upTo(wire, last) {
  const frames = [];
  for (;;) {
    const frame = await wire.next();
    if (frame === last) return frames;
    if (!frame.startsWith('42["checkpoint",')) frames.push(frame);
  }
}

const gap = (channel, reason) => `42["gap",${JSON.stringify({ channel, reason })}]`;

describe("a CONNECT with a token", () => {
  it("is answered with sid, pid, the greeting and a checkpoint, in this order", async (t) => {
    const wire = await connect(t, { token: await tokenOf(freshName()) });
    assert.equal(typeof wire.pid, "string");
    assert.notEqual(wire.pid, wire.sid);
    assert.notEqual(wire.pid, wire.handshake.sid, "the session id is a secret of its own");
    cursorIn(await wire.next());
  });

  it("gets messages exactly as the seed sends them, each flush ended by one checkpoint in the same answer to a poll", async (t) => {
    const channel = freshName();
    const session = await Polling.open(server.url);
    t.after(() => session.post("1"));
    await session.post(`40${JSON.stringify({ token: await tokenOf(channel) })}`);
    await session.packets(3);
    const data = ['{"z":1,"a":[ 1e400 ]}', '"hello"', "12345678901234567890"];
    for (const json of data) await server.publish(channel, json);
    await server.v1("POST", "/messages", { messages: Array.from({ length: 60 }, (_, n) => ({ channel, data: `bare ${n}` })) });
    const heard = [];
    while (heard.length < 63) {
      const packets = (await session.poll()).body.split("\x1e").filter((packet) => packet !== "6");
      assert.ok(packets.length <= 16, `${packets.length} packets in one answer`);
      if (packets.includes("2")) await session.post("3");
      const flush = packets.filter((packet) => packet !== "2");
      if (flush.length > 0) cursorIn(flush.at(-1)); // A client that dies after this answer must not keep a bare string for its cursor.
      heard.push(...flush.filter((packet) => !packet.startsWith('42["checkpoint"')));
    }
    assert.deepEqual(heard.slice(0, 3), data.map((json) => `42["message",${json}]`));
    assert.deepEqual(heard.slice(3), messages(...Array.from({ length: 60 }, (_, n) => `bare ${n}`)));
  });

  it("has a cursor of the same size in a hundred channels", async (t) => {
    const channels = Array.from({ length: 100 }, freshName);
    const wire = await connect(t, { tokens: await Promise.all(channels.map(tokenOf)) });
    const { cursor } = await flushed(wire);
    for (const channel of [channels[0], channels[99]]) {
      await publishAll(server, channel, [channel]);
      const live = await flushed(wire);
      assert.deepEqual(live.frames, messages(channel));
      assert.equal(live.cursor.length, cursor.length);
    }
  });

  it("gets no pid with resume:false, and its messages all the same", async (t) => {
    const channel = freshName();
    const wire = await connect(t, { token: await tokenOf(channel), resume: false });
    assert.equal(wire.pid, undefined);
    await publishAll(server, channel, ["here"]);
    assert.deepEqual(await upTo(wire, ...messages("here")), []);
  });

  it("takes the same token twice for one channel", async (t) => {
    const channel = freshName();
    const token = await tokenOf(channel);
    const wire = await connect(t, { tokens: [token, token] });
    await flushed(wire);
    await publishAll(server, channel, [1]);
    assert.deepEqual((await flushed(wire)).frames, messages(1));
  });

  for (const [what, since] of [["all", () => "all"], ["a cursor", (answers) => answers[1].cursor]]) {
    it(`replays since ${what}, then a checkpoint, then live`, async (t) => {
      const channel = freshName();
      const answers = await publishAll(server, channel, ["one", { two: 2 }, 3]);
      const wire = await connect(t, { token: await tokenOf(channel), since: since(answers) });
      const replayed = what === "all" ? ["one", { two: 2 }, 3] : [3];
      assert.deepEqual((await flushed(wire, replayed.length)).frames, messages(...replayed));
      await publishAll(server, channel, [4]);
      assert.deepEqual((await flushed(wire)).frames, messages(4));
    });
  }

  it("replays what its consumer has not confirmed", async (t) => {
    const channel = freshName();
    await publishAll(server, channel, [1, 2, 3]);
    assert.equal((await server.v1("PUT", `/channels/${channel}/consumers/phone`, { offset: 2 })).status, 200);
    const wire = await connect(t, { token: await tokenOf(channel), since: "unread", consumer: "phone" });
    assert.deepEqual((await flushed(wire)).frames, messages(3));
  });
});

describe("a CONNECT without one", () => {
  for (const auth of ["", "{}", '{"session":"of another library"}']) {
    it(`is the seed's: 40${auth}`, async (t) => {
      const wire = await Wire.open(server.url);
      t.after(() => wire.close());
      wire.send(`40${auth}`);
      assert.match(await wire.next(), /^40\{"sid":"[^"]+"\}$/);
      await wire.expect(GREETING);
      const channel = freshName();
      wire.send(`42["join_channel",{"token":"${await tokenOf(channel)}"}]`);
      await wire.expect(`42["clientevent",{"data":"Connected to ${channel}"}]`);
      await publishAll(server, channel, [1, 2]);
      await wire.expect(...messages(1, 2)); // No checkpoint between them.
    });
  }
});

describe("a return with pid and offset", () => {
  /** Two messages heard and kept, then gone. */
  const gone = async (t, { to = server } = {}) => {
    const channel = freshName();
    const token = await to.token(channel);
    const wire = await connect(t, { token }, to);
    await flushed(wire);
    await publishAll(to, channel, ["a", "b"]);
    let cursor;
    for (let heard = 0; heard < 2; ) {
      const flush = await flushed(wire);
      heard += flush.frames.length;
      cursor = flush.cursor;
    }
    wire.close();
    return { channel, token, pid: wire.pid, cursor };
  };

  it("gets its pid again and everything missed, before anything new", async (t) => {
    const { channel, token, pid, cursor } = await gone(t);
    await publishAll(server, channel, ["c", "d"]);
    const wire = await connect(t, { pid, offset: cursor, token });
    assert.equal(wire.pid, pid);
    assert.deepEqual((await flushed(wire, 2)).frames, messages("c", "d"));
    await publishAll(server, channel, ["e"]);
    assert.deepEqual((await flushed(wire)).frames, messages("e"));
  });

  it("can come back from the same place again and again, days of restarts later", async (t) => {
    const { channel, token, pid, cursor } = await gone(t);
    for (let n = 0; n < 3; n += 1) {
      await publishAll(server, channel, [n]);
      await (n % 2 ? server.restart() : server.crashAndRestart());
      const wire = await connect(t, { pid, offset: cursor, token });
      assert.equal(wire.pid, pid);
      assert.deepEqual((await flushed(wire)).frames, messages(...Array.from({ length: n + 1 }, (_, m) => m)));
      wire.close();
    }
  });

  it("takes over: the connection it left behind is closed, without a farewell", async (t) => {
    const channel = freshName();
    const token = await tokenOf(channel);
    const stale = await connect(t, { token });
    const { cursor } = await flushed(stale);
    const wire = await connect(t, { pid: stale.pid, offset: cursor, token });
    assert.equal(wire.pid, stale.pid);
    const last = await stale.next().catch(() => "closed");
    assert.equal(last, "closed", "a client that is sent 41 does not come back by itself");
    await stale.closed();
    await flushed(wire);
    await publishAll(server, channel, ["once"]);
    assert.deepEqual((await flushed(wire)).frames, messages("once"));
  });

  it("takes over also if something is missing and it gets another pid", async (t) => {
    const channel = freshName();
    const token = await tokenOf(channel);
    const stale = await connect(t, { token });
    await flushed(stale);
    const wire = await connect(t, { pid: stale.pid, offset: "no cursor", token });
    assert.notEqual(wire.pid, stale.pid);
    const last = await stale.next().catch(() => "closed");
    assert.equal(last, "closed", "nobody is there any more");
  });

  it("leaves one connection where several come back at once", async (t) => {
    // Many tokens make it likely that they are judged at the same time.
    const tokens = await Promise.all(range(1, 100).map(() => tokenOf(freshName())));
    const { pid, cursor } = await connect(t, { tokens }).then(async (wire) => ({ pid: wire.pid, ...(await flushed(wire)) }));
    for (let round = 1; round <= 15; round += 1) {
      const wires = await Promise.all(range(1, 4).map(() => Wire.open(server.url)));
      let open = wires.length;
      const closed = new Promise((resolve) => wires.forEach((wire) => wire.ended.then(() => (open -= 1) === 1 && resolve())));
      for (const wire of wires) wire.send(`40${JSON.stringify({ tokens, pid, offset: cursor })}`);
      await within(closed, "all but one to be closed", 5000);
      await delay(20);
      assert.equal(open, 1, "the last one stays");
      wires.forEach((wire) => wire.close());
    }
  });

  it("may leave and come in again on one connection, while it is still being served", async (t) => {
    const channel = freshName();
    const token = await tokenOf(channel);
    await publishAll(server, channel, ["1", "2", "3"]);
    const wire = await connect(t, { token, since: "all" });
    wire.send("41");
    wire.send(`40${JSON.stringify({ token, since: "all" })}`);
    await upTo(wire, GREETING);
    assert.deepEqual((await flushed(wire, 3)).frames, messages("1", "2", "3"));
    assert.deepEqual(await publish(server, channel, "4").then(() => flushed(wire, 1)).then(({ frames }) => frames), messages("4"));
  });

  it("takes over from a polling session, whose id opens nothing any more", async (t) => {
    const token = await tokenOf(freshName());
    const session = await Polling.open(server.url);
    await session.post(`40${JSON.stringify({ token })}`);
    const [connected, , checkpoint] = await session.packets(3);
    const { pid } = JSON.parse(connected.slice(2));
    assert.equal((await connect(t, { pid, offset: cursorIn(checkpoint), token })).pid, pid);
    let answer;
    for (let polls = 0; polls < 3 && answer?.status !== 400; polls += 1) answer = await session.poll();
    assert.equal(answer.status, 400, answer.body);
  });

  const notCursors = {
    "a bare string that was the last argument": () => "hello",
    "an empty string": () => "",
    "a cursor with another last character": (cursor) => cursor.slice(0, -1) + (cursor.endsWith("A") ? "B" : "A"),
    "a cursor with another first character": (cursor) => cursor.slice(0, 4) + (cursor[4] === "A" ? "B" : "A") + cursor.slice(5),
    "a cursor cut short": (cursor) => cursor.slice(0, -1),
    "a cursor and more": (cursor) => `${cursor}A`,
    "our prefix and rubbish": () => `ca1.${"é".repeat(28)}`,
    "ten thousand characters": () => "x".repeat(10_000),
  };
  for (const [what, offset] of Object.entries(notCursors)) {
    it(`is not recovered with an offset that is ${what}`, async (t) => {
      const { channel, token, pid, cursor } = await gone(t);
      await publishAll(server, channel, ["c"]);
      const wire = await connect(t, { pid, offset: offset(cursor), token });
      assert.notEqual(wire.pid, pid);
      assert.equal(typeof wire.pid, "string", "but it can come back the next time");
      const { frames, cursor: fresh } = await flushed(wire, 4);
      // A text of the form of a cursor is some place, of a life that never was.
      const reason = what.startsWith("a cursor with another") ? "diverged" : "no_cursor";
      assert.equal(frames[0], gap(channel, reason));
      assert.deepEqual(frames.slice(1), messages("a", "b", "c"), "and then what there is");
      wire.close();
      await publishAll(server, channel, ["d"]);
      const again = await connect(t, { pid: wire.pid, offset: fresh, token });
      assert.equal(again.pid, wire.pid);
      assert.deepEqual((await flushed(again)).frames, messages("d"));
    });
  }

  for (const killed of [false, true]) {
    it(`is recovered without an offset from where its session began${killed ? ", also after kill -9" : ""}: it was gone before it had one`, async (t) => {
      const [channel, other] = [freshName(), freshName()];
      const auth = { tokens: [await tokenOf(channel), await tokenOf(other)] };
      await publishAll(server, channel, ["before"]);
      const wire = await connect(t, auth);
      wire.close();
      await publishAll(server, channel, ["a"]);
      await publishAll(server, other, ["b"]);
      if (killed) await server.crashAndRestart();
      await publishAll(server, channel, ["c"]);
      const again = await connect(t, { pid: wire.pid, ...auth });
      assert.equal(again.pid, wire.pid);
      assert.deepEqual((await flushed(again, 3)).frames.toSorted(), messages("a", "b", "c").toSorted());
    });
  }

  for (const unknown of ["", "nonsense", "x".repeat(1000)]) {
    it(`is not recovered with a pid that is not ours: ${unknown.slice(0, 10)}`, async (t) => {
      const { channel, token, cursor } = await gone(t);
      await publishAll(server, channel, ["c"]);
      const wire = await connect(t, { pid: unknown, offset: cursor, token });
      assert.notEqual(wire.pid, unknown);
      const { frames } = await flushed(wire);
      // Nothing silent: what was missed comes, or a gap says that it does not.
      if (!frames.includes(...messages("c"))) assert.match(frames[0] ?? "nothing", /^42\["gap",/);
      assert.equal((await publish(server, channel, "d")).status, 201);
      assert.deepEqual(await upTo(wire, ...messages("d")), []);
    });
  }

  const placeless = {
    "an offset that is no place": (pid) => ({ pid, offset: "hello" }),
    "none, and a session that began with a gap": (pid) => ({ pid }),
  };
  for (const [what, returning] of Object.entries(placeless)) {
    it(`hears nothing old, and of no gap, in a channel that it was not in, with ${what}`, async (t) => {
      const { token, pid } = await gone(t);
      // It has no place, so this session begins with a gap; and it is cut off before it gets one.
      const wire = await connect(t, { pid, offset: "hello", token });
      wire.close();
      const other = freshName();
      await publishAll(server, other, ["old"]);
      const again = await connect(t, { ...returning(wire.pid), tokens: [token, await tokenOf(other)] });
      await publishAll(server, other, ["new"]);
      const frames = await upTo(again, ...messages("new"));
      assert.ok(!frames.some((frame) => frame.includes(other)), frames.join("\n"));
      assert.ok(!frames.includes(...messages("old")));
    });
  }

  it("gets nothing of a channel whose token it does not bring, whatever its cursor says", async (t) => {
    const { pid, cursor, channel } = await gone(t);
    const other = freshName();
    await publishAll(server, channel, ["secret"]);
    const wire = await connect(t, { pid, offset: cursor, token: await tokenOf(other) });
    await publishAll(server, channel, ["secret too"]);
    await publishAll(server, other, ["mine"]);
    assert.deepEqual(await upTo(wire, ...messages("mine")), []);
  });
});
