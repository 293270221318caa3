// The seed contract, byte for byte: connecting and `join_channel`, as every existing client knows them. None of it ever changes.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { join, joined } from "./seed.js";
import { Server } from "./server.js";
import { freshName } from "./stock.js";
import { Polling, Wire } from "./wire.js";

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

const subscriber = (t, ...channels) => joined(t, server, channels);

describe("connecting", () => {
  it("advertises the agreed heartbeat and limit", async (t) => {
    const session = await Polling.open(server.url);
    t.after(() => session.post("1"));
    for (const handshake of [session.handshake, (await subscriber(t)).handshake]) {
      const { sid, upgrades, ...rest } = handshake;
      assert.deepEqual(rest, { pingInterval: 25000, pingTimeout: 20000, maxPayload: 65536 });
      assert.match(sid, /^[A-Za-z0-9_-]{20,}$/);
      assert.ok(Array.isArray(upgrades));
    }
  });

  it("keeps the secret session id apart from the public socket id", async (t) => {
    const wire = await subscriber(t);
    assert.notEqual(wire.id, wire.handshake.sid);
  });

  it("greets with one frame of its own", async (t) => {
    const wire = await subscriber(t); // `joined` has checked the frames; nothing else may follow them.
    wire.send('42["join_channel"]');
    await wire.expect("41");
  });

  it("works without the slash at the end of the path", async (t) => {
    const wire = await Wire.open(server.url, { path: "/socket.io" });
    t.after(() => wire.close());
    wire.send("40");
    assert.match(await wire.next(), /^40\{"sid":"[^"]+"\}$/);
    const session = await Polling.open(server.url, "/socket.io");
    t.after(() => session.post("1"));
    assert.deepEqual(session.handshake.upgrades, ["websocket"]);
  });

  it("takes any auth object in a plain connection as no credential of the seed", async (t) => {
    const wire = await Wire.open(server.url);
    t.after(() => wire.close());
    wire.send("40{}");
    assert.match(await wire.next(), /^40\{"sid":"[^"]+"\}$/);
    await wire.expect('42["clientevent",{"data":"Connected","count":0}]');
  });

  it("knows the main namespace only", async (t) => {
    const wire = await Wire.open(server.url);
    t.after(() => wire.close());
    wire.send("40/x,");
    await wire.expect('44/x,{"message":"Invalid namespace"}');
  });
});

describe("join_channel", () => {
  it("takes the token in an object", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    await server.publish(channel, 1);
    await wire.expect('42["message",1]');
  });

  it("takes the token in a JSON string", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t);
    wire.send(`42${JSON.stringify(["join_channel", JSON.stringify({ token: await server.token(channel) })])}`);
    await wire.expect(`42["clientevent",{"data":"Connected to ${channel}"}]`);
    await server.publish(channel, 1);
    await wire.expect('42["message",1]');
  });

  for (const id of ["0", "7", "123456789"]) {
    it(`acknowledges when asked, with id ${id}`, async (t) => {
      const channel = freshName();
      const wire = await subscriber(t);
      wire.send(`42${id}["join_channel",{"token":"${await server.token(channel)}"}]`);
      await wire.expect(`42["clientevent",{"data":"Connected to ${channel}"}]`, `43${id}[]`);
    });
  }

  it("ignores further keys and arguments", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t);
    wire.send(`42["join_channel",{"a":[1],"token":"${await server.token(channel)}","z":null},"more",2]`);
    await wire.expect(`42["clientevent",{"data":"Connected to ${channel}"}]`);
  });

  it("names the channel in the answer as JSON", async (t) => {
    for (const channel of ['quo"te', "back\\slash", "é😀", "a/b"]) await subscriber(t, `${freshName()}${channel}`);
  });

  const unusable = ["", ",null", ",7", ",true", ",[]", ",{}", ',""', ',"not json"', ',"null"', ',{"token":null}', ',{"token":""}', ',{"token":7}',
    ',{"token":["a"]}', ',{"token":{"$gt":""}}', ',{"Token":"a"}', `,{"token":"${"A".repeat(43)}"}`, `,"{\\"token\\":\\"${"A".repeat(43)}\\"}"`,
    `,{"token":"${"A".repeat(60_000)}"}`, ',{"token":"\\u0000"}', ',{"token":"../../etc/passwd"}', ',{"token":"*"}', ',{"token":"\\ud800"}'];
  for (const rest of unusable) {
    it(`disconnects on an unusable token: join_channel${rest.slice(0, 60)}`, async (t) => {
      const wire = await subscriber(t);
      wire.send(`42["join_channel"${rest}]`);
      await wire.expect("41");
    });
  }

  it("does not take a token with something added, removed or in another case", async (t) => {
    const token = await server.token(freshName());
    const swapped = token.replace(/[a-zA-Z]/g, (c) => (c < "a" ? c.toLowerCase() : c.toUpperCase()));
    for (const forged of [`${token}=`, ` ${token}`, `${token} `, token.slice(0, -1), swapped]) {
      const wire = await subscriber(t);
      wire.send(`42["join_channel",{"token":"${forged}"}]`);
      await wire.expect("41");
    }
  });

  it("delivers nothing after the disconnect", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    wire.send('42["join_channel",{"token":"unknown"}]');
    await wire.expect("41");
    await server.publish(channel, '"too late"');
    // Either the transport is closed as well, or whatever comes next on it is the answer to a new CONNECT.
    wire.send("40");
    const next = await wire.next().catch((error) => error.message);
    assert.match(next, /^40\{|closed/);
  });

  it("ignores events it does not know", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    wire.send('42["message","from a client"]');
    wire.send('42["clientevent",{"data":"Connected"}]');
    wire.send('42["leave",1,[2]]');
    wire.send('425["unknown-with-ack"]');
    await server.publish(channel, 1);
    await wire.expect('42["message",1]');
  });

  it("joins several channels on one connection", async (t) => {
    const [one, two] = [freshName(), freshName()];
    const wire = await subscriber(t, one, two);
    await server.publish(one, 1);
    await wire.expect('42["message",1]');
    await server.publish(two, 2);
    await wire.expect('42["message",2]');
  });

  it("delivers once to a connection that joined twice", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel, channel);
    for (const n of [1, 2, 3]) await server.publish(channel, n);
    await wire.expect('42["message",1]', '42["message",2]', '42["message",3]');
  });

  it("delivers only what is published after the join", async (t) => {
    const channel = freshName();
    await server.publish(channel, '"before"');
    const wire = await subscriber(t, channel);
    await server.publish(channel, '"after"');
    await wire.expect('42["message","after"]');
  });

  it("delivers nothing to a connection that said goodbye", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    const witness = await subscriber(t, channel);
    wire.send("41");
    wire.send("40");
    assert.match(await wire.next(), /^40\{/);
    await wire.expect('42["clientevent",{"data":"Connected","count":0}]');
    await server.publish(channel, 1);
    await witness.expect('42["message",1]');
    await join(server, wire, channel);
    await server.publish(channel, 2);
    await wire.expect('42["message",2]');
  });
});
