// The demonstration: an unmodified socket.io-client comes back from a kill -9, a crash loop or a dead network, and has every
// message once, in order, with `recovered === true`. The backend does what any can: it asks again until it is answered.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { io as io46 } from "socket.io-client-4.6";
import { io as io4x } from "socket.io-client-4.x";

import { Burst, PAYLOADS, publish, publishAll } from "./burst.js";
import { Link } from "./link.js";
import { Server } from "./server.js";
import { CURSOR, StockClient, TRANSPORTS, freshName } from "./stock.js";

/** Every client that can resume: 4.6 was the first. */
const CLIENTS = { 4.6: io46, "4.x": io4x };

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

const freshNames = (count) => Array.from({ length: count }, freshName);

for (const [version, io] of Object.entries(CLIENTS)) {
  for (const [mode, transports] of Object.entries(TRANSPORTS)) {
    describe(`socket.io-client ${version}, ${mode}`, () => storyOf(io, transports));
  }
}

function storyOf(io, transports) {
  /** A client of these channels that has settled. One channel is given as `token`, several as `tokens`. */
  const connect = async (t, channels, { url = server.url, ...options } = {}) => {
    const tokens = await Promise.all(channels.map((channel) => server.token(channel)));
    const auth = tokens.length === 1 ? { token: tokens[0] } : { tokens };
    const client = new StockClient(t, io, url, { transports, auth, ...options });
    await client.settled();
    await client.upgraded();
    return client;
  };

  /** However often it had to come back: always recovered, never a gap. */
  const recovered = (client, times = 1) => {
    assert.equal(client.recoveries[0], false, "there was nothing to recover at first");
    assert.ok(client.recoveries.length > times, `connected ${client.recoveries.length} times`);
    assert.ok(client.recoveries.slice(1).every((yes) => yes), `recovered: ${client.recoveries}`);
    assert.deepEqual(client.of("gap"), []);
    for (const [cursor, ...rest] of client.of("checkpoint")) {
      assert.match(cursor, CURSOR);
      assert.deepEqual(rest, []);
    }
  };

  for (const payload of Object.keys(PAYLOADS)) {
    for (const [what, count] of [["one channel", 1], ["several channels", 5]]) {
      it(`misses nothing when the server is killed in the middle of a burst: ${what}, ${payload}`, async (t) => {
        const channels = freshNames(count);
        const client = await connect(t, channels);
        const burst = new Burst(server, channels, { payload, each: 300 / count }).run();
        await burst.reached(100);
        await client.nth("message");
        await server.crashAndRestart();
        await burst.arrivedAt(client);
        recovered(client);
        const gapless = Array.from({ length: burst.each }, (_, n) => n + 1);
        for (const offsets of Object.values(burst.offsets)) assert.deepEqual(offsets, gapless, "offsets have no holes");
      });
    }

    it(`misses nothing through three kills in a row, coming back at once: ${payload}`, async (t) => {
      const channels = freshNames(2);
      const client = await connect(t, channels, { reconnectionDelay: 1, reconnectionDelayMax: 2, randomizationFactor: 0 });
      const burst = new Burst(server, channels, { payload, each: 200 }).run();
      for (const [kill, accepted] of [50, 150, 250].entries()) {
        await burst.reached(accepted);
        await client.nth("connect", kill + 1);
        await server.crashAndRestart();
      }
      await burst.arrivedAt(client);
      recovered(client);
    });

    it(`misses nothing when its network drops in the middle of a burst, and takes over from its stale self: ${payload}`, async (t) => {
      const channels = freshNames(2);
      const link = await Link.open(t, server);
      const client = await connect(t, channels, { url: link.url, reconnectionDelay: 1, reconnectionDelayMax: 2 });
      const burst = new Burst(server, channels, { payload, each: 150 }).run();
      await burst.reached(100);
      await client.lose(link);
      await burst.arrivedAt(client);
      recovered(client);
      if (transports.includes("websocket")) await link.abandoned(); // An HTTP connection outlives the session that used it.
    });
  }

  it("misses nothing when it had received nothing before the kill", async (t) => {
    const channels = freshNames(2);
    const client = await connect(t, channels, { reconnection: false });
    await server.crashAndRestart();
    await client.nth("disconnect");
    for (const channel of channels) await publishAll(server, channel, [{ channel, n: 0 }, `${channel} 1`, { channel, n: 2 }]);
    client.socket.connect();
    await client.nth("message", 6);
    await client.settled();
    for (const channel of channels) {
      const mine = client.messages.filter((data) => (data.channel ?? data.split(" ")[0]) === channel);
      assert.deepEqual(mine, [{ channel, n: 0 }, `${channel} 1`, { channel, n: 2 }]);
    }
    recovered(client);
  });

  it("misses nothing between a kill and the restart after it, with the client's last word a bare string", async (t) => {
    const [channel] = freshNames(1);
    const client = await connect(t, [channel], { reconnection: false });
    await publishAll(server, channel, ["hello"]);
    await client.kept("hello");
    await server.kill();
    await client.nth("disconnect");
    await server.launch();
    await publishAll(server, channel, ["while", "you", "were", "away"]);
    client.socket.connect();
    await client.message("away");
    assert.deepEqual(client.messages, ["hello", "while", "you", "were", "away"]);
    recovered(client);
  });

  it("comes back after closing its own engine, the documented way to try recovery out", async (t) => {
    const [channel] = freshNames(1);
    const client = await connect(t, [channel]);
    await publishAll(server, channel, [0, 1]);
    await client.kept(1);
    client.socket.io.engine.close();
    await publishAll(server, channel, [2, 3]);
    await client.message(3);
    assert.deepEqual(client.messages, [0, 1, 2, 3]);
    recovered(client);
  });

  it("has what was accepted by the seed's POST /message too, where the backend never asks again", async (t) => {
    const [channel] = freshNames(1);
    const client = await connect(t, [channel]);
    const accepted = [];
    let killed;
    for (let n = 0; n < 200; n += 1) {
      if (n === 70) killed = server.crashAndRestart();
      const answer = await server.post(`/message/${channel}`, `{"message": {"n": ${n}}}`).catch(() => undefined);
      if (answer === undefined) await killed; // Unknown: stored or not. Never asked again.
      else {
        assert.deepEqual([answer.status, answer.body], [200, '{"success": true}']);
        accepted.push(n);
      }
    }
    await publishAll(server, channel, [{ n: 1000 }]);
    await client.message({ n: 1000 });
    const heard = client.messages.map(({ n }) => n);
    assert.deepEqual([...new Set(heard)].sort((a, b) => a - b), heard, "in order, and none twice");
    assert.deepEqual(accepted.filter((n) => !heard.includes(n)), [], "accepted, but never heard");
    recovered(client);
  });

  it("misses nothing while it connects and upgrades under fire, and hears no repeat", async (t) => {
    const [channel] = freshNames(1);
    const burst = new Burst(server, [channel], { each: 600 }).run();
    await burst.reached(20);
    const token = await server.token(channel);
    const client = new StockClient(t, io, server.url, { transports, auth: { token } });
    await client.nth("message");
    await burst.finished;
    await client.message({ writer: "w0", n: 599 });
    const heard = client.messages.map(({ n }) => n);
    assert.deepEqual(heard, Array.from({ length: 600 - heard[0] }, (_, n) => heard[0] + n), "live from the first, without a hole");
  });
}

describe("several clients", () => {
  it("hear several publishers of one channel in the same order, the one that was killed and replayed included", async (t) => {
    const channel = freshName();
    const auth = { token: await server.token(channel) };
    const clients = [io46, io4x, io4x].map((io, n) => new StockClient(t, io, server.url, { auth, transports: TRANSPORTS[["websocket", "polling", "upgrade"][n]] }));
    for (const client of clients) await client.settled();
    const burst = new Burst(server, [channel, channel, channel, channel], { each: 60 }).run();
    await burst.reached(80);
    await server.crashAndRestart();
    await burst.finished;
    for (const client of clients) await client.nth("message", burst.total);
    assert.equal((await publish(server, channel, "the end")).status, 201);
    for (const client of clients) await client.message("the end");
    for (const client of clients) {
      assert.equal(client.messages.length, burst.total + 1);
      assert.deepEqual(client.messages, clients[0].messages);
      assert.deepEqual(client.of("gap"), []);
    }
    for (const { name } of burst.writers) {
      const mine = clients[0].messages.filter(({ writer }) => writer === name).map(({ n }) => n);
      assert.deepEqual(mine, Array.from({ length: burst.each }, (_, n) => n), `in the order ${name} published`);
    }
    const offsets = Object.values(burst.offsets).flat().sort((a, b) => a - b);
    assert.deepEqual(offsets, Array.from({ length: burst.total }, (_, n) => n + 1), "each offset once");
  });
});
