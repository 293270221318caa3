// GET /v1/channels/{c}/stream: `curl -N` is a client too, and one that comes back loses nothing.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { Burst, publishAll } from "./burst.js";
import { ID, TIME, assertProblem } from "./problem.js";
import { Server } from "./server.js";
import { EventStream } from "./sse.js";
import { CURSOR, freshName } from "./stock.js";

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

const open = (t, channel, query = "", options = {}) => EventStream.open(t, server, `/channels/${channel}/stream${query}`, options);

describe("the stream of a channel", () => {
  it("is live from now, with cursor, event and data", async (t) => {
    const channel = freshName();
    await publishAll(server, channel, ["before"]);
    const stream = await open(t, channel);
    assert.equal(stream.status, 200);
    assert.match(stream.headers["content-type"], /^text\/event-stream/);
    const answers = await publishAll(server, channel, [{ a: 1 }]);
    await server.v1("POST", `/channels/${channel}/messages`, '{"event":"order.paid","data":12345678901234567890}');
    const first = await stream.next();
    assert.deepEqual([first.event, first.data], ["message", '{"a":1}']);
    assert.match(first.id, CURSOR);
    assert.equal(first.id.length, answers[0].cursor.length);
    const second = await stream.next();
    assert.deepEqual([second.event, second.data], ["order.paid", "12345678901234567890"]);
  });

  it("splits data at its line breaks, as the format wants, and nothing else", async (t) => {
    const channel = freshName();
    const stream = await open(t, channel);
    for (const json of ['{\n"a":\n\n[1]}', '{"z":1e400,  "a":"\\n\\r\\u2028"}', '"\u2028"', "null"]) {
      await server.publish(channel, json);
      await stream.expect(json);
    }
  });

  it("lets no carriage return in the data break it", async (t) => {
    const channel = freshName();
    const stream = await open(t, channel);
    await server.publish(channel, '{"a":\r\n1,\r"b":2}');
    assert.deepEqual(JSON.parse((await stream.next()).data), { a: 1, b: 2 });
  });

  it("replays since all, an offset, an id and a cursor", async (t) => {
    const channel = freshName();
    const answers = await publishAll(server, channel, range(1, 4));
    await (await open(t, channel, "?since=all")).expect("1", "2", "3", "4");
    for (const since of [2, answers[1].id, answers[1].cursor]) await (await open(t, channel, `?since=${since}`)).expect("3", "4");
  });

  it("continues from Last-Event-ID across a kill -9, without a hole or a repeat", async (t) => {
    const channel = freshName();
    const burst = new Burst(server, [channel], { each: 400 }).run();
    await burst.reached(1);
    const heard = [];
    let stream = await open(t, channel, "?since=all");
    let last;
    for (const count of [100, 100, 200]) {
      for (let n = 0; n < count; n += 1) {
        const { id, data } = await stream.next();
        heard.push(JSON.parse(data).n);
        last = id;
      }
      if (count !== 100) break;
      await server.crashAndRestart();
      await stream.closed();
      stream = await open(t, channel, "", { headers: { "last-event-id": last } });
    }
    await burst.finished;
    assert.deepEqual(heard, range(0, 399));
  });

  it("prefers Last-Event-ID to since: that is what an EventSource sends when it comes back", async (t) => {
    const channel = freshName();
    const answers = await publishAll(server, channel, range(1, 4));
    await (await open(t, channel, "?since=all", { headers: { "last-event-id": answers[2].cursor } })).expect("4");
  });

  it("says first when it cannot be whole", async (t) => {
    const channel = freshName();
    const answers = await publishAll(server, channel, range(1, 3));
    await server.v1("DELETE", `/channels/${channel}/messages`);
    await publishAll(server, channel, ["anew"]);
    for (const [since, reason] of [[answers[0].cursor, "epoch"], [answers[0].id, "epoch"], ["rubbish", "no_cursor"]]) {
      const stream = await open(t, channel, `?since=${since}`);
      const { event, data } = await stream.next();
      assert.deepEqual([event, JSON.parse(data)], ["gap", { channel, reason }]);
      await stream.expect('"anew"');
    }
  });

  it("wraps each message with meta=true", async (t) => {
    const channel = freshName();
    await publishAll(server, channel, [{ a: 1 }]);
    const { id, event, data } = await (await open(t, channel, "?since=all&meta=true")).next();
    const { id: place, cursor, ts, ...rest } = JSON.parse(data);
    assert.deepEqual([event, rest], ["message", { channel, offset: 1, event: "message", data: { a: 1 } }]);
    assert.match(place, ID);
    assert.equal(cursor, id);
    if (typeof ts === "string") assert.match(ts, TIME);
    else assert.ok(Math.abs(ts - Date.now()) < 60_000);
  });

  it("carries volatile messages to who listens", async (t) => {
    const channel = freshName();
    const stream = await open(t, channel);
    await server.v1("POST", `/channels/${channel}/messages`, { data: "now", volatile: true });
    await stream.expect('"now"');
  });

  it("opens with the channel's token as well as with the key, and with nothing else", async (t) => {
    const channel = freshName();
    const token = await server.token(channel);
    await publishAll(server, channel, [1]);
    await (await open(t, channel, `?token=${token}&since=all`, { key: false })).expect("1");
    for (const query of ["", "?token=wrong", `?token=${await server.token(freshName())}`, "?token="]) {
      const { status } = await open(t, channel, query, { key: false });
      assert.equal(status, 403, query);
    }
    assertProblem(await server.v1("GET", `/channels/${channel}/stream`, undefined, { authorization: "wrong" }), 403, "forbidden");
  });

  it("ends when its token is revoked", async (t) => {
    const channel = freshName();
    const stream = await open(t, channel, `?token=${await server.token(channel)}`, { key: false });
    await server.v1("DELETE", `/channels/${channel}/tokens`);
    await stream.closed();
  });

  it("counts as a subscriber while it is open", async (t) => {
    const channel = freshName();
    const subscribers = async () => (await server.v1("GET", `/channels/${channel}`)).json.subscribers;
    const stream = await open(t, channel);
    await publishAll(server, channel, [1]);
    await stream.expect("1");
    assert.equal(await subscribers(), 1);
  });

  it("does not keep the server from ending", async (t) => {
    const other = await Server.start();
    const stream = await EventStream.open(t, other, "/channels/c/stream");
    await other.stop();
    await stream.closed();
    assert.doesNotMatch(other.log, /the time to stop is over/, "the end waited for it");
  });
});
