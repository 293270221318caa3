// Acknowledgements: cumulative, monotonic, kept through a kill -9, and what "unread" is made of, by socket and by HTTP.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { io as io30 } from "socket.io-client-3.0";
import { io as io4x } from "socket.io-client-4.x";

import { publishAll } from "./burst.js";
import { Server } from "./server.js";
import { EventStream } from "./sse.js";
import { StockClient, freshName } from "./stock.js";

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

/** A client in a channel that holds 1..=5. */
async function reader(t, { io = io4x, channel = freshName(), ...how } = {}) {
  if (!("since" in how)) await publishAll(server, channel, range(1, 5));
  const client = new StockClient(t, io, server.url);
  const [answer] = await client.ask("join_channel", { token: await server.token(channel), since: "all", ...how });
  return Object.assign(client, { channel, answer, ack: (offset, more) => client.ask("ack", { channel, offset, ...more }) });
}

const consumer = async (channel, name) => (await server.v1("GET", `/channels/${channel}/consumers/${encodeURIComponent(name)}`)).json;

describe("ack", () => {
  for (const [version, io] of [["3.0", io30], ["4.x", io4x]]) {
    it(`is cumulative and never goes back: ${version}`, async (t) => {
      const client = await reader(t, { io });
      assert.equal(client.answer.unread, 5);
      assert.deepEqual(await client.ack(2), [{ offset: 2, unread: 3 }]);
      assert.deepEqual(await client.ack(4), [{ offset: 4, unread: 1 }]);
      assert.deepEqual(await client.ack(1), [{ offset: 4, unread: 1 }]);
      assert.deepEqual(await client.ack(4), [{ offset: 4, unread: 1 }]);
      await publishAll(server, client.channel, [6]);
      assert.deepEqual(await client.ack(6), [{ offset: 6, unread: 0 }]);
    });
  }

  it("survives a kill -9 right after its callback", async (t) => {
    const client = await reader(t);
    for (const offset of [2, 3, 5]) {
      assert.equal((await client.ack(offset))[0].offset, offset);
      const connections = client.of("connect").length;
      await server.crashAndRestart();
      assert.equal((await consumer(client.channel, "default")).offset, offset);
      await client.nth("connect", connections + 1);
      await client.ask("join_channel", { token: await server.token(client.channel) });
    }
  });

  it("is kept for each consumer and each channel by itself", async (t) => {
    const [one, two] = [await reader(t), await reader(t)];
    await one.ack(1);
    await one.ack(3, { consumer: "phone" });
    await one.ack(5, { consumer: "täblet 😀" });
    assert.deepEqual(await two.ack(2), [{ offset: 2, unread: 3 }]);
    assert.deepEqual((await server.v1("GET", `/channels/${one.channel}/consumers`)).json.consumers
      .map(({ consumer: name, offset, unread }) => [name, offset, unread])
      .sort(), [["default", 1, 4], ["phone", 3, 2], ["täblet 😀", 5, 0]]);
  });

  it("is where whoever reads by HTTP begins, in pages and in streams", async (t) => {
    const { channel, ack } = await reader(t);
    await ack(3);
    await ack(4, { consumer: "phone" });
    const offsets = async (query) => (await server.v1("GET", `/channels/${channel}/messages?${query}`)).json.messages.map(({ offset }) => offset);
    assert.deepEqual(await offsets("since=unread"), [4, 5]);
    assert.deepEqual(await offsets("since=unread&consumer=phone"), [5]);
    assert.deepEqual(await offsets("since=unread&consumer=nobody"), [1, 2, 3, 4, 5]);
    assert.equal((await server.v1("GET", `/channels/${channel}/messages?since=1&consumer=phone`)).json.code, "invalid_query");
    const stream = await EventStream.open(t, server, `/channels/${channel}/stream?since=unread&consumer=phone&meta=true`);
    assert.equal(JSON.parse((await stream.next()).data).offset, 5);
  });

  it("is refused when it is ahead of the newest, and nothing changes", async (t) => {
    const client = await reader(t);
    await client.ack(2);
    const [{ error }] = await client.ack(6);
    assert.equal(error.code, "ahead");
    assert.ok(error.message.length > 0);
    assert.equal((await consumer(client.channel, "default")).offset, 2);
  });

  it("that names an id confirms nothing once the channel was purged, and one that names both is malformed", async (t) => {
    const client = new StockClient(t, io4x, server.url, { auth: { meta: true } });
    const channel = freshName();
    await publishAll(server, channel, range(1, 3));
    await client.ask("join_channel", { token: await server.token(channel), since: "all" });
    const { id } = (await client.nth("message", 2)).at(-1);
    assert.deepEqual(await client.ask("ack", { channel, id }), [{ offset: 2, unread: 1 }]);
    const [malformed] = await client.ask("ack", { channel, id, offset: 2 });
    assert.equal(malformed.error?.code, "bad_request");

    assert.equal((await server.v1("DELETE", `/channels/${channel}/messages`)).status, 200);
    await publishAll(server, channel, range(1, 3));
    const [{ error }] = await client.ask("ack", { channel, id });
    assert.equal(error.code, "epoch");
    assert.deepEqual((({ offset, unread }) => ({ offset, unread }))(await consumer(channel, "default")), { offset: 0, unread: 3 });
  });

  it("is refused for a channel that was not joined, whether it exists or not", async (t) => {
    const [client, other] = [await reader(t), await reader(t)];
    for (const channel of [other.channel, freshName()]) {
      const [{ error }] = await client.ask("ack", { channel, offset: 1 });
      assert.equal(error.code, "not_joined");
    }
    assert.equal((await consumer(other.channel, "default")).offset, 0);
  });

  it("is refused when it is malformed, and the connection stays", async (t) => {
    const client = await reader(t);
    const { channel } = client;
    const malformed = [{}, { channel }, { offset: 1 }, { channel, offset: "1" }, { channel, offset: -1 }, { channel, offset: 1.5 }, { channel, offset: null },
      { channel: 7, offset: 1 }, { channel, offset: 1, consumer: "" }, { channel, offset: 1, consumer: "x".repeat(129) }, { channel, offset: 1, consumer: 7 }, [], "rubbish", null, 7];
    for (const argument of malformed) {
      const [answer] = await client.ask("ack", argument);
      assert.equal(answer.error?.code, "bad_request", JSON.stringify(argument));
    }
    assert.deepEqual(await client.ack(1, { consumer: "x".repeat(128) }), [{ offset: 1, unread: 4 }]);
    assert.equal(client.of("disconnect").length, 0);
  });

  it("needs no callback", async (t) => {
    const client = await reader(t);
    client.socket.emit("ack", { channel: client.channel, offset: 3 });
    assert.deepEqual(await client.ack(1), [{ offset: 3, unread: 2 }]);
  });

  it("works in the handshake door too", async (t) => {
    const channel = freshName();
    await publishAll(server, channel, range(1, 3));
    const client = new StockClient(t, io4x, server.url, { auth: { token: await server.token(channel) } });
    await client.settled();
    assert.deepEqual(await client.ask("ack", { channel, offset: 3 }), [{ offset: 3, unread: 0 }]);
  });
});

describe("unread", () => {
  it("is where the consumer stopped, on any device, after any restart", async (t) => {
    const first = await reader(t, { consumer: "me" });
    await first.ack(3, { consumer: "me" });
    first.socket.disconnect();
    await server.crashAndRestart();
    await publishAll(server, first.channel, [6]);
    const second = await reader(t, { channel: first.channel, since: "unread", consumer: "me" });
    assert.deepEqual([second.answer.recovered, second.answer.unread, second.answer.offset], [true, 3, 6]);
    await second.message(6);
    assert.deepEqual(second.messages, [4, 5, 6]);
  });

  it("is everything for a consumer that never confirmed, and nothing for one that confirmed all", async (t) => {
    const { channel, ack } = await reader(t);
    const fresh = await reader(t, { channel, since: "unread", consumer: "fresh" });
    assert.equal(fresh.answer.unread, 5);
    await fresh.message(5);
    assert.deepEqual(fresh.messages, range(1, 5));
    await ack(5);
    const done = await reader(t, { channel, since: "unread" });
    assert.equal(done.answer.unread, 0);
    await publishAll(server, channel, [6]);
    await done.message(6);
    assert.deepEqual(done.messages, [6]);
  });

  it("begins anew with the history after a purge", async (t) => {
    const { channel, ack } = await reader(t);
    await ack(5);
    await server.v1("DELETE", `/channels/${channel}/messages`);
    await publishAll(server, channel, ["a", "b"]);
    const { offset, unread } = await consumer(channel, "default");
    assert.deepEqual([offset, unread], [0, 2], "a position in a history that is gone confirms nothing in this one");
    const back = await reader(t, { channel, since: "unread" });
    assert.deepEqual([back.answer.recovered, back.answer.reason, back.answer.unread], [false, "epoch", 2]);
    await back.message("b");
    assert.deepEqual(back.messages, ["a", "b"]);
    await back.ack(1);
    const again = await reader(t, { channel, since: "unread" });
    assert.deepEqual([again.answer.recovered, again.answer.unread], [true, 1], "it knows the new history now");
  });
});

describe("/v1/channels/{c}/consumers", () => {
  it("tells who confirmed what, for a channel and for one message", async (t) => {
    const client = await reader(t);
    await client.ack(3, { consumer: "phone" });
    await client.ack(1, { consumer: "desk" });
    const { json } = await server.v1("GET", `/channels/${client.channel}/consumers`);
    assert.equal(json.channel, client.channel);
    for (const { acked_at } of json.consumers) assert.match(acked_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    const ackedBy = async (n) => (await server.v1("GET", `/channels/${client.channel}/messages/${n}`)).json.acked_by.sort();
    assert.deepEqual([await ackedBy(1), await ackedBy(3), await ackedBy(4)], [["desk", "phone"], ["phone"], []]);
  });

  it("sets, reads and forgets a consumer", async () => {
    const channel = freshName();
    await publishAll(server, channel, range(1, 5));
    const path = `/channels/${channel}/consumers/job%2F1`;
    const put = (offset) => server.v1("PUT", path, { offset });
    const held = async () => (({ consumer: name, offset, unread }) => [name, offset, unread])((await server.v1("GET", path)).json);
    assert.deepEqual(await held(), ["job/1", 0, 5], "an unknown one has confirmed nothing");
    assert.equal((await put(3)).status, 200);
    assert.deepEqual(await held(), ["job/1", 3, 2]);
    assert.equal((await put(2)).status, 200);
    assert.deepEqual(await held(), ["job/1", 3, 2]);
    assert.ok((await put(6)).status >= 400, "ahead of the newest");
    for (const body of ["{}", '{"offset":-1}', '{"offset":"1"}', '{"offset":1,"x":1}', "nonsense"]) {
      assert.equal((await server.v1("PUT", path, body)).status, 400, body);
    }
    assert.deepEqual(await held(), ["job/1", 3, 2]);
    await server.crashAndRestart();
    assert.deepEqual(await held(), ["job/1", 3, 2]);
    assert.ok((await server.v1("DELETE", path)).status < 300);
    assert.deepEqual(await held(), ["job/1", 0, 5]);
    assert.deepEqual((await server.v1("GET", `/channels/${channel}/consumers`)).json.consumers, []);
  });
});
