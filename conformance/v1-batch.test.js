// POST /v1/messages: many channels, many messages, lines; each item with its own result.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Burst, publishAll } from "./burst.js";
import { ID, assertProblem } from "./problem.js";
import { Server } from "./server.js";
import { freshName } from "./stock.js";

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

const NDJSON = { "content-type": "application/x-ndjson" };
const range = (count) => Array.from({ length: count }, (_, n) => n);
const send = (body, headers) => server.v1("POST", "/messages", body, headers);
const stored = async (channel) => (await server.v1("GET", `/channels/${channel}/messages?limit=1000`)).json.messages;
const dataOf = async (channel) => (await stored(channel)).map(({ data }) => data);

describe("POST /v1/messages", () => {
  it("publishes one message to many channels", async () => {
    const channels = [freshName(), freshName(), freshName()];
    const { status, json } = await send({ channels, event: "news", data: { a: 1 } });
    assert.deepEqual([status, json.stored, json.failed], [200, 3, 0]);
    for (const [index, channel] of channels.entries()) {
      const { id, epoch, ...result } = json.results[index];
      assert.deepEqual(result, { channel, status: 201, offset: 1, durability: "fsync", duplicate: false });
      assert.match(id, ID);
      assert.ok(id.startsWith(epoch));
      assert.deepEqual((await stored(channel)).map(({ event, data }) => [event, data]), [["news", { a: 1 }]]);
    }
  });

  it("publishes many messages, and answers in their order", async () => {
    const [a, b] = [freshName(), freshName()];
    const messages = [{ channel: a, data: 1 }, { channel: b, data: "x", event: "e" }, { channel: a, data: null }, { channel: a, data: [2] }];
    const { json } = await send({ messages });
    assert.deepEqual(json.results.map(({ channel, offset }) => [channel, offset]), [[a, 1], [b, 1], [a, 2], [a, 3]]);
    assert.deepEqual([await dataOf(a), await dataOf(b)], [[1, null, [2]], ["x"]]);
  });

  it("takes lines, with their data byte for byte", async () => {
    const channel = freshName();
    const data = ['{"z": 1e400,"a":2}', '"\\u00e9"', "12345678901234567890123"];
    const lines = data.map((json) => `{"channel":"${channel}","data":${json}}`);
    for (const [body, count] of [[`${lines.join("\n")}\n`, 3], [lines.join("\n"), 6], [`${lines.join("\r\n")}\r\n`, 9]]) {
      const { json } = await send(body, NDJSON);
      assert.deepEqual([json?.stored, json?.failed], [3, 0]);
      assert.equal((await stored(channel)).length, count);
    }
    const { body } = await server.v1("GET", `/channels/${channel}/messages`);
    for (const json of data) assert.equal(body.split(`"data":${json}`).length - 1, 3, json);
  });

  it("refuses all of a channel for one wrong item of it, and nothing else", async () => {
    const [good, bad] = [freshName(), freshName()];
    const { status, json } = await send({
      messages: [{ channel: good, data: 1 }, { channel: bad, data: 1 }, { channel: bad, data: 2, event: "checkpoint" }, { channel: good, data: 2 }, { channel: bad, data: 3 }],
    });
    assert.deepEqual([status, json.stored, json.failed], [200, 2, 3]);
    assert.deepEqual(json.results.map(({ status: each, code }) => [each, code]), [[201, undefined], [424, "batch_refused"], [400, "reserved_event"], [201, undefined], [424, "batch_refused"]]);
    for (const { channel, detail } of json.results.filter(({ status: each }) => each !== 201)) assert.ok(channel === bad && detail.length > 0);
    assert.deepEqual([await dataOf(good), await dataOf(bad)], [[1, 2], []]);
  });

  it("tells of each wrong item what is wrong with it", async () => {
    const [channel, reused] = [freshName(), freshName()];
    await server.v1("POST", `/channels/${reused}/messages`, { data: 1 }, { "idempotency-key": "k" });
    const wrong = [{ channel: "a\u0000b", data: 1 }, { channel: "", data: 1 }, { channel: freshName() }, { channel: freshName(), data: 1, ttl: "soon" },
      { channel: freshName(), data: 1, tags: [] }, { channel: reused, data: 2, idempotency_key: "k" }];
    for (const item of wrong) {
      const { status, json } = await send({ messages: [item, { channel, data: 1 }] });
      assert.equal(status, 200, JSON.stringify([item, json]));
      assert.deepEqual([json.stored, json.failed, json.results[1].status], [1, 1, 201], JSON.stringify(item));
      assert.ok(json.results[0].status >= 400 && json.results[0].code, JSON.stringify(json));
    }
    assert.equal((await stored(channel)).length, wrong.length);
    assert.equal((await stored(reused)).length, 1);
  });

  it("keeps the items of a channel together while others publish to it", async () => {
    const channel = freshName();
    const burst = new Burst(server, [channel, channel], { each: 150 }).run();
    for (let n = 0; n < 5; n += 1) {
      await burst.reached(10 + n * 20);
      const { json } = await send({ messages: range(40).map((item) => ({ channel, data: { batch: n, item } })) });
      const [{ offset: first }] = json.results;
      assert.deepEqual(json.results.map(({ offset }) => offset), range(40).map((item) => first + item));
    }
    await burst.finished;
    assert.equal((await stored(channel)).length, 500);
  });

  it("takes 1 to 1,000 items", async () => {
    const channel = freshName();
    const items = (count) => range(count).map((n) => ({ channel, data: n }));
    assert.equal((await send({ messages: items(1000) })).json.stored, 1000);
    const lines = items(1001).map((item) => JSON.stringify(item)).join("\n");
    const names = range(1001).map((n) => `${channel}-${n}`);
    for (const [body, headers] of [[{ messages: items(1001) }], [lines, NDJSON], [{ channels: names, data: 1 }]]) {
      const answer = await send(body, headers);
      assertProblem(answer, 413, "batch_size");
    }
    for (const [body, headers] of [[{ messages: [] }], [{ channels: [], data: 1 }], ["", NDJSON], ["\n", NDJSON]]) assertProblem(await send(body, headers), 400, "invalid_body");
    assert.equal((await stored(channel)).length, 1000);
    assert.equal((await stored(names[0])).length, 0);
  });

  it("refuses a body that is none of its forms", async () => {
    const channel = freshName();
    for (const body of ["", "nonsense", "[]", "{}", { data: 1 }, { channels: [channel] }, { channels: channel, data: 1 }, { messages: { channel, data: 1 } },
      { channels: [channel], data: 1, messages: [{ channel, data: 1 }] }]) {
      assertProblem(await send(body), 400);
    }
    assertProblem(await send({ channels: [channel], data: 1, tags: [] }), 400, "unknown_field");
    assert.deepEqual(await stored(channel), []);
  });

  it("stores nothing of a channel that has a line which is not JSON", async () => {
    const channel = freshName();
    const answer = await send(`{"channel":"${channel}","data":1}\n{"channel":"${channel}","data":\n`, NDJSON);
    if (answer.status === 200) assert.ok(answer.json.failed >= 1, answer.body);
    else assertProblem(answer, 400);
  });
});

describe("a batch with an Idempotency-Key", () => {
  const key = { "idempotency-key": "batch" };

  it("is stored once, however often it is sent", async () => {
    const [a, b] = [freshName(), freshName()];
    for (const body of [{ messages: [{ channel: a, data: 1 }, { channel: b, data: 2 }, { channel: a, data: 3 }] }, { channels: [freshName(), freshName()], data: "x" }]) {
      const first = (await send(body, key)).json;
      assert.equal(first.failed, 0);
      await server.crashAndRestart();
      const repeat = (await send(body, key)).json;
      assert.equal(repeat.failed, 0);
      assert.ok(repeat.results.every(({ duplicate }) => duplicate));
      assert.deepEqual(repeat.results.map(({ id, offset }) => [id, offset]), first.results.map(({ id, offset }) => [id, offset]));
    }
    assert.deepEqual([await dataOf(a), await dataOf(b)], [[1, 3], [2]]);
  });

  it("prefers the keys of its items", async () => {
    const channel = freshName();
    await send({ messages: [{ channel, data: 1, idempotency_key: "own" }] }, key);
    const repeat = await server.v1("POST", `/channels/${channel}/messages`, { data: 1 }, { "idempotency-key": "own" });
    assert.equal(repeat.json.duplicate, true);
    const indexed = await server.v1("POST", `/channels/${channel}/messages`, { data: 1 }, { "idempotency-key": "batch/0" });
    assert.equal(indexed.json.duplicate, false, "which was not used");
  });

  it("is whole or absent after a kill -9 in its middle, and whole once it is answered", async () => {
    for (let round = 0; round < 5; round += 1) {
      const channel = freshName();
      await publishAll(server, channel, ["before"]);
      const messages = range(500).map((n) => ({ channel, data: n }));
      const sent = send({ messages }, key).catch(() => undefined);
      await sleep(round * 2); // Any moment will do: each must hold.
      await server.kill();
      const answer = await sent;
      await server.launch();
      const found = (await dataOf(channel)).length;
      assert.ok(found === 501 || (found === 1 && answer === undefined), `${found} messages, answered ${answer?.status}`);
      assert.equal((await send({ messages }, key)).json.failed, 0);
      assert.deepEqual(await dataOf(channel), ["before", ...range(500)]);
    }
  });
});
