// What stock clients see at the edges of recovery: history that is gone, other tokens than before, refused credentials,
// and clients from before there was any recovery.

import assert from "node:assert/strict";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { io as io30 } from "socket.io-client-3.0";
import { io as io31 } from "socket.io-client-3.1";
import { io as io40 } from "socket.io-client-4.0";
import { io as io46 } from "socket.io-client-4.6";
import { io as io4x } from "socket.io-client-4.x";

import { publishAll } from "./burst.js";
import { Link } from "./link.js";
import { Server } from "./server.js";
import { StockClient, TRANSPORTS, freshName } from "./stock.js";

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

/** A client that comes back only when the test says so, over a link that the test can cut. */
async function absentee(t, server, auth, io = io4x, transports = TRANSPORTS.websocket) {
  const link = await Link.open(t, server);
  const client = new StockClient(t, io, link.url, { auth, transports, reconnection: false });
  await client.settled();
  await client.upgraded();
  client.leave = () => client.lose(link);
  client.comeBack = async () => {
    client.heard.length = 0;
    client.socket.connect();
    await client.settled();
    await client.upgraded(); // Half-way between two transports there is no connection to cut.
  };
  return client;
}

/** What was heard since the client came back, up to the first checkpoint, without the greeting. */
const replay = (client) => {
  const names = client.heard.map(([name]) => name);
  return client.heard.slice(0, names.indexOf("checkpoint")).filter(([name]) => name === "gap" || name === "message");
};

describe("history that is gone", () => {
  const KEPT = 5;
  let server;
  before(async () => (server = await Server.start(["--history-max-messages", String(KEPT)])));
  after(() => server?.stop());

  for (const [version, io] of [["4.6", io46], ["4.x", io4x]]) {
    for (const [mode, transports] of Object.entries(TRANSPORTS)) {
      it(`is a gap with its reason, then what there is, and the next return is whole again: ${version}, ${mode}`, async (t) => {
        const channel = freshName();
        const client = await absentee(t, server, { token: await server.token(channel) }, io, transports);
        await publishAll(server, channel, range(1, 3));
        await client.kept(3);
        await client.leave();
        await publishAll(server, channel, range(4, 30));
        await client.comeBack();
        assert.deepEqual(client.recoveries, [false]);
        const kept = range(30 - KEPT + 1, 30).map((n) => ["message", n]);
        assert.deepEqual(replay(client), [["gap", { channel, reason: "trimmed" }], ...kept]);
        await publishAll(server, channel, [31]);
        await client.kept(31);
        await client.leave();
        await publishAll(server, channel, range(32, 34));
        await client.comeBack();
        assert.deepEqual(client.recoveries, [true]);
        assert.deepEqual(replay(client), range(32, 34).map((n) => ["message", n]));
      });
    }
  }

  it("is no gap to a client that missed exactly what is kept", async (t) => {
    const channel = freshName();
    const client = await absentee(t, server, { token: await server.token(channel) });
    await publishAll(server, channel, range(1, 10));
    await client.kept(10);
    await client.leave();
    await publishAll(server, channel, range(11, 10 + KEPT));
    await client.comeBack();
    assert.deepEqual([client.recoveries, replay(client)], [[true], range(11, 10 + KEPT).map((n) => ["message", n])]);
  });

  it("is the gap of its channel alone, and survives a kill -9", async (t) => {
    const [busy, quiet] = [freshName(), freshName()];
    const client = await absentee(t, server, { tokens: [await server.token(busy), await server.token(quiet)] });
    await client.leave();
    await publishAll(server, quiet, ["quiet 1", "quiet 2"]);
    await publishAll(server, busy, range(1, 8));
    await server.crashAndRestart();
    await client.comeBack();
    assert.deepEqual(client.recoveries, [false]);
    assert.deepEqual(client.of("gap"), [[{ channel: busy, reason: "trimmed" }]]);
    assert.deepEqual(client.messages.filter((data) => typeof data === "string"), ["quiet 1", "quiet 2"]);
    assert.deepEqual(client.messages.filter((data) => typeof data === "number"), range(4, 8));
  });

  it("began anew after a purge", async (t) => {
    const channel = freshName();
    const client = await absentee(t, server, { token: await server.token(channel) });
    await publishAll(server, channel, [1]);
    await client.kept(1);
    await client.leave();
    await publishAll(server, channel, [2]);
    assert.equal((await server.v1("DELETE", `/channels/${channel}/messages`)).status, 200);
    await publishAll(server, channel, [3]);
    await client.comeBack();
    assert.deepEqual(client.recoveries, [false]);
    assert.deepEqual(replay(client), [["gap", { channel, reason: "epoch" }], ["message", 3]]);
  });
});

describe("a channel that keeps none, or only in memory", () => {
  const config = `[[policy]]\nmatch = "none-*"\nhistory = { max_messages = 0 }\n\n[[policy]]\nmatch = "memory-*"\ndurability = "memory"\n`;
  let server;
  before(async () => (server = await Server.start([], { config })));
  after(() => server?.stop());

  for (const [pattern, reason] of [["none", "no_history"], ["memory", "epoch"]]) {
    it(`is a gap: ${reason}`, async (t) => {
      const channel = `${pattern}-${freshName()}`;
      const client = await absentee(t, server, { token: await server.token(channel) });
      await publishAll(server, channel, [1]);
      await client.kept(1);
      await client.leave();
      await publishAll(server, channel, [2]);
      if (pattern === "memory") await server.crashAndRestart();
      await client.comeBack();
      assert.deepEqual([client.recoveries, replay(client)], [[false], [["gap", { channel, reason }]]]);
      await publishAll(server, channel, [3]);
      await client.kept(3);
    });
  }

  it("is whole in memory while the server lives", async (t) => {
    const channel = `memory-${freshName()}`;
    const client = await absentee(t, server, { token: await server.token(channel) });
    await client.leave();
    await publishAll(server, channel, [1, 2]);
    await client.comeBack();
    assert.deepEqual([client.recoveries, replay(client)], [[true], [["message", 1], ["message", 2]]]);
  });
});

describe("a data directory restored from an older copy", () => {
  it("recovers nobody who saw more than it holds, and gives nobody other messages for what they saw", async (t) => {
    const server = await Server.start();
    const copy = await mkdtemp(join(tmpdir(), "channelapi-conformance-copy-"));
    t.after(() => Promise.all([server.stop(), rm(copy, { recursive: true, force: true })]));
    const channel = freshName();
    const token = await server.token(channel);
    const client = await absentee(t, server, { token });
    await publishAll(server, channel, ["kept 1", "kept 2"]);
    await client.kept("kept 2");
    await server.process.stop();
    await cp(server.dataDir, copy, { recursive: true });
    await server.launch();
    await client.comeBack();
    assert.deepEqual(client.recoveries, [true]);
    await publishAll(server, channel, ["lost 3", "lost 4"]);
    await client.kept("lost 4");
    await server.kill();
    await rm(server.dataDir, { recursive: true });
    await cp(copy, server.dataDir, { recursive: true });
    await server.launch();
    await publishAll(server, channel, ["other 3", "other 4", "other 5"]);
    await client.comeBack();
    assert.deepEqual(client.recoveries, [false]);
    assert.deepEqual(client.of("gap"), [[{ channel, reason: "diverged" }]]);
    assert.deepEqual(client.messages, ["kept 1", "kept 2", "other 3", "other 4", "other 5"], "what there is");
  });
});

describe("a server of its own defaults", () => {
  let server;
  before(async () => (server = await Server.start()));
  after(() => server?.stop());

  it("recovers a channel that was gained before the server was killed, every time", async (t) => {
    const [old, gained] = [freshName(), freshName()];
    const tokens = [await server.token(old), await server.token(gained)];
    const client = await absentee(t, server, { tokens: tokens.slice(0, 1) });
    await client.leave();
    client.socket.auth = { tokens };
    await client.comeBack();
    assert.deepEqual(client.recoveries, [false]);
    for (const round of [1, 2, 3]) {
      await client.leave();
      if (round === 1) await server.crashAndRestart();
      await publishAll(server, gained, [`gained ${round}`]); // It was in it when it left: missing this would be a silent gap.
      await client.comeBack();
      assert.deepEqual([client.recoveries, client.messages], [[true], [`gained ${round}`]]);
    }
  });

  it("begins a new session for a client that gained a channel, with all of the others, and from then on recovers that channel too", async (t) => {
    const [old, gained] = [freshName(), freshName()];
    const tokens = [await server.token(old), await server.token(gained)];
    const client = await absentee(t, server, { tokens: tokens.slice(0, 1) });
    await client.leave();
    await publishAll(server, old, ["old 1"]);
    await publishAll(server, gained, ["before its time"]);
    client.socket.auth = { tokens };
    await client.comeBack();
    assert.deepEqual([client.recoveries, replay(client)], [[false], [["message", "old 1"]]]);
    await publishAll(server, gained, ["gained 1"]);
    await client.kept("gained 1");
    await client.leave();
    await publishAll(server, gained, ["gained 2"]); // It was in it when it left: missing this would be a silent gap.
    await publishAll(server, old, ["old 2"]);
    await client.comeBack();
    assert.deepEqual(client.recoveries, [true]);
    assert.deepEqual(client.messages.sort(), ["gained 2", "old 2"]);
  });

  it("begins a new session for a client that lost a channel, with all of the others, and nothing is called recovered of what it did not hear", async (t) => {
    const [kept, lost] = [freshName(), freshName()];
    const tokens = [await server.token(kept), await server.token(lost)];
    const client = await absentee(t, server, { tokens });
    await client.leave();
    await publishAll(server, lost, ["not for you"]);
    await publishAll(server, kept, ["kept 1"]);
    client.socket.auth = { tokens: tokens.slice(0, 1) };
    await client.comeBack();
    assert.deepEqual([client.recoveries, replay(client)], [[false], [["message", "kept 1"]]]);
    await publishAll(server, lost, ["nor this"]);
    await publishAll(server, kept, ["kept 2"]);
    await client.kept("kept 2");
    assert.deepEqual(client.messages, ["kept 1", "kept 2"]);
    // It is new to this session: nothing of it was promised.
    await client.leave();
    await publishAll(server, lost, ["nor that"]);
    await publishAll(server, kept, ["kept 3"]);
    client.socket.auth = { tokens };
    await client.comeBack();
    assert.deepEqual([client.recoveries, replay(client)], [[false], [["message", "kept 3"]]]);
  });

  it("calls nothing recovered of a channel that was gained, and left out once", async (t) => {
    const [old, gained] = [freshName(), freshName()];
    const tokens = [await server.token(old), await server.token(gained)];
    const client = await absentee(t, server, { tokens: tokens.slice(0, 1) });
    for (const brought of [tokens, tokens.slice(0, 1)]) {
      await client.leave();
      client.socket.auth = { tokens: brought };
      await client.comeBack();
      assert.deepEqual(client.recoveries, [false]);
    }
    await publishAll(server, gained, ["not heard"]);
    await publishAll(server, old, ["heard"]);
    await client.kept("heard");
    await client.leave();
    client.socket.auth = { tokens };
    await client.comeBack();
    assert.deepEqual([client.recoveries, replay(client)], [[false], []]);
  });

  it("does not let a client come back with a token that was revoked meanwhile", async (t) => {
    const channel = freshName();
    const client = await absentee(t, server, { token: await server.token(channel) });
    await client.leave();
    assert.equal((await server.v1("DELETE", `/channels/${channel}/tokens`)).status, 200);
    client.socket.connect();
    const [error] = await client.nth("connect_error");
    assert.equal(error.data?.code, "token_invalid");
  });

  const refused = {
    token_invalid: { "an unknown token": { token: "wrong" }, "one unknown of two": (good) => ({ tokens: [good, "wrong"] }), "an empty one": { token: "" } },
    bad_auth: { "a number for a token": { token: 7 }, "half a character for one": { token: "\ud83d" }, "a text for tokens": { tokens: "x" }, "numbers in tokens": { tokens: [1] }, "a since that is none": (good) => ({ token: good, since: {} }) },
    too_many_channels: { "129 channels": async () => ({ tokens: await Promise.all(range(1, 129).map(() => server.token(freshName()))) }) },
  };
  for (const [code, cases] of Object.entries(refused)) {
    for (const [what, auth] of Object.entries(cases)) {
      it(`answers ${what} with a connect_error that says ${code}, and lets the same client in afterwards`, async (t) => {
        const good = await server.token(freshName());
        const client = new StockClient(t, io4x, server.url, { auth: typeof auth === "function" ? await auth(good) : auth });
        const [error] = await client.nth("connect_error");
        assert.equal(error.data?.code, code);
        assert.ok(error.message.length > 0);
        assert.equal(client.socket.connected, false);
        client.socket.auth = { token: good };
        client.socket.connect();
        await client.settled();
      });
    }
  }

  for (const [version, io] of Object.entries({ "3.0": io30, 3.1: io31, "4.0": io40 })) {
    for (const [mode, transports] of Object.entries(TRANSPORTS)) {
      it(`serves a client that knows no recovery: ${version}, ${mode}`, async (t) => {
        const channel = freshName();
        const client = new StockClient(t, io, server.url, { auth: { token: await server.token(channel) }, transports });
        await client.settled();
        const all = ["bare", { an: "object" }, [1], 0, false];
        await publishAll(server, channel, all);
        await client.message(false);
        assert.deepEqual(client.messages, all);
        await server.crashAndRestart();
        await client.nth("connect", 2);
        await client.settled();
        await publishAll(server, channel, ["again"]);
        await client.message("again");
        assert.deepEqual(client.of("gap"), [], "it asked for nothing back");
        assert.deepEqual(client.messages, [...all, "again"]);
      });

      it(`tells a client that knows no recovery why it is refused: ${version}, ${mode}`, async (t) => {
        const client = new StockClient(t, io, server.url, { auth: { token: "wrong" }, transports });
        const [error] = await client.nth("connect_error");
        assert.equal((error.data ?? error).code, "token_invalid");
      });
    }
  }
});
