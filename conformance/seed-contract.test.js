// The seed contract, byte for byte: what every existing backend and client relies on. None of it ever changes.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, it } from "node:test";

import { Server } from "./server.js";
import { Polling, Wire } from "./wire.js";

const TOKEN_ANSWER = /^\{"success": true, "token": "([A-Za-z0-9_-]{43})"\}$/;
const REFUSAL = /^\{"success": false, "message": "[^"]+"\}$/;
const NO_MESSAGE = `{"success": false, "message": "Body is in incorrect format. Key 'message' not found."}`;

let server;
before(async () => (server = await Server.start()));
after(() => server?.stop());

const freshName = () => `c-${randomUUID()}`;

/** A connection that has been greeted. Leaves its public id in `wire.id`. */
async function connect() {
  const wire = await Wire.open(server.url);
  wire.send("40");
  const connected = await wire.next();
  wire.id = /^40\{"sid":"([^"]+)"\}$/.exec(connected)?.[1];
  assert.ok(wire.id, connected);
  await wire.expect('42["clientevent",{"data":"Connected","count":0}]');
  return wire;
}

async function join(wire, channel) {
  wire.send(`42["join_channel",{"token":"${await server.token(channel)}"}]`);
  await wire.expect(`42["clientevent",{"data":${JSON.stringify(`Connected to ${channel}`)}}]`);
}

/** A connection that has joined `channels`, closed when the test ends. */
async function subscriber(t, ...channels) {
  const wire = await connect();
  t.after(() => wire.close());
  for (const channel of channels) await join(wire, channel);
  return wire;
}

describe("POST /channel/{channel}", () => {
  it("answers a token in exactly the known shape", async () => {
    const answer = await server.post(`/channel/${freshName()}`);
    assert.equal(answer.status, 200);
    assert.match(answer.body, TOKEN_ANSWER);
    assert.match(answer.headers["content-type"], /^application\/json/);
  });

  it("answers the same token for the same channel, another for another", async () => {
    const [mine, other] = [freshName(), freshName()];
    const first = await server.token(mine);
    assert.equal(await server.token(mine), first);
    assert.notEqual(await server.token(other), first);
  });

  it("takes the key raw and as Bearer", async () => {
    const path = `/channel/${freshName()}`;
    const raw = await server.post(path, "", { authorization: server.key });
    const bearer = await server.post(path, "", { authorization: `Bearer ${server.key}` });
    assert.equal(raw.status, 200);
    assert.deepEqual([bearer.status, bearer.body], [raw.status, raw.body]);
  });

  it("takes any body, since it needs none", async () => {
    for (const body of ["", "{}", "not json", '{"message":1}']) {
      assert.equal((await server.post(`/channel/${freshName()}`, body)).status, 200, body);
    }
  });

  const sameChannel = [
    ["percent-encoded slash", "/channel/a%2Fb-1", "/channel/a/b-1"],
    ["percent-encoded letter", "/channel/%61bc-2", "/channel/abc-2"],
    ["lower-case hex", "/channel/a%2fb-3", "/channel/a%2Fb-3"],
    ["unicode", "/channel/caf%C3%A9-4", `/channel/caf%c3%a9-4`],
  ];
  for (const [what, one, another] of sameChannel) {
    it(`decodes the name: ${what}`, async () => {
      const [first, second] = [await server.post(one), await server.post(another)];
      assert.match(first.body, TOKEN_ANSWER);
      assert.equal(second.body, first.body);
    });
  }

  it("decodes once, and leaves a plus sign alone", async () => {
    const names = ["/channel/x%252Fy", "/channel/x%2Fy", "/channel/x+y", "/channel/x%20y", "/channel/x%2By"];
    const tokens = await Promise.all(names.map(async (path) => (await server.post(path)).body));
    assert.equal(tokens[2], tokens[4], "+ and %2B are the same name");
    assert.equal(new Set(tokens).size, 4, "the rest are all different names");
  });
});

describe("keys", () => {
  const wrongHeaders = {
    "no key": () => ({}),
    "an empty key": () => ({ authorization: "" }),
    "a wrong key": () => ({ authorization: "wrong" }),
    "a wrong Bearer key": () => ({ authorization: "Bearer wrong" }),
    "Bearer and nothing": () => ({ authorization: "Bearer " }),
    "a prefix of the key": () => ({ authorization: server.key.slice(0, -1) }),
    "the key and more": () => ({ authorization: `${server.key}x` }),
    "the key in the wrong case": () => ({ authorization: server.key.replace(/[a-zA-Z]/g, (c) => (c < "a" ? c.toLowerCase() : c.toUpperCase())) }),
  };
  for (const [what, headers] of Object.entries(wrongHeaders)) {
    it(`refuses ${what} with 403 on both endpoints`, async () => {
      for (const endpoint of ["channel", "message"]) {
        const answer = await server.post(`/${endpoint}/${freshName()}`, '{"message": 1}', headers());
        assert.equal(answer.status, 403, endpoint);
        assert.match(answer.body, REFUSAL);
      }
    });
  }

  it("delivers nothing that came with a wrong key", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    await server.post(`/message/${channel}`, '{"message": "forged"}', { authorization: "wrong" });
    await server.publish(channel, '"genuine"');
    await wire.expect('42["message","genuine"]');
  });
});

describe("unusable requests", () => {
  it("answers 400 for an empty channel", async () => {
    for (const endpoint of ["channel", "message"]) {
      const answer = await server.post(`/${endpoint}/`, '{"message": 1}');
      assert.equal(answer.status, 400, endpoint);
      assert.match(answer.body, REFUSAL);
    }
  });

  it("answers 400 for a name with characters that cannot be seen, or that is not text", async () => {
    for (const name of ["a%00b", "a%0Ab", "a%7Fb", "%E2%80%A8", "%E2%80%AEb", "%EF%BB%BFa", "%FF", "%ED%A0%80"]) {
      for (const endpoint of ["channel", "message"]) {
        const answer = await server.post(`/${endpoint}/${name}`, '{"message": 1}');
        assert.equal(answer.status, 400, `${endpoint} ${name}`);
        assert.match(answer.body, REFUSAL);
      }
    }
  });

  const bodies = ["", " ", "{}", "[]", "null", "7", '"message"', '["message"]', "{", '{"message"}', '{"message": }', '{"message": 1',
    '{"message": 1} x', "{'message': 1}", '{"Message": 1}', '{"data": {"message": 1}}', "message=1", '{"message": 01}', '{"message": "a\nb"}'];
  for (const body of bodies) {
    it(`answers 400 with the known text for the body ${JSON.stringify(body)}`, async () => {
      const answer = await server.post(`/message/${freshName()}`, body);
      assert.deepEqual([answer.status, answer.body], [400, NO_MESSAGE]);
    });
  }

  it("answers 400 with the known text for a body that is not UTF-8", async () => {
    const body = Buffer.concat([Buffer.from('{"message": "'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]);
    const answer = await server.post(`/message/${freshName()}`, body);
    assert.deepEqual([answer.status, answer.body], [400, NO_MESSAGE]);
  });
});

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
    const wire = await subscriber(t); // `connect` has checked the frames; nothing else may follow them.
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
    await join(wire, channel);
    await server.publish(channel, 2);
    await wire.expect('42["message",2]');
  });
});

describe("GET /", () => {
  it("is a static page, with or without a key", async () => {
    for (const headers of [{}, { authorization: server.key }]) {
      const answer = await fetch(server.url, { headers });
      assert.equal(answer.status, 200);
      assert.match(answer.headers.get("content-type"), /^text\/html/);
      assert.match(await answer.text(), /<html|<!doctype html/i);
    }
  });

  it("reaches nobody", async (t) => {
    const channel = freshName();
    const wire = await subscriber(t, channel);
    await (await fetch(server.url)).text();
    await server.publish(channel, 1);
    await wire.expect('42["message",1]');
  });
});

describe("tokens", () => {
  it("survive a restart and a kill -9", async (t) => {
    const channels = [freshName(), freshName(), `${freshName()}/é`];
    const tokens = await Promise.all(channels.map((channel) => server.token(channel)));
    const survived = async () => assert.deepEqual(await Promise.all(channels.map((channel) => server.token(channel))), tokens);

    await server.restart();
    await survived();

    const last = freshName();
    const issuedLast = await server.token(last);
    await server.crashAndRestart();
    await survived();
    assert.equal(await server.token(last), issuedLast, "a token is on disk before it is answered");

    const wire = await subscriber(t, channels[0]);
    await server.publish(channels[0], 1);
    await wire.expect('42["message",1]');
  });
});
