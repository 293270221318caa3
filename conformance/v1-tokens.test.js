// Tokens by /v1: the same as the seed's, rotated, revoked; a revocation is felt by everybody inside.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { io as io30 } from "socket.io-client-3.0";
import { io as io4x } from "socket.io-client-4.x";

import { publishAll } from "./burst.js";
import { TIME, assertProblem } from "./problem.js";
import { Server } from "./server.js";
import { StockClient, TRANSPORTS, freshName } from "./stock.js";
import { Wire } from "./wire.js";

const TOKEN = /^[A-Za-z0-9_-]{43}$/;
const DAY_MS = 86_400_000;

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

const ask = (channel, body) => server.v1("POST", `/channels/${channel}/tokens`, body);
const revoke = (channel) => server.v1("DELETE", `/channels/${channel}/tokens`);

/** A bare connection that joined by the seed's door. */
async function joined(t, token) {
  const wire = await Wire.open(server.url);
  t.after(() => wire.close());
  wire.send("40");
  await wire.next();
  await wire.next();
  wire.send(`42["join_channel",{"token":"${token}"}]`);
  wire.answer = await wire.next();
  return wire;
}

const opens = async (t, token) => (await joined(t, token)).answer !== "41";

describe("POST tokens", () => {
  it("is the seed's token, however it is asked for", async () => {
    const channel = freshName();
    const seed = await server.token(channel);
    for (const body of [undefined, "", "{}", { mode: "get_or_create" }]) {
      const { status, json } = await ask(channel, body);
      assert.equal(status, 200);
      assert.deepEqual([json.channel, json.token], [channel, seed]);
      assert.match(json.expires_at, TIME);
      assert.ok(Math.abs(Date.parse(json.expires_at) - Date.now() - 7 * DAY_MS) < 3_600_000, json.expires_at);
    }
    const other = (await ask(freshName())).json.token;
    assert.match(other, TOKEN);
    assert.notEqual(other, seed);
  });

  it("gives one token to many who ask at once", async () => {
    const channel = freshName();
    const answers = await Promise.all(Array.from({ length: 30 }, (_, n) => (n % 2 ? ask(channel).then(({ json }) => json.token) : server.token(channel))));
    assert.equal(new Set(answers).size, 1);
  });

  it("takes a ttl", async () => {
    for (const [ttl, ms] of [["1h", 3_600_000], [120, 120_000]]) {
      const { expires_at } = (await ask(freshName(), { ttl })).json;
      assert.ok(Math.abs(Date.parse(expires_at) - Date.now() - ms) < 30_000, `${ttl}: ${expires_at}`);
    }
  });

  it("rotates: the old token opens nothing any more, and who is in stays in", async (t) => {
    const channel = freshName();
    const old = await server.token(channel);
    const wire = await joined(t, old);
    const { token } = (await ask(channel, { mode: "rotate" })).json;
    assert.notEqual(token, old);
    assert.deepEqual([await opens(t, old), await opens(t, token)], [false, true]);
    await publishAll(server, channel, ["still here"]);
    await wire.expect('42["message","still here"]');
    await server.crashAndRestart();
    assert.deepEqual([await opens(t, old), await opens(t, token), await server.token(channel)], [false, true, token]);
  });

  it("refuses what it does not know", async () => {
    for (const body of ["nonsense", "[]", { mode: "other" }, { mode: 7 }, { ttl: "soon" }, { ttl: -1 }]) assertProblem(await ask(freshName(), body), 400);
    assertProblem(await ask(freshName(), { tll: "1h" }), 400, "unknown_field");
  });
});

describe("DELETE tokens", () => {
  it("disconnects every connection of the channel, whatever door it came by, and no other", async (t) => {
    const [channel, other] = [freshName(), freshName()];
    const token = await server.token(channel);
    const bare = await joined(t, token);
    const bystander = await joined(t, await server.token(other));
    const clients = [];
    for (const transports of Object.values(TRANSPORTS)) {
      clients.push(new StockClient(t, io4x, server.url, { auth: { tokens: [token, await server.token(other)] }, transports }));
      const seed = new StockClient(t, io30, server.url, { transports });
      await seed.ask("join_channel", { token });
      clients.push(seed);
    }
    for (const client of clients) await client.nth("connect");
    for (const client of clients) await client.upgraded();
    const { status, json } = await revoke(channel);
    await bare.expect("41");
    for (const client of clients) assert.deepEqual(await client.nth("disconnect"), ["io server disconnect"]);
    assert.deepEqual([status, json], [200, { channel, revoked: true, disconnected: clients.length + 1 }]);
    await publishAll(server, other, ["undisturbed"]);
    await bystander.expect('42["message","undisturbed"]');
    for (const client of clients) assert.equal(client.of("connect").length, 1, "a stock client does not come back from this by itself");
  });

  it("holds through a kill -9, and the next token is another", async (t) => {
    const channel = freshName();
    const token = await server.token(channel);
    assert.equal((await revoke(channel)).json.revoked, true);
    assert.deepEqual((await revoke(channel)).json, { channel, revoked: false, disconnected: 0 });
    await server.crashAndRestart();
    assert.equal(await opens(t, token), false);
    const next = await server.token(channel);
    assert.notEqual(next, token);
    assert.deepEqual([await opens(t, token), await opens(t, next)], [false, true]);
  });

  it("goes by the token as well", async (t) => {
    const channel = freshName();
    const token = await server.token(channel);
    const wire = await joined(t, token);
    const { status, json } = await server.v1("DELETE", `/tokens/${token}`);
    assert.deepEqual([status, json], [200, { channel, revoked: true, disconnected: 1 }]);
    await wire.expect("41");
    assert.equal(await opens(t, token), false);
    const unknown = await server.v1("DELETE", `/tokens/${token}`);
    if (unknown.status === 200) assert.equal(unknown.json.revoked, false);
    else assertProblem(unknown, 404, "not_found");
  });

  it("closes the door for a client that would resume, with the reason", async (t) => {
    const channel = freshName();
    const client = new StockClient(t, io4x, server.url, { auth: { token: await server.token(channel) } });
    await client.settled();
    await revoke(channel);
    await client.nth("disconnect");
    client.socket.connect();
    assert.equal((await client.nth("connect_error"))[0].data?.code, "token_invalid");
  });
});
