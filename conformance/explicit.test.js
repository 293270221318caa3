// The explicit door: `join_channel` with `since`. What it answers, what it replays, and that live follows without a hole.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { io as io40 } from "socket.io-client-4.0";
import { io as io4x } from "socket.io-client-4.x";

import { Burst, publishAll } from "./burst.js";
import { Server } from "./server.js";
import { CURSOR, StockClient, freshName } from "./stock.js";
import { Wire } from "./wire.js";

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);
const frames = (...all) => all.map((data) => `42["message",${JSON.stringify(data)}]`);

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

/** A greeted connection that has asked for nothing yet. */
async function greeted(t, auth, to = server) {
  const wire = await Wire.open(to.url);
  t.after(() => wire.close());
  wire.send(`40${auth ? JSON.stringify(auth) : ""}`);
  assert.match(await wire.next(), /^40\{/);
  await wire.expect('42["clientevent",{"data":"Connected","count":0}]');
  return wire;
}

/** Joins and gives the answer, which must come after the event and before any message. */
async function join(wire, channel, how, to = server) {
  wire.send(`421["join_channel",${JSON.stringify({ token: await to.token(channel), ...how })}]`);
  await wire.expect(`42["clientevent",{"data":"Connected to ${channel}"}]`);
  const ack = await wire.next();
  assert.match(ack, /^431\[\{.*\}\]$/);
  return JSON.parse(ack.slice(3))[0];
}

/** A channel with 1..=5 in it, and what publishing them was answered. */
async function five(to = server) {
  const channel = freshName();
  return { channel, answers: await publishAll(to, channel, range(1, 5)) };
}

describe("join_channel with since", () => {
  it("answers the event, the ack, the replay and then live, with messages exactly as the seed sends them", async (t) => {
    const channel = freshName();
    const data = ['{"z":1,"a":[ 1e400 ]}', '"hello"', "12345678901234567890"];
    for (const json of data) await server.publish(channel, json);
    await server.publish(channel, "null");
    const wire = await greeted(t);
    const answer = await join(wire, channel, { since: "all" });
    await wire.expect(...data.map((json) => `42["message",${json}]`), '42["message"]');
    await publishAll(server, channel, ["live 1", "live 2"]);
    await wire.expect(...frames("live 1", "live 2")); // And no checkpoint: this client did not ask for any.
    assert.deepEqual(Object.keys(answer).sort(), ["channel", "cursor", "epoch", "offset", "recovered", "unread"]);
    assert.match(answer.epoch, /^[0-9a-f]{16}$/);
    assert.match(answer.cursor, CURSOR);
    assert.deepEqual([answer.channel, answer.recovered, answer.offset, answer.unread], [channel, true, 4, 4]);
  });

  const since = {
    "a cursor": (answers) => answers[1].cursor,
    "an id": (answers) => answers[1].id,
    "an offset": () => 2,
  };
  for (const [what, value] of Object.entries(since)) {
    it(`replays what follows ${what}`, async (t) => {
      const { channel, answers } = await five();
      const wire = await greeted(t);
      const answer = await join(wire, channel, { since: value(answers) });
      assert.deepEqual([answer.recovered, answer.offset, answer.epoch], [true, 5, answers[0].epoch]);
      await wire.expect(...frames(3, 4, 5));
    });
  }

  it("replays nothing from the newest, and all from offset 0", async (t) => {
    for (const newest of [() => 5, ({ id }) => id, ({ cursor }) => cursor]) {
      const { channel, answers } = await five();
      const wire = await greeted(t);
      assert.equal((await join(wire, channel, { since: newest(answers[4]) })).recovered, true);
      await publishAll(server, channel, ["next"]);
      await wire.expect(...frames("next"));
    }
    const { channel } = await five();
    const wire = await greeted(t);
    assert.equal((await join(wire, channel, { since: 0 })).recovered, true);
    await wire.expect(...frames(1, 2, 3, 4, 5));
  });

  it("gives a cursor that the next join continues from", async (t) => {
    const { channel } = await five();
    const { cursor } = await join(await greeted(t), channel, { since: "all" });
    await server.crashAndRestart();
    await publishAll(server, channel, [6, 7]);
    const wire = await greeted(t);
    assert.equal((await join(wire, channel, { since: cursor })).recovered, true);
    await wire.expect(...frames(6, 7));
  });

  it("takes its argument as a JSON string and asks for no ack", async (t) => {
    const { channel } = await five();
    const wire = await greeted(t);
    const argument = JSON.stringify({ token: await server.token(channel), since: 3 });
    wire.send(`42["join_channel",${JSON.stringify(argument)}]`);
    await wire.expect(`42["clientevent",{"data":"Connected to ${channel}"}]`, ...frames(4, 5));
  });

  it("turns an unknown token away with 41, as the seed does", async (t) => {
    const wire = await greeted(t);
    wire.send('421["join_channel",{"token":"wrong","since":"all"}]');
    await wire.expect("41");
  });

  it("replays no more than limit, up to where live begins, and says that it cut", async (t) => {
    const { channel } = await five();
    const wire = await greeted(t);
    const answer = await join(wire, channel, { since: "all", limit: 2 });
    assert.deepEqual([answer.recovered, answer.reason, answer.offset], [false, "limit", 5]);
    await wire.expect(...frames(4, 5));
    await publishAll(server, channel, [6]);
    await wire.expect(...frames(6));
    for (const enough of [5, 1000]) {
      const whole = await greeted(t);
      const { recovered, reason } = await join(whole, channel, { since: 1, limit: enough });
      assert.deepEqual([recovered, reason], [true, undefined]);
      await whole.expect(...frames(2, 3, 4, 5, 6));
    }
  });

  it("does not count among the newest what is over, and does not say that it cut it", async (t) => {
    const { channel } = await five();
    for (const data of [6, 7]) {
      await server.v1("POST", `/channels/${channel}/messages`, JSON.stringify({ data, ttl: "1s" }));
    }
    await delay(1100);
    const wire = await greeted(t);
    const answer = await join(wire, channel, { since: 3, limit: 2 });
    assert.deepEqual([answer.recovered, answer.reason, answer.offset], [true, undefined, 7]);
    await wire.expect(...frames(4, 5));
  });

  it("passes custom events under their own name", async (t) => {
    const channel = freshName();
    await server.v1("POST", `/channels/${channel}/messages`, '{"event":"order.paid","data":{"id": 7}}');
    const wire = await greeted(t);
    await join(wire, channel, { since: "all" });
    await server.v1("POST", `/channels/${channel}/messages`, '{"event":"größer \\"x\\"","data":null}');
    await wire.expect('42["order.paid",{"id": 7}]');
    assert.deepEqual(JSON.parse((await wire.next()).slice(2)), ['größer "x"']);
  });
});

describe("a since that cannot be whole", () => {
  const joined = async (t, channel, since, to) => {
    const { recovered, reason } = await join(await greeted(t, undefined, to), channel, { since }, to);
    return [recovered, reason];
  };

  it("is ahead beyond the newest", async (t) => {
    assert.deepEqual(await joined(t, (await five()).channel, 6), [false, "ahead"]);
    assert.deepEqual(await joined(t, freshName(), 1), [false, "ahead"]);
  });

  it("is of another epoch after a purge", async (t) => {
    const { channel, answers } = await five();
    await server.v1("DELETE", `/channels/${channel}/messages`);
    await publishAll(server, channel, range(1, 9));
    for (const since of [answers[1].id, answers[1].cursor]) assert.deepEqual(await joined(t, channel, since), [false, "epoch"]);
  });

  it("has diverged with the cursor of another server", async (t) => {
    const other = await Server.start();
    t.after(() => other.stop());
    const [{ cursor }] = await publishAll(other, "c", [1]);
    assert.deepEqual(await joined(t, (await five()).channel, cursor), [false, "diverged"]);
  });

  it("is no cursor of ours", async (t) => {
    const { channel, answers } = await five();
    const { cursor } = answers[2];
    const changed = cursor.slice(0, -1) + (cursor.endsWith("A") ? "B" : "A");
    for (const since of ["rubbish", `${cursor}x`]) assert.deepEqual(await joined(t, channel, since), [false, "no_cursor"], since);
    assert.deepEqual(await joined(t, channel, changed), [false, "diverged"], "a place of a life that never was");
  });

  it("is trimmed when retention took what follows, and whole when it did not", async (t) => {
    const small = await Server.start(["--history-max-messages", "3"]);
    t.after(() => small.stop());
    const { channel, answers } = await five(small);
    for (const since of [1, answers[0].id, answers[0].cursor]) assert.deepEqual(await joined(t, channel, since, small), [false, "trimmed"]);
    // The last one that is gone is still known by its id.
    for (const since of [2, answers[1].id, answers[1].cursor]) assert.deepEqual(await joined(t, channel, since, small), [true, undefined]);
    const wire = await greeted(t, undefined, small);
    await join(wire, channel, { since: 1 }, small);
    await wire.expect(...frames(3, 4, 5));
  });
});

describe("replay, then live", () => {
  for (const [version, io] of [["4.0", io40], ["4.x", io4x]]) {
    it(`has no hole and no repeat while a publisher runs at full speed: ${version}`, async (t) => {
      const channel = freshName();
      const token = await server.token(channel);
      const burst = new Burst(server, [channel], { each: 600 }).run();
      const clients = [];
      for (let n = 1; n <= 12; n += 1) {
        await burst.reached(n * 25);
        const client = new StockClient(t, io, server.url, { transports: n % 3 ? ["websocket"] : ["polling"] });
        const asked = n % 2 ? "all" : n * 10;
        clients.push({ client, from: n % 2 ? 0 : n * 10, answer: client.ask("join_channel", { token, since: asked }) });
      }
      await burst.finished;
      for (const { client, from, answer } of clients) {
        assert.equal((await answer)[0].recovered, true);
        await client.message({ writer: "w0", n: 599 });
        assert.deepEqual(client.messages.map(({ n }) => n), range(from, 599));
      }
    });
  }

  it("goes through a long history that is much larger than an outbox", async (t) => {
    const channel = freshName();
    const text = "x".repeat(4000);
    const items = range(1, 900).map((n) => ({ channel, data: { n, text } }));
    for (const chunk of [items.slice(0, 200), items.slice(200, 400), items.slice(400, 600), items.slice(600, 800), items.slice(800)]) {
      assert.equal((await server.v1("POST", "/messages", { messages: chunk })).json?.failed, 0);
    }
    const client = new StockClient(t, io4x, server.url);
    const [{ recovered, offset }] = await client.ask("join_channel", { token: await server.token(channel), since: "all" });
    assert.deepEqual([recovered, offset], [true, 900]);
    await client.nth("message", 900);
    await publishAll(server, channel, [{ n: 901, text }]);
    await client.nth("message", 901);
    assert.deepEqual(client.messages.map(({ n }) => n), range(1, 901));
  });

  for (const how of [{ consumer: "phone" }, { limit: 10 }, { limit: 0 }, { since: "all", limit: 3 }, { since: 890 }]) {
    it(`takes nobody forward who is being sent what it missed: ${JSON.stringify(how)}`, async (t) => {
      const channel = freshName();
      const token = await server.token(channel);
      const items = range(1, 900).map((n) => ({ channel, data: { n, text: "x".repeat(4000) } }));
      while (items.length) await server.v1("POST", "/messages", { messages: items.splice(0, 200) });
      const wire = await Wire.open(server.url);
      t.after(() => wire.close());
      // Both arrive before much of it can have left.
      wire.send(`40${JSON.stringify({ token, since: "all" })}`);
      wire.send(`421["join_channel",${JSON.stringify({ token, ...how })}]`);
      const numbers = [];
      let answer;
      // On a busy machine the second may be looked at when everything has left; what it asks for would come once more behind its answer.
      while (numbers.at(-1) !== 900 || !answer) {
        const frame = await wire.next();
        if (frame.startsWith("431")) [answer] = JSON.parse(frame.slice(3));
        if (frame.startsWith('42["message"')) numbers.push(JSON.parse(frame.slice(2))[1].n);
        assert.ok(!frame.startsWith('42["gap"'), frame);
      }
      assert.deepEqual(numbers, range(1, 900));
      const { recovered, reason } = answer;
      assert.deepEqual([recovered, reason], "since" in how && "limit" in how ? [false, "limit"] : [true, undefined]);
    });
  }
});

describe("auth.meta", () => {
  it("adds a last argument to every publication, replayed and live", async (t) => {
    const channel = freshName();
    const started = Date.now();
    const [first] = await publishAll(server, channel, [{ a: 1 }]);
    const client = new StockClient(t, io4x, server.url, { auth: { meta: true } });
    await client.ask("join_channel", { token: await server.token(channel), since: "all" });
    const [second] = await publishAll(server, channel, [null]);
    await server.v1("POST", `/channels/${channel}/messages`, '{"event":"order","data":"text"}');
    await server.v1("POST", `/channels/${channel}/messages`, '{"volatile":true,"data":[1]}');
    const [volatileData, volatileMeta] = await client.nth("message", 3);
    const [replayed, live] = client.of("message");
    assert.deepEqual([replayed[0], live[0], volatileData], [{ a: 1 }, null, [1]], "null is written, so that meta is always the second");
    for (const [[, meta, ...rest], { id, offset }] of [[replayed, first], [live, second]]) {
      const { cursor, ts, ...others } = meta;
      assert.deepEqual([others, rest], [{ id, channel, offset }, []]);
      assert.match(cursor, CURSOR);
      assert.ok(ts >= started - 1000 && ts <= Date.now() + 1000, `${ts} is in milliseconds`);
    }
    assert.equal((await client.nth("order"))[1].offset, 3);
    assert.deepEqual([volatileMeta.channel, "offset" in volatileMeta, "cursor" in volatileMeta], [channel, false, false]);
  });

  it("gives with each message the cursor to continue from it", async (t) => {
    const channel = freshName();
    await publishAll(server, channel, range(1, 4));
    const client = new StockClient(t, io4x, server.url, { auth: { token: await server.token(channel), meta: true, since: "all" } });
    await client.nth("message", 4);
    const { cursor } = client.of("message")[1][1];
    const wire = await greeted(t);
    assert.equal((await join(wire, channel, { since: cursor })).recovered, true);
    await wire.expect(...frames(3, 4));
  });
});
