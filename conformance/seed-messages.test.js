// The seed contract, byte for byte: what is published arrives as it was sent, in order, with those who joined. None of it ever changes.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { joined } from "./seed.js";
import { Server } from "./server.js";
import { freshName } from "./stock.js";
import { Polling } from "./wire.js";

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

const subscriber = (t, ...channels) => joined(t, server, channels);

describe("POST /message/{channel}", () => {
  it("answers exactly {\"success\": true}, with and without listeners", async (t) => {
    const channel = freshName();
    const publish = async () => {
      const answer = await server.post(`/message/${channel}`, '{"message": 1}');
      assert.deepEqual([answer.status, answer.body], [200, '{"success": true}']);
    };
    await publish();
    const wire = await subscriber(t, channel);
    await publish();
    await wire.expect('42["message",1]');
  });

  it("needs no token to have been asked for", async () => {
    assert.equal((await server.post(`/message/${freshName()}`, '{"message": 1}')).status, 200);
  });

  it("finds the key message among others and whatever the white space", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    const bodies = ['{"a":{"message":0},"message":1}', '{"message":2,"z":[{"message":0}]}', ' \r\n\t{ "message"\t:\n 3 } \n', '{"mess\\u0061ge":4}'];
    for (const body of bodies) assert.equal((await server.post(`/message/${channel}`, body)).status, 200, body);
    await wire.expect('42["message",1]', '42["message",2]', '42["message",3]', '42["message",4]');
  });

  it("stores a repeat under its idempotency key once, and answers it the same", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    const publish = (message, key) =>
      server.post(`/message/${channel}`, `{"message": ${message}}`, { authorization: server.key, "idempotency-key": key });
    for (let time = 0; time < 2; time++) {
      const { status, body } = await publish(1, "k1");
      assert.deepEqual([status, body], [200, '{"success": true}']);
    }
    const reused = await publish(2, "k1");
    assert.equal(reused.status, 409);
    assert.deepEqual(JSON.parse(reused.body), { success: false, message: "The idempotency key belongs to another message of this channel." });
    const invalid = await publish(2, "x".repeat(256));
    assert.equal(invalid.status, 400);
    assert.match(JSON.parse(invalid.body).message, /1 to 255 visible ASCII/);
    assert.equal((await publish(3, "k3")).status, 200);
    await wire.expect('42["message",1]', '42["message",3]');
  });

  it("does not mind the content type", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    for (const type of ["application/json", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"]) {
      const headers = { authorization: server.key, "content-type": type };
      assert.equal((await server.post(`/message/${channel}`, '{"message": true}', headers)).status, 200, type);
      await wire.expect('42["message",true]');
    }
  });

  const unchanged = {
    string: '"hello"',
    "empty string": '""',
    number: "42",
    "negative zero": "-0",
    "number with a trailing zero": "1.0",
    "number with an exponent": "1E+2",
    "integer past 2^53": "12345678901234567890123456789",
    "number past a double": "1e400",
    "long fraction": "0.1000000000000000055511151231257827",
    true: "true",
    false: "false",
    "empty array": "[]",
    "empty object": "{}",
    "nested arrays": "[[[[1],[2,[3]]]],[]]",
    "key order": '{"z":1,"a":2,"10":3,"9":4}',
    "duplicate keys": '{"a":1,"a":2}',
    "inner white space": '{ "a" :\t[ 1 ,\n 2 ] }',
    "escapes of plain characters": '"\\u00e9 \\u0041 \\/ \\b\\f\\n\\r\\t"',
    "lone surrogate escape": '"\\ud800"',
    "surrogate pair escape": '"\\ud83d\\ude00"',
    "NUL escape": '"\\u0000"',
    "emoji and combining marks": '"😀 e\u0301 👩‍👩‍👧"',
    "line and paragraph separators": '"\u2028\u2029"',
    "delete and C1 controls": '"\u007f\u0085"',
    "record separator escape": '"a\\u001eb"',
    "byte order mark inside": '"\ufeffx"',
    "something that looks like a placeholder": '{"_placeholder":true,"num":0}',
    "something that looks like a frame": '"42[\\"message\\",1]"',
    "null inside": '[null,{"a":null}]',
  };
  for (const [what, json] of Object.entries(unchanged)) {
    it(`passes the data through untouched: ${what}`, async (t) => {
      const channel = freshName();
      const wire = await subscriber(t, channel);
      await server.publish(channel, json);
      await wire.expect(`42["message",${json}]`);
    });
  }

  it("passes the data through untouched over polling too", async () => {
    const channel = freshName();
    const session = await Polling.open(server.url);
    await session.post("40");
    await session.packets(2);
    await session.post(`42["join_channel",{"token":"${await server.token(channel)}"}]`);
    assert.deepEqual(await session.packets(1), [`42["clientevent",{"data":"Connected to ${channel}"}]`]);
    for (const json of Object.values(unchanged)) await server.publish(channel, json);
    const expected = Object.values(unchanged).map((json) => `42["message",${json}]`);
    assert.deepEqual(await session.packets(expected.length), expected);
    await session.post("1");
  });

  it("answers a poll with no more packets than python-socketio takes, and loses none", async (t) => {
    const channel = freshName();
    const session = await Polling.open(server.url);
    t.after(() => session.post("1"));
    await session.post("40");
    await session.packets(2);
    await session.post(`42["join_channel",{"token":"${await server.token(channel)}"}]`);
    await session.packets(1);
    const count = 50;
    for (let n = 0; n < count; n += 1) await server.publish(channel, n);
    const received = [];
    while (received.length < count) {
      const packets = (await session.poll()).body.split("\x1e");
      assert.ok(packets.length <= 16, `${packets.length} packets in one answer: python-engineio drops the connection above 16`);
      received.push(...packets);
    }
    assert.deepEqual(received, Array.from({ length: count }, (_, n) => `42["message",${n}]`));
  });

  it("sends null as an event without data", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    await server.publish(channel, "null");
    await wire.expect('42["message"]');
  });

  for (const kilobytes of [64, 250]) {
    it(`passes ${kilobytes} kB through untouched`, async (t) => {
      const channel = freshName();
      const wire = await subscriber(t, channel);
      const json = JSON.stringify({ text: "é😀x".repeat((kilobytes * 1000) / 7) });
      await server.publish(channel, json);
      const frame = await wire.next();
      assert.ok(frame === `42["message",${json}]`, `${frame.length} characters arrived, or others than were sent`);
    });
  }

  it("delivers to names with slashes, spaces, unicode and percent signs", async (t) => {
    for (const name of ["a/b/c", "/leading", "trailing/", "a//b", "Ünï 😀", "100%", "a?b#c", "..", "a/../b", 'quo"te\\', "👩\u200d👩"]) {
      const channel = `${freshName()}/${name}`;
      const wire = await subscriber(t, channel);
      await server.publish(channel, '"here"');
      await wire.expect('42["message","here"]');
    }
  });

  it("delivers in the order of publication", async (t) => {
    const channel = freshName();
    const wires = await Promise.all([subscriber(t, channel), subscriber(t, channel)]);
    for (let n = 0; n < 300; n += 1) await server.publish(channel, n);
    for (const wire of wires) for (let n = 0; n < 300; n += 1) await wire.expect(`42["message",${n}]`);
  });

  it("shows all subscribers one order when many publish at once", async (t) => {
    const channel = freshName();
    const wires = await Promise.all([subscriber(t, channel), subscriber(t, channel), subscriber(t, channel)]);
    const numbers = [...Array(100).keys()];
    await Promise.all(numbers.map((n) => server.publish(channel, n)));
    const received = [];
    for (const wire of wires) {
      const frames = [];
      for (const _ of numbers) frames.push(await wire.next());
      received.push(frames);
    }
    assert.deepEqual([...received[0]].sort(), numbers.map((n) => `42["message",${n}]`).sort());
    assert.deepEqual(received[1], received[0]);
    assert.deepEqual(received[2], received[0]);
  });

  it("reaches nobody who has not joined", async (t) => {
    const [mine, other] = [freshName(), freshName()];
    const wire = await subscriber(t, mine);
    await server.publish(other, '"not for you"');
    await server.publish(mine, '"for you"');
    await wire.expect('42["message","for you"]');
  });

  it("does not reach a socket whose id is the channel's name", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    await server.publish(wire.id, '"by id"');
    await server.publish(wire.handshake.sid, '"by session"');
    await server.publish(channel, '"by channel"');
    await wire.expect('42["message","by channel"]');
  });
});
