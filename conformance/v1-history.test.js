// What a channel holds: pages forward and backward, single messages, purge, and the channel itself.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { publishAll } from "./burst.js";
import { ID, TIME, assertProblem } from "./problem.js";
import { Server } from "./server.js";
import { CURSOR, freshName } from "./stock.js";

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

const get = (channel, query = "") => server.v1("GET", `/channels/${channel}/messages${query}`);

async function page(channel, query) {
  const answer = await get(channel, query);
  assert.equal(answer.status, 200, answer.body);
  return { ...answer.json, data: answer.json.messages.map(({ data }) => data) };
}

/** A channel that holds 1..=`count`, and what publishing them was answered. */
async function filled(count) {
  const channel = freshName();
  return { channel, answers: await publishAll(server, channel, range(1, count)) };
}

describe("GET messages", () => {
  it("answers a page in this form", async () => {
    const { channel, answers } = await filled(2);
    const { json } = await get(channel);
    assert.deepEqual(Object.keys(json).sort(), ["channel", "cursor", "epoch", "first_offset", "has_more", "messages", "next_offset"]);
    assert.deepEqual([json.channel, json.epoch, json.first_offset, json.next_offset, json.has_more], [channel, answers[0].epoch, 1, 3, false]);
    assert.match(json.cursor, CURSOR);
    for (const [index, { ts, ...message }] of json.messages.entries()) {
      assert.deepEqual(message, { id: answers[index].id, offset: index + 1, event: "message", data: index + 1 });
      assert.match(ts, TIME);
      assert.ok(Math.abs(Date.parse(ts) - Date.now()) < 60_000);
    }
  });

  it("is empty for a channel that nobody published to", async () => {
    const { data, has_more, next_offset } = await page(freshName(), "");
    assert.deepEqual([data, has_more, next_offset], [[], false, 1]);
  });

  it("holds 100 messages unless told otherwise, and at most 1,000", async () => {
    const { channel } = await filled(1);
    for (let n = 0; n < 2; n += 1) await server.v1("POST", "/messages", { messages: range(1, 550).map((m) => ({ channel, data: m })) });
    assert.equal((await page(channel)).messages.length, 100);
    assert.equal((await page(channel, "?limit=1000")).messages.length, 1000);
    assert.equal((await page(channel, "?limit=1")).messages.length, 1);
    for (const limit of ["0", "1001", "-1", "x", "", "1.5"]) assertProblem(await get(channel, `?limit=${limit}`), 400);
  });

  it("pages forward by cursor and by offset, each message once", async () => {
    const { channel } = await filled(25);
    for (const next of [({ cursor }) => cursor, ({ messages }) => messages.at(-1).offset, ({ messages }) => messages.at(-1).id]) {
      const seen = [];
      let query = "?limit=10";
      for (const [size, more] of [[10, true], [10, true], [5, false]]) {
        const now = await page(channel, query);
        assert.deepEqual([now.messages.length, now.has_more], [size, more]);
        seen.push(...now.data);
        query = `?limit=10&since=${next(now)}`;
      }
      assert.deepEqual(seen, range(1, 25));
      const rest = await page(channel, query);
      assert.deepEqual([rest.data, rest.has_more, rest.recovered], [[], false, true]);
    }
  });

  it("pages backward, newest first, and its cursor continues after the newest", async () => {
    const { channel } = await filled(25);
    const first = await page(channel, "?limit=10&reverse=true");
    const second = await page(channel, `?limit=10&reverse=true&before=${first.messages.at(-1).offset}`);
    const third = await page(channel, `?limit=10&reverse=true&before=${second.messages.at(-1).id}`);
    assert.deepEqual([...first.data, ...second.data, ...third.data], range(1, 25).reverse());
    assert.deepEqual([first.has_more, second.has_more, third.has_more], [true, true, false]);
    await publishAll(server, channel, [26]);
    assert.deepEqual((await page(channel, `?since=${first.cursor}`)).data, [26]);
  });

  it("takes since and before together, both exclusive", async () => {
    const { channel } = await filled(10);
    assert.deepEqual((await page(channel, "?since=3&before=7")).data, [4, 5, 6]);
    assert.deepEqual((await page(channel, "?since=all&before=3")).data, [1, 2]);
    assert.deepEqual((await page(channel, "?since=3&before=7&reverse=true")).data, [6, 5, 4]);
  });

  it("says whether what follows since is whole, and why not", async () => {
    const { channel, answers } = await filled(3);
    const told = async (since, from = channel) => (({ recovered, reason }) => [recovered, reason])(await page(from, `?since=${encodeURIComponent(since)}`));
    for (const since of ["all", 0, 1, 3, answers[0].id, answers[0].cursor]) assert.deepEqual(await told(since), [true, undefined], String(since));
    assert.deepEqual(await told(4), [false, "ahead"]);
    assert.deepEqual(await told("rubbish"), [false, "no_cursor"]);
    await server.v1("DELETE", `/channels/${channel}/messages`);
    await publishAll(server, channel, range(1, 3));
    for (const since of [answers[0].id, answers[0].cursor]) assert.deepEqual(await told(since), [false, "epoch"]);
    const small = await Server.start(["--history-max-messages", "2"]);
    try {
      const [first] = await publishAll(small, "c", range(1, 5));
      for (const since of [1, first.id, first.cursor]) {
        const { json } = await small.v1("GET", `/channels/c/messages?since=${since}`);
        assert.deepEqual([json.recovered, json.reason, json.first_offset, json.next_offset], [false, "trimmed", 4, 6]);
        assert.deepEqual(json.messages.map(({ data }) => data), [4, 5]);
      }
    } finally {
      await small.stop();
    }
  });

  it("answers the same bytes after a kill -9, and its cursors live on", async () => {
    const { channel } = await filled(5);
    const { cursor } = await page(channel, "?limit=2");
    const messages = async () => /"messages":.*\]/s.exec((await get(channel)).body)[0];
    const text = await messages();
    await server.crashAndRestart();
    assert.equal(await messages(), text);
    const rest = await page(channel, `?since=${cursor}`);
    assert.deepEqual([rest.data, rest.recovered], [[3, 4, 5], true]);
  });

  it("refuses a question it does not understand", async () => {
    const { channel } = await filled(1);
    for (const query of ["?before=x", "?before=-1", "?reverse=maybe", "?sincE=1"]) assertProblem(await get(channel, query), 400);
  });
});

describe("one message", () => {
  it("is found by id and by offset", async () => {
    const { channel, answers } = await filled(3);
    for (const name of [answers[1].id, 2]) {
      const { status, json } = await server.v1("GET", `/channels/${channel}/messages/${name}`);
      const { ts, ...message } = json;
      assert.equal(status, 200);
      assert.match(ts, TIME);
      assert.deepEqual(Object.fromEntries(["id", "offset", "event", "data", "acked_by"].map((key) => [key, message[key]])),
        { id: answers[1].id, offset: 2, event: "message", data: 2, acked_by: [] });
    }
  });

  it("is not found when it is not there, or another is at its place", async () => {
    const { channel, answers } = await filled(3);
    const other = await filled(3);
    const [epoch, , tag] = answers[1].id.split("-");
    assert.match(answers[1].id, ID);
    const forged = `${epoch}-2-${tag === "00000000" ? "00000001" : "00000000"}`;
    for (const name of [4, 0, forged, other.answers[1].id]) assertProblem(await server.v1("GET", `/channels/${channel}/messages/${name}`), 404, "not_found");
    for (const name of ["rubbish", "-1", "%20"]) {
      const answer = await server.v1("GET", `/channels/${channel}/messages/${name}`);
      assert.ok([400, 404].includes(answer.status), `${name}: ${answer.status}`);
      assertProblem(answer, answer.status);
    }
  });
});

describe("DELETE messages", () => {
  it("forgets all of a channel and nothing of another, in a new epoch, for good", async () => {
    const [purged, kept] = [await filled(3), await filled(2)];
    const answer = await server.v1("DELETE", `/channels/${purged.channel}/messages`);
    assert.deepEqual([answer.status, answer.json], [200, { channel: purged.channel, purged: 3 }]);
    assert.deepEqual((await page(purged.channel)).data, []);
    await server.crashAndRestart();
    assert.deepEqual([(await page(purged.channel)).data, (await page(kept.channel)).data], [[], [1, 2]]);
    const [next] = await publishAll(server, purged.channel, ["anew"]);
    assert.notEqual(next.epoch, purged.answers[0].epoch);
    assert.equal(next.offset, 1);
    assert.deepEqual((await page(purged.channel)).data, ["anew"]);
    assert.equal((await server.v1("DELETE", `/channels/${freshName()}/messages`)).json.purged, 0);
  });
});

describe("GET a channel", () => {
  it("tells what it holds and what it keeps", async () => {
    const { channel, answers } = await filled(3);
    const { status, json } = await server.v1("GET", `/channels/${channel}`);
    assert.equal(status, 200);
    const { history, ...rest } = json;
    assert.deepEqual(rest, { channel, epoch: answers[0].epoch, first_offset: 1, next_offset: 4, messages: 3, subscribers: 0, durability: "fsync" });
    assert.deepEqual(Object.keys(history).sort(), ["max_age", "max_bytes", "max_messages"]);
    assert.equal(history.max_messages, 1000);
  });
});
