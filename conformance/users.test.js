// limits.connections_per_user: how many connections the JWTs of one user let in, on both transports and through every door.

import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { io as io4x } from "socket.io-client-4.x";

import { publishAll } from "./burst.js";
import { request } from "./http.js";
import { Link } from "./link.js";
import { assertProblem } from "./problem.js";
import { Server } from "./server.js";
import { EventStream } from "./sse.js";
import { StockClient, TRANSPORTS, freshName } from "./stock.js";
import { within } from "./wire.js";

const SECRETS = { one: "a secret of the tests, with more than 32 bytes", two: "another secret of the tests, with more than 32 bytes" };
const PER_USER = 2;
const config = (limits, more = "") => `
${Object.entries(SECRETS).map(([issuer, secret]) => `[[jwt]]\nissuer = "${issuer}"\nsecret = "${secret}"\n`).join("\n")}
[limits]
${limits}
${more}
`;

// A dead connection is noticed after 45 seconds: longer than any test takes.
let server;
// Here it is noticed soon.
let quick;
before(async () => {
  const limit = `connections_per_user = ${PER_USER}`;
  const timing = '[socketio]\nping_interval = "300ms"\nping_timeout = "2s"';
  [server, quick] = await Promise.all([Server.start([], { config: config(limit) }), Server.start([], { config: config(limit, timing) })]);
});
after(() => Promise.all([server?.stop(), quick?.stop()]));

const freshUser = () => `u-${randomUUID()}`;

function sign(sub, channels, { iss = "one", ttl = 600 } = {}) {
  const iat = Math.floor(Date.now() / 1000);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const message = `${part({ alg: "HS256", typ: "JWT" })}.${part({ iss, sub, iat, exp: iat + ttl, channels })}`;
  return `${message}.${createHmac("sha256", SECRETS[iss]).update(message).digest("base64url")}`;
}

const connect = (t, auth, { at = server, url = at.url, ...options } = {}) => new StockClient(t, io4x, url, { auth, ...options });

/** A client that is let in. */
const enter = async (t, auth, options) => {
  const client = connect(t, auth, options);
  await client.settled();
  await client.upgraded();
  return client;
};

/** What a client is answered that comes once: `"in"`, or the code that it is refused with. */
async function attempt(t, auth, options) {
  const client = connect(t, auth, { reconnection: false, ...options });
  return client.until("an answer", () => {
    const error = client.of("connect_error")[0]?.[0];
    return error ? error.data.code : client.recoveries.length > 0 && "in";
  });
}

/** Comes again until it is let in. */
async function enterInTime(t, auth, options) {
  const trying = async () => {
    while ((await attempt(t, auth, options)) !== "in") await sleep(50);
  };
  await within(trying(), "a place to be given back");
}

async function counted(counter, at = server) {
  const { body } = await request(`${at.url}/metrics`, { headers: { authorization: at.key } });
  const line = body.split("\n").find((text) => text.startsWith(`channelapi_${counter} `));
  return Number(line.split(" ").at(-1));
}

for (const [mode, transports] of Object.entries(TRANSPORTS)) {
  describe(`the connections of one user, ${mode}`, () => {
    const full = async (t, options = {}) => {
      const [user, channel] = [freshUser(), freshName()];
      const auth = (give) => give({ token: sign(user, [channel]) });
      const clients = [];
      while (clients.length < PER_USER) clients.push(await enter(t, auth, { transports, ...options }));
      return { user, channel, auth, clients };
    };

    it("are limited, those of others are not, and each gives its place back", async (t) => {
      const before = await counted('joins_refused_total{reason="user"}');
      const { user, channel, auth, clients } = await full(t);
      assert.equal(await attempt(t, auth, { transports }), "too_many_connections");
      assert.equal(await attempt(t, { jwt: sign(user, [freshName()]) }, { transports }), "too_many_connections", "with another JWT");
      assert.equal(await counted('joins_refused_total{reason="user"}'), before + 2);

      // Nobody else pays for it: not a user of the same name elsewhere, and not those who have no name.
      await enter(t, { token: sign(freshUser(), [channel]) }, { transports });
      await enter(t, { token: sign(user, [channel], { iss: "two" }) }, { transports });
      for (let count = 0; count <= PER_USER; count += 1) {
        await enter(t, { token: sign(undefined, [channel]) }, { transports });
        await enter(t, { token: await server.token(channel) }, { transports });
      }
      await publishAll(server, channel, [1]);
      await Promise.all(clients.map((client) => client.kept(1)));

      clients[0].socket.disconnect();
      await enterInTime(t, auth, { transports });
      assert.equal(await attempt(t, auth, { transports }), "too_many_connections");
    });

    it("are as many again when they come back before anybody has noticed that they were gone", async (t) => {
      const link = await Link.open(t, server);
      const { channel, auth, clients } = await full(t, { url: link.url });
      for (let round = 1; round <= 2; round += 1) {
        await Promise.all(clients.map((client) => client.until("the loss", () => (link.cut(), client.of("disconnect").length >= round))));
        await publishAll(server, channel, [round]);
        link.restore();
        await Promise.all(clients.map((client) => client.kept(round)));
      }
      // Whoever was refused on the way would have heard of it, and stayed away.
      for (const client of clients) assert.deepEqual([client.of("connect_error").filter(([error]) => error.data), client.messages], [[], [1, 2]]);
      for (const client of clients) assert.ok(client.recoveries.slice(1).every((yes) => yes), `${client.recoveries}`);
      assert.equal(await attempt(t, auth, { transports }), "too_many_connections");
    });

    it("give their places back when their network has gone for good", async (t) => {
      const link = await Link.open(t, quick);
      const { auth, clients } = await full(t, { at: quick, url: link.url, reconnection: false });
      assert.equal(await attempt(t, auth, { transports, at: quick }), "too_many_connections");
      link.cut();
      await Promise.all(clients.map((client) => client.nth("disconnect")));
      for (let count = 0; count < PER_USER; count += 1) await enterInTime(t, auth, { transports, at: quick });
    });
  });
}

describe("the doors for one user", () => {
  /** A user whose places are all taken. */
  const busy = async (t) => {
    const user = freshUser();
    const clients = [];
    while (clients.length < PER_USER) clients.push(await enter(t, { token: sign(user, [freshName()]) }));
    return { user, clients };
  };

  it("join_channel says so to who asks, and disconnects who does not", async (t) => {
    const { user, clients } = await busy(t);
    const channel = freshName();
    const asks = connect(t, {});
    await asks.nth("connect");
    const [answer] = await asks.ask("join_channel", { token: sign(user, [channel]) });
    assert.equal(answer.error.code, "too_many_connections");
    await asks.ask("join_channel", { token: sign(freshUser(), [freshName()]) });
    assert.deepEqual(asks.of("disconnect"), []);

    const silent = connect(t, {});
    await silent.nth("connect");
    silent.socket.emit("join_channel", { token: sign(user, [channel]) });
    assert.deepEqual(await silent.nth("disconnect"), ["io server disconnect"]);

    // Who has a place needs no other for a second channel, and gives it back with the first one.
    const [, second] = clients;
    await second.ask("join_channel", { token: sign(user, [channel]) });
    second.socket.disconnect();
    await within((async () => {
      while ((await asks.ask("join_channel", { token: sign(user, [channel]) }))[0]?.error) await sleep(20);
    })(), "the place to be given back");
    await publishAll(server, channel, ["inside"]);
    await asks.message("inside");
    assert.equal(await attempt(t, { token: sign(user, [freshName()]) }), "too_many_connections");
  });

  it("auth takes a JWT of somebody else only if there is a place, and gives the other one back", async (t) => {
    const { user } = await busy(t);
    const [other, channel] = [freshUser(), freshName()];
    const [first, changing] = [await enter(t, { token: sign(other, [channel]) }), await enter(t, { token: sign(other, [channel]) })];
    const [refused] = await changing.ask("auth", { token: sign(user, [channel]) });
    assert.equal(refused.error.code, "too_many_connections");
    await publishAll(server, channel, ["still here"]);
    await changing.kept("still here");
    assert.equal(await attempt(t, { token: sign(other, [channel]) }), "too_many_connections");

    const [renewed] = await changing.ask("auth", { token: sign(other, [channel]) });
    assert.deepEqual(renewed.channels, [channel], "for the same user it needs no other place");
    const [moved] = await changing.ask("auth", { token: sign(freshUser(), [channel]) });
    assert.deepEqual(moved.channels, [channel]);
    await enter(t, { token: sign(other, [channel]) });
    assert.deepEqual(first.of("disconnect"), []);
  });

  it("an event stream takes a place, too", async (t) => {
    const [user, channel] = [freshUser(), freshName()];
    const path = `/channels/${channel}/stream?token=${sign(user, [channel])}`;
    const before = await counted('requests_refused_total{reason="user"}');
    await enter(t, { token: sign(user, [channel]) });
    const stream = await EventStream.open(t, server, path, { key: false });
    assert.equal(stream.status, 200);
    assert.equal(await attempt(t, { token: sign(user, [channel]) }), "too_many_connections");
    const answer = await request(`${server.url}/v1${path}`);
    assertProblem({ ...answer, json: JSON.parse(answer.body) }, 429, "too_many_connections");
    assert.equal(answer.headers["retry-after"], "10");
    assert.equal(await counted('requests_refused_total{reason="user"}'), before + 1);
    assert.equal((await EventStream.open(t, server, `/channels/${channel}/stream`)).status, 200, "who has the key is no user");
    stream.abandon();
    await enterInTime(t, { token: sign(user, [channel]) });
  });
});

describe("a limit that is set while users are here", () => {
  it("counts those, lets them stay, and is lifted again", async (t) => {
    const own = await Server.start([], { config: config("") });
    t.after(() => own.stop());
    const reload = async (limits) => {
      const count = () => own.log.split("the configuration is reloaded").length;
      const before = count();
      await writeFile(own.configFile, config(limits));
      own.process.child.kill("SIGHUP");
      await within((async () => {
        while (count() === before) await sleep(20);
      })(), "the configuration to be read again");
    };
    const [user, channel] = [freshUser(), freshName()];
    const auth = { token: sign(user, [channel]) };
    const clients = [];
    while (clients.length < 3) clients.push(await enter(t, auth, { at: own }));
    await reload("connections_per_user = 2");
    assert.equal(await attempt(t, auth, { at: own }), "too_many_connections");
    await publishAll(own, channel, [1]);
    await Promise.all(clients.map((client) => client.kept(1)));
    for (const client of clients) assert.deepEqual(client.of("disconnect"), []);

    clients[1].socket.disconnect();
    clients[2].socket.disconnect();
    await enterInTime(t, auth, { at: own });
    await reload("connections_per_user = 0");
    for (let count = 0; count < 3; count += 1) await enter(t, auth, { at: own });
  });
});
