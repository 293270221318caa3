// POST /v1/channels/{c}/messages and what holds for every route: keys, problems, methods, request ids.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";

import { publish, publishAll } from "./burst.js";
import { request } from "./http.js";
import { ID, assertProblem } from "./problem.js";
import { joined } from "./seed.js";
import { Server } from "./server.js";
import { CURSOR, freshName } from "./stock.js";

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

const post = (channel, body, headers) => server.v1("POST", `/channels/${encodeURIComponent(channel)}/messages`, body, headers);
const stored = async (channel) => (await server.v1("GET", `/channels/${encodeURIComponent(channel)}/messages`)).json.messages;

/** A connection that joined the way the seed does. */
const subscriber = (t, channel) => joined(t, server, [channel]);

const ROUTES = {
  "/channels/c/messages": ["GET", "POST", "DELETE"],
  "/channels/c/messages/1": ["GET"],
  "/messages": ["POST"],
  "/channels/c/tokens": ["POST", "DELETE"],
  "/tokens/t": ["DELETE"],
  "/channels/c/stream": ["GET"],
  "/channels/c": ["GET"],
  "/channels/c/consumers": ["GET"],
  "/channels/c/consumers/x": ["GET", "PUT", "DELETE"],
};

describe("every route", () => {
  for (const [path, methods] of Object.entries(ROUTES)) {
    it(`refuses a wrong key and another method: ${path}`, async () => {
      for (const method of methods) {
        for (const headers of [{}, { authorization: "Bearer wrong" }, { authorization: "wrong" }, { "x-api-key": "wrong" }, { authorization: "" }]) {
          const answer = await request(`${server.url}/v1${path}`, { method, headers, ...(method === "GET" ? {} : { body: '{"data":1}' }) });
          assertProblem({ ...answer, json: JSON.parse(answer.body) }, 403, "forbidden");
        }
      }
      const answer = await server.v1("PATCH", path, "{}");
      assertProblem(answer, 405);
      const allowed = answer.headers.allow.split(",").map((method) => method.trim());
      assert.deepEqual(methods.filter((method) => !allowed.includes(method)), [], `Allow: ${answer.headers.allow}`);
      assert.ok(!allowed.includes("PATCH"));
    });
  }

  it("takes the key in three ways", async () => {
    for (const headers of [{ authorization: server.key }, { authorization: `Bearer ${server.key}` }, { authorization: undefined, "x-api-key": server.key }]) {
      const answer = await request(`${server.url}/v1/channels/${freshName()}/messages`, {
        method: "POST",
        headers: Object.fromEntries(Object.entries({ "content-type": "application/json", ...headers }).filter(([, value]) => value !== undefined)),
        body: '{"data":1}',
      });
      assert.equal(answer.status, 201, answer.body);
    }
  });

  it("echoes a request id, or makes one, on success and on refusal", async () => {
    for (const body of ['{"data":1}', "nonsense"]) {
      assert.equal((await post("c", body, { "x-request-id": "mine-1" })).headers["x-request-id"], "mine-1");
      const made = await Promise.all([post("c", body), post("c", body)]);
      assert.ok(made[0].headers["x-request-id"].length >= 8);
      assert.notEqual(made[0].headers["x-request-id"], made[1].headers["x-request-id"]);
    }
  });

  it("is one of those: anything else is not found", async () => {
    for (const path of ["/", "/nothing", "/channels", "/channels/a/b/messages", "/channels/c/messages/1/2", "/channels/c/consumers/a/b"]) {
      const answer = await server.v1("POST", path, "{}");
      assert.ok([404, 405].includes(answer.status), `${path}: ${answer.status}`);
      assertProblem(answer, answer.status);
    }
  });

  it("takes the channel as one encoded segment", async (t) => {
    for (const name of [`a/b-${randomUUID()}`, `ü 😀 100% ${randomUUID()}`, `a?b#c-${randomUUID()}`]) {
      const wire = await subscriber(t, name);
      assert.equal((await publish(server, name, 1)).json.channel, name);
      await wire.expect('42["message",1]');
      assert.equal((await stored(name)).length, 1);
    }
    for (const bad of ["a%00b", "%FF", "%E2%80%AEb", "x".repeat(256)]) assertProblem(await server.v1("POST", `/channels/${bad}/messages`, { data: 1 }), 400);
  });
});

describe("publishing", () => {
  it("answers where the message is and that it is on disk", async () => {
    const channel = freshName();
    const [first, second] = await publishAll(server, channel, [1, 2]);
    assert.deepEqual(Object.keys(first).sort(), ["channel", "cursor", "duplicate", "durability", "epoch", "id", "offset"]);
    assert.deepEqual([first.channel, first.offset, first.durability, first.duplicate], [channel, 1, "fsync", false]);
    assert.match(first.epoch, /^[0-9a-f]{16}$/);
    assert.match(first.cursor, CURSOR);
    assert.match(first.id, ID);
    assert.ok(first.id.startsWith(`${first.epoch}-1-`));
    assert.deepEqual([second.epoch, second.offset], [first.epoch, 2]);
  });

  it("goes on counting after a kill -9, in the same epoch", async () => {
    const channel = freshName();
    const [before_] = await publishAll(server, channel, ["a"]);
    await server.crashAndRestart();
    const [after_] = await publishAll(server, channel, ["b"]);
    assert.deepEqual([after_.epoch, after_.offset], [before_.epoch, 2]);
  });

  it("shares its channel with the seed's POST /message", async () => {
    const channel = freshName();
    await server.publish(channel, '"seed"');
    assert.equal((await publishAll(server, channel, ["v1"]))[0].offset, 2);
    assert.deepEqual((await stored(channel)).map(({ event, data }) => [event, data]), [["message", "seed"], ["message", "v1"]]);
  });

  const exact = ["1E+2", "12345678901234567890123456789", "1e400", '{"z":1,"a":2,"10":3,"9":4}', '{"a":1,"a":2}', '{ "a" :\t[ 1 ,\n 2 ] }',
    '"\\u00e9 \\/ \\ud800"', '"\u2028\u007f"', "0.1000000000000000055511151231257827", '"😀"', "[]", "false", '{"data":{"data":1}}'];
  it("passes the data through byte for byte, to subscribers and into history, through a kill -9", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    for (const json of exact) assert.equal((await post(channel, `{"data":${json}}`)).status, 201, json);
    for (const json of exact) await wire.expect(`42["message",${json}]`);
    const history = async () => /"messages":.*\]/s.exec((await server.v1("GET", `/channels/${channel}/messages`)).body)[0];
    const text = await history();
    for (const json of exact) assert.ok(text.includes(`"data":${json}`), `${json} in ${text}`);
    await server.crashAndRestart();
    assert.equal(await history(), text);
  });

  it("names the event", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    for (const event of ["order.paid", "x".repeat(64), 'quo"te\\ é']) {
      assert.equal((await post(channel, { event, data: { n: 1 } })).status, 201, event);
      await wire.expect(`42[${JSON.stringify(event)},{"n":1}]`);
    }
    for (const event of ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener", "error", "clientevent", "checkpoint", "gap", "join_channel", "ack"]) {
      assertProblem(await post(channel, { event, data: 1 }), 400, "reserved_event");
    }
    // What clients would take for their place.
    const { cursor } = (await post(channel, { event: "order.paid", data: { n: 2 } })).json;
    await wire.expect(`42["order.paid",{"n":2}]`);
    for (const body of [{ data: cursor }, { data: cursor, volatile: true }, { event: cursor, data: null }, { data: `cl1.${cursor.slice(4)}` }]) {
      assertProblem(await post(channel, body), 400, "reserved_data");
    }
    assert.equal((await post(channel, { event: "order.paid", data: [cursor] })).status, 201);
    await wire.expect(`42["order.paid",["${cursor}"]]`);
    for (const event of ["", "x".repeat(65), "é".repeat(33), "a\nb", "a\u0000", 7, null]) assertProblem(await post(channel, { event, data: 1 }), 400);
    assert.equal((await stored(channel)).length, 5);
  });

  it("gives out cursors that count nothing", async () => {
    const channel = freshName();
    const bodies = Array.from({ length: 64 }, (_, data) => ({ data }));
    const cursors = await Promise.all(bodies.map(async (body) => (await post(channel, body)).json.cursor));
    assert.equal(new Set(cursors).size, cursors.length);
    const places = cursors.map((cursor) => Buffer.from(cursor.slice("ca1.".length), "base64url"));
    // Of 64 random bytes some 57 are different; a number that counts would be zeros nearly everywhere.
    for (let byte = 0; byte < places[0].length; byte += 1) {
      const values = new Set(places.map((place) => place[byte]));
      assert.ok(values.size > 40, `byte ${byte} of cursors: ${[...values]}`);
    }
    // Nor can anybody see by looking often that something is stored elsewhere.
    await post(freshName(), { data: 1 });
    const looks = await Promise.all(Array.from({ length: 20 }, () => server.v1("GET", `/channels/${channel}/messages?since=60`)));
    assert.equal(new Set(looks.map((look) => look.json.cursor)).size, 20);
  });

  const refused = ["", " ", "nonsense", "{", "[]", "null", "7", '"data"', "{}", '{"data":}', '{"data":1', '{"data":1} x', '{"data":01}', '{"Data":1}', '{"event":"x"}',
    '{"data":1,"volatile":"yes"}', '{"data":1,"ttl":"soon"}', '{"data":1,"ttl":-1}', '{"data":1,"ttl":true}', '{"data":"a\nb"}', "data=1"];
  it("refuses a body that is not of this form, and stores nothing", async () => {
    const channel = freshName();
    for (const body of refused) assertProblem(await post(channel, body), 400);
    for (const body of ['{"data":1,"tags":[]}', '{"data":1,"Event":"x"}', '{"data":1,"channel":"x"}']) assertProblem(await post(channel, body), 400, "unknown_field");
    assert.deepEqual(await stored(channel), []);
  });

  it("refuses what is too large, before and after the limit of a body", async () => {
    const channel = freshName();
    for (const size of [256 * 1024, 2_000_000]) assertProblem(await post(channel, `{"data":"${"x".repeat(size)}"}`), 413);
    assert.equal((await post(channel, `{"data":"${"x".repeat(250_000)}"}`)).status, 201);
    assert.equal((await stored(channel)).length, 1);
  });

  it("delivers volatile messages to who is there, and keeps them nowhere", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    const answer = await post(channel, '{"data":{"typing": true},"event":"typing","volatile":true}');
    assert.deepEqual([answer.status, answer.json], [200, { channel, durability: "none" }]);
    await wire.expect('42["typing",{"typing": true}]');
    assert.deepEqual(await stored(channel), []);
    assert.equal((await publishAll(server, channel, [1]))[0].offset, 1, "and gives them no offset");
  });

  it("forgets a message when its ttl is over, and no other", async (t) => {
    const channel = freshName();
    for (const ttl of ["1s", 1, "1h", 3600]) assert.equal((await post(channel, { data: ttl, ttl })).status, 201, String(ttl));
    const wire = await subscriber(t, channel);
    const deadline = Date.now() + 20_000;
    while ((await stored(channel)).length > 2) assert.ok(Date.now() < deadline, "the first two are past their time");
    assert.deepEqual((await stored(channel)).map(({ offset, data }) => [offset, data]), [[3, "1h"], [4, 3600]]);
    wire.send(`42["join_channel",{"token":"${await server.token(channel)}","since":"all"}]`);
    await wire.expect(`42["clientevent",{"data":"Connected to ${channel}"}]`, '42["message","1h"]', '42["message",3600]');
    await server.crashAndRestart();
    assert.deepEqual((await stored(channel)).map(({ data }) => data), ["1h", 3600]);
  });
});

describe("Idempotency-Key", () => {
  const once = (channel, body, key) => post(channel, body, { "idempotency-key": key });

  it("gives a repeat the first answer, through a kill -9, and delivers nothing twice", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    const first = await once(channel, { data: 1 }, "k");
    assert.equal(first.status, 201);
    // Before the kill: whoever is answered does not wait until everybody was sent to.
    await wire.expect('42["message",1]');
    for (const restart of [() => {}, () => server.crashAndRestart()]) {
      await restart();
      const repeat = await once(channel, { data: 1 }, "k");
      assert.deepEqual([repeat.status, repeat.json.duplicate], [200, true]);
      for (const name of ["id", "epoch", "offset"]) assert.equal(repeat.json[name], first.json[name], name);
    }
    const [{ offset }] = await publishAll(server, channel, ["next"]);
    assert.equal(offset, 2);
    assert.equal((await stored(channel)).length, 2);
  });

  it("delivers a repeat to nobody", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    for (let n = 0; n < 5; n += 1) await once(channel, { data: "once" }, "k");
    await publishAll(server, channel, ["next"]);
    await wire.expect('42["message","once"]', '42["message","next"]');
  });

  it("lets one of many racing repeats win, and tells the others", async () => {
    for (let round = 0; round < 5; round += 1) {
      const channel = freshName();
      const answers = await Promise.all(Array.from({ length: 20 }, () => once(channel, { data: round }, "race")));
      assert.deepEqual(answers.map(({ status }) => status).sort(), [...Array(19).fill(200), 201]);
      assert.equal(new Set(answers.map(({ json }) => json.id)).size, 1);
      assert.equal((await stored(channel)).length, 1);
    }
  });

  it("refuses other data or another event under the same key", async () => {
    const channel = freshName();
    await once(channel, { data: 1 }, "k");
    for (const body of [{ data: 2 }, { data: 1, event: "other" }]) assertProblem(await once(channel, body, "k"), 409, "idempotency_key_reused");
    assert.equal((await once(freshName(), { data: 2 }, "k")).status, 201, "a key belongs to its channel");
    assert.equal((await stored(channel)).length, 1);
  });

  it("is 1 to 255 visible characters", async () => {
    for (const key of ["a", "!~", "k".repeat(255)]) assert.equal((await once(freshName(), { data: 1 }, key)).status, 201, key);
    for (const key of ["", "k".repeat(256), "a b", "é", "a\tb"]) assertProblem(await once(freshName(), { data: 1 }, key), 400);
  });

  it("is forgotten with a refusal", async () => {
    const channel = freshName();
    assertProblem(await once(channel, { data: 1, event: "gap" }, "k"), 400, "reserved_event");
    assert.equal((await once(channel, { data: 1 }, "k")).status, 201);
  });
});
