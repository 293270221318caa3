// Socket.IO 5 over `channelapi conformance`: Engine.IO underneath once more, then connecting, events, acks, binary.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { engineCases, PAYLOAD_MAX, PING_TIMEOUT_MS } from "./engine-cases.js";
import { ConformanceServer } from "./server.js";
import { Polling, Wire } from "./wire.js";

const PATH = "/socket.io/";

let server;
before(async () => (server = await ConformanceServer.start({ pingTimeout: PING_TIMEOUT_MS })));
after(() => server?.stop());

const open = async (t, options) => {
  const wire = await Wire.open(server.url, options);
  t.after(() => wire.close());
  return wire;
};

/** Takes the answer to a CONNECT and gives the socket id in it. */
async function connected(wire, namespace = "") {
  const answer = await wire.next();
  assert.ok(answer.startsWith(`40${namespace}{`), answer);
  const body = JSON.parse(answer.slice(`40${namespace}`.length));
  assert.deepEqual(Object.keys(body), ["sid"]);
  assert.equal(typeof body.sid, "string");
  return body.sid;
}

async function connect(t) {
  const wire = await open(t);
  wire.send("40");
  await connected(wire);
  await wire.expect('42["auth",{}]');
  return wire;
}

async function assertEchoes(wire) {
  wire.send('42["message","still here"]');
  await wire.expect('42["message-back","still here"]');
}

describe("Engine.IO underneath", () => {
  // Whoever sends no CONNECT is closed after a second.
  engineCases(() => server, PATH, { enter: "40" });
});

describe("connecting", () => {
  const auths = {
    "without auth": ["", "{}"],
    "with auth": ['{"token":"123"}', '{"token":"123"}'],
    "with nested auth": ['{"a":{"b":[1,null,"é"]}}', '{"a":{"b":[1,null,"é"]}}'],
  };
  for (const [what, [sent, seen]] of Object.entries(auths)) {
    it(`reaches the main namespace ${what}`, async (t) => {
      const wire = await open(t);
      wire.send(`40${sent}`);
      await connected(wire);
      await wire.expect(`42["auth",${seen}]`);
    });

    it(`reaches a custom namespace ${what}`, async (t) => {
      const wire = await open(t);
      wire.send(`40/custom,${sent}`);
      await connected(wire, "/custom,");
      await wire.expect(`42/custom,["auth",${seen}]`);
    });
  }

  it("reaches a custom namespace without the comma", async (t) => {
    const wire = await open(t);
    wire.send("40/custom");
    await connected(wire, "/custom,");
  });

  it("gives each namespace its own id, none of them the session's", async (t) => {
    const wire = await open(t);
    wire.send("40");
    const main = await connected(wire);
    await wire.next();
    wire.send("40/custom,");
    const custom = await connected(wire, "/custom,");
    assert.equal(new Set([main, custom, wire.handshake.sid]).size, 3);
  });

  for (const packet of ["40/random", "40/random,", '40/random,{"token":"a"}']) {
    it(`refuses an unknown namespace: ${packet}`, async (t) => {
      const wire = await open(t);
      wire.send(packet);
      await wire.expect('44/random,{"message":"Invalid namespace"}');
    });
  }

  it("lets a client connect after a refused namespace", async (t) => {
    const wire = await open(t);
    wire.send("40/random,");
    await wire.expect('44/random,{"message":"Invalid namespace"}');
    wire.send("40");
    await connected(wire);
  });

  for (const packet of ["4abc", "4", "47", '42["message"]', "41", '40["auth"]', "40{", '43["ack"]']) {
    it(`closes on ${packet} instead of a CONNECT`, async (t) => {
      const wire = await open(t);
      wire.send(packet);
      await wire.closed();
    });
  }

  it("closes a websocket on which no CONNECT comes", async (t) => {
    const started = performance.now();
    const wire = await open(t); // Answers its heartbeats, so only the missing CONNECT can be the reason.
    await wire.closed();
    const elapsed = performance.now() - started;
    assert.ok(elapsed > 700, `closed after ${elapsed} ms instead of 1000 ms`);
  });

  it("closes a polling session on which no CONNECT comes", async () => {
    const session = await Polling.open(server.url);
    assert.deepEqual(await session.packets(1), ["1"]);
    assert.equal((await session.poll()).status, 400);
  });

  it("does not close a connection that did connect", async (t) => {
    const wire = await connect(t);
    const other = await open(t); // Its closing tells that the second is over.
    await other.closed();
    await assertEchoes(wire);
  });

  it("works over polling", async () => {
    const session = await Polling.open(server.url);
    await session.post("40");
    const [answer, auth] = await session.packets(2);
    assert.match(answer, /^40\{"sid":"[^"]+"\}$/);
    assert.equal(auth, '42["auth",{}]');
    await session.post('42["message",1]\x1e42["message",2]');
    assert.deepEqual(await session.packets(2), ['42["message-back",1]', '42["message-back",2]']);
  });
});

describe("disconnecting", () => {
  it("leaves the transport open, and its heartbeat going", async (t) => {
    const wire = await open(t, { pings: "show" });
    wire.send("40");
    await connected(wire);
    await wire.expect('42["auth",{}]');
    wire.send("41");
    await wire.expect("2");
  });

  for (const packet of ["41/custom", "41/custom,"]) {
    it(`leaves one namespace and keeps the other: ${packet}`, async (t) => {
      const wire = await connect(t);
      wire.send("40/custom");
      await connected(wire, "/custom,");
      await wire.expect('42/custom,["auth",{}]');
      wire.send(packet);
      await assertEchoes(wire);
    });
  }

  it("can connect again on the same transport", async (t) => {
    const wire = await connect(t);
    wire.send("41");
    wire.send('40{"again":true}');
    await connected(wire);
    await wire.expect('42["auth",{"again":true}]');
    await assertEchoes(wire);
  });
});

describe("events", () => {
  const echoed = ['1,"2",{"3":[true]}', '""', "null", '{"a":{"b":[]}}', '"é😀\u2028"', '"\\\\\\"\\n"', "0,-1,1.5", '"a,b[c]{d}"', "[[[[]]]]"];
  for (const args of echoed) {
    it(`echoes ${args}`, async (t) => {
      const wire = await connect(t);
      wire.send(`42["message",${args}]`);
      await wire.expect(`42["message-back",${args}]`);
    });
  }

  it("echoes an event without arguments", async (t) => {
    const wire = await connect(t);
    wire.send('42["message"]');
    await wire.expect('42["message-back"]');
  });

  it("accepts the main namespace by its name", async (t) => {
    const wire = await connect(t);
    wire.send('42/,["message",1]');
    await wire.expect('42["message-back",1]');
  });

  it("keeps the order of many events", async (t) => {
    const wire = await connect(t);
    for (let n = 0; n < 500; n += 1) wire.send(`42["message",${n}]`);
    for (let n = 0; n < 500; n += 1) await wire.expect(`42["message-back",${n}]`);
  });

  it("ignores events nobody listens to, and acks nobody waits for", async (t) => {
    const wire = await connect(t);
    wire.send('42["unknown",1]');
    wire.send('4212["unknown",1]');
    wire.send('4399[1]');
    await assertEchoes(wire);
  });

  for (const id of ["0", "456", "4294967296"]) {
    it(`acknowledges with id ${id}`, async (t) => {
      const wire = await connect(t);
      wire.send(`42${id}["message-with-ack",1,"2",{"3":[false]}]`);
      await wire.expect(`43${id}[1,"2",{"3":[false]}]`);
    });
  }

  it("acknowledges without arguments", async (t) => {
    const wire = await connect(t);
    wire.send('427["message-with-ack"]');
    await wire.expect("437[]");
  });

  const malformed = ["4abc", "42{}", "42[]", "42", '42abc["message-with-ack",1]', '42["message"', '42["message",1]]', '42"message"', "42[{}]", "47[]", "4", "44", '49["message"]'];
  for (const packet of malformed) {
    it(`closes on the malformed packet ${packet}`, async (t) => {
      const wire = await connect(t);
      wire.send(packet);
      await wire.closed();
    });
  }
});

describe("binary", () => {
  const placeholder = (num) => `{"_placeholder":true,"num":${num}}`;
  const [one, two] = [Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])];

  it("echoes attachments", async (t) => {
    const wire = await connect(t);
    for (const frame of [`452-["message",${placeholder(0)},${placeholder(1)}]`, one, two]) wire.send(frame);
    await wire.expect(`452-["message-back",${placeholder(0)},${placeholder(1)}]`, one, two);
  });

  it("echoes attachments inside of other data", async (t) => {
    const wire = await connect(t);
    for (const frame of [`451-["message",{"a":[1,${placeholder(0)}]},"z"]`, one]) wire.send(frame);
    await wire.expect(`451-["message-back",{"a":[1,${placeholder(0)}]},"z"]`, one);
  });

  it("acknowledges attachments", async (t) => {
    const wire = await connect(t);
    for (const frame of [`452-789["message-with-ack",${placeholder(0)},${placeholder(1)}]`, one, two]) wire.send(frame);
    await wire.expect(`462-789[${placeholder(0)},${placeholder(1)}]`, one, two);
  });

  it("echoes attachments over polling", async () => {
    const session = await Polling.open(server.url);
    await session.post("40");
    await session.packets(2);
    await session.post(`451-["message",${placeholder(0)}]\x1ebAQID`);
    assert.deepEqual(await session.packets(2), [`451-["message-back",${placeholder(0)}]`, "bAQID"]);
  });

  const malformed = {
    "text where an attachment is due": [`451-["message",${placeholder(0)}]`, '42["message"]'],
    "an attachment nobody announced": [one],
    "a count that is no number": [`45x-["message",${placeholder(0)}]`],
    "no count": [`45["message",${placeholder(0)}]`],
    "a count past any limit": [`4599999999-["message",${placeholder(0)}]`],
    "a placeholder past the count": [`451-["message",${placeholder(7)}]`, one],
  };
  for (const [what, frames] of Object.entries(malformed)) {
    it(`closes on ${what}`, async (t) => {
      const wire = await connect(t);
      for (const frame of frames) wire.send(frame);
      await wire.closed();
    });
  }
});

describe("limits", () => {
  it("echoes a large event", async (t) => {
    const wire = await connect(t);
    const text = "x".repeat(PAYLOAD_MAX / 2);
    wire.send(`42["message","${text}"]`);
    assert.ok((await wire.next()) === `42["message-back","${text}"]`);
  });

  it("closes with 1009 on one over the limit", async (t) => {
    const wire = await connect(t);
    wire.send(`42["message","${"x".repeat(PAYLOAD_MAX)}"]`);
    assert.equal(await wire.closed(), 1009);
  });

  it("survives data nested deeper than any stack", async (t) => {
    const wire = await connect(t);
    const depth = 100_000;
    wire.send(`42["message",${"[".repeat(depth)}${"]".repeat(depth)}]`);
    await wire.next().catch(() => "closed"); // Echoed or refused, as long as the server lives.
    await connect(t);
  });
});
