// What one client must not be able to do to the others, or to the order of its own answers. Each case was once true.

import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { after, before, describe, it } from "node:test";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";

import { request } from "./http.js";
import { Server } from "./server.js";
import { Polling, Wire, within } from "./wire.js";

let server;
// What holds even for those who may send as much as they like.
before(async () => (server = await Server.start(["--limits-join-rate", "0", "--limits-event-rate", "0"])));
after(() => server?.stop());

/** A connection that has been greeted, closed when the test ends. */
async function greeted(t) {
  const wire = await Wire.open(server.url);
  t.after(() => wire.close());
  wire.send("40");
  assert.match(await wire.next(), /^40\{/);
  await wire.expect('42["clientevent",{"data":"Connected","count":0}]');
  return wire;
}

const join = (token) => `42["join_channel",{"token":"${token}"}]`;
const joined = (channel) => `42["clientevent",{"data":"Connected to ${channel}"}]`;

describe("one client", () => {
  // Answers once came from two places, and the one that turns a client away overtook those that let it in.
  it("gets its answers in the order it asked", async (t) => {
    const token = await server.token("order");
    const wire = await greeted(t);
    for (let i = 0; i < 50; i++) wire.send(join(token));
    wire.send(join("wrong"));
    for (let i = 0; i < 50; i++) await wire.expect(joined("order"));
    await wire.expect("41");
  });

  it("takes no channel with it into a namespace that it enters again", async (t) => {
    const wire = await greeted(t);
    for (const packet of [join(await server.token("left")), "41", "40"]) wire.send(packet);
    await wire.expect(joined("left"));
    assert.match(await wire.next(), /^40\{/);
    await wire.expect('42["clientevent",{"data":"Connected","count":0}]');
    await server.publish("left", '"for nobody"');
    wire.send(join(await server.token("right")));
    await wire.expect(joined("right"));
  });

  // It once filled the fan-out's queue and held a thread for itself: others waited for ten seconds.
  it("that does nothing but join leaves the others alone", async (t) => {
    const [flooder, reader] = [await greeted(t), await greeted(t)];
    const flooded = await server.token("flooded");
    flooder.send(join(flooded));
    await flooder.expect(joined("flooded"));
    reader.send(join(await server.token("quiet")));
    await reader.expect(joined("quiet"));
    const joins = 20_000;
    for (let i = 0; i < joins; i++) {
      flooder.send(join(flooded));
      // Whoever does not read what it asked for is closed, and the kernel holds little of it.
      if (i % 200 === 0) await setImmediate();
    }
    await server.publish("quiet", '"hello"');
    await reader.expect('42["message","hello"]');
    for (let i = 0; i < joins; i++) await flooder.expect(joined("flooded"));
    await server.publish("flooded", '"once"');
    await flooder.expect('42["message","once"]');
  });

  // Each answer to a WebSocket ping is two bytes, and was counted as such while it cost a hundred.
  it("that pings and never reads is closed", async (t) => {
    const socket = net.connect(server.port, "127.0.0.1");
    t.after(() => socket.destroy());
    socket.on("error", () => {});
    await once(socket, "connect");
    socket.pause();
    socket.write(
      "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    const pings = Buffer.concat(Array(10_000).fill(Buffer.from([0x89, 0x80, 1, 2, 3, 4])));
    const closed = new Promise((resolve) => socket.once("close", resolve));
    let isOpen = true;
    closed.then(() => (isOpen = false));
    const pump = async () => {
      while (isOpen) if (!socket.write(pings)) await Promise.race([new Promise((resolve) => socket.once("drain", resolve)), closed]);
    };
    const before = await server.metric('channelapi_disconnects_total{reason="slow"}');
    await within(pump(), "the client to be closed as slow", 60_000);
    assert.equal(await server.metric('channelapi_disconnects_total{reason="slow"}'), before + 1);
    const { body } = await request(`${server.url}/healthz`);
    assert.equal(JSON.parse(body).status, "ok");
  });

  // Its session was once gone before it could fetch the packet that says so, and it came back at once.
  it("that polls and does too much is told to stay away", async (t) => {
    const strict = await Server.start();
    t.after(() => strict.stop());
    const session = await Polling.open(strict.url);
    await session.post("40");
    await session.packets(2);
    const token = await strict.token("limited");
    const answer = await session.post(Array(200).fill(join(token)).join("\x1e"));
    assert.deepEqual([answer.status, answer.body], [200, "ok"]);
    const packets = [];
    while (packets.at(-1) !== "41") {
      const polled = await session.poll();
      assert.equal(polled.status, 200, `it heard ${packets.join(" ")}`);
      packets.push(...polled.body.split("\x1e"));
    }
    // With a packet that closes in the same answer, a stock client never hears of it, and comes back.
    assert.equal((await session.poll()).status, 400);
  });

  // What was on its way to such clients once filled the room of all, and nobody could be put out for it: whoever had one packet waiting and
  // was sent another was closed as slow.
  it("that polls and never reads takes no room from one that does", async (t) => {
    const small = await Server.start(["--limits-slow-clients-memory", "1MiB"]);
    const sockets = [];
    t.after(() => {
      sockets.forEach((socket) => socket.destroy());
      return small.stop();
    });
    const metric = (name) => small.metric(name);
    const enter = async (channel) => {
      const session = await Polling.open(small.url);
      await session.post("40");
      await session.packets(2);
      await session.post(join(await small.token(channel)));
      assert.deepEqual(await session.packets(1), [joined(channel)]);
      return session;
    };
    const honest = await enter("honest");
    const data = JSON.stringify("x".repeat(200_000));
    for (let i = 1; i <= 6; i += 1) {
      const channel = `unread-${i}`;
      const session = await enter(channel);
      const socket = net.connect(small.port, "127.0.0.1");
      sockets.push(socket);
      socket.on("error", () => {});
      await once(socket, "connect");
      socket.pause();
      const isEnough = async () =>
        (await metric("channelapi_waiting_bytes")) >= i * 200_000 ||
        (await metric('channelapi_disconnects_total{reason="slow_node"}')) > 0;
      const flood = async () => {
        while (!(await isEnough())) {
          socket.write(`GET ${session.url.slice(small.url.length)} HTTP/1.1\r\nHost: x\r\n\r\n`);
          await small.publish(channel, data);
          await sleep(50); // What the kernel takes is soon gone.
        }
      };
      await within(flood(), `answers of ${channel} that nobody reads`, 60_000);
    }
    const room = async () => {
      while ((await metric("channelapi_waiting_bytes")) > 1_030_000) await sleep(50);
    };
    await within(room(), "the slowest to be put out");
    const token = await small.token("honest");
    for (const id of [1, 2]) {
      const answer = await honest.post(`42${id}["join_channel",{"token":"${token}"}]`);
      assert.deepEqual([answer.status, answer.body], [200, "ok"]);
    }
    assert.deepEqual(await honest.packets(4), [joined("honest"), "431[]", joined("honest"), "432[]"]);
    assert.equal(await metric('channelapi_disconnects_total{reason="slow"}'), 0);
  });

  // Some clients send an empty `sid` when they mean none.
  it("may send an empty sid to open a session", async () => {
    const answer = await request(`${server.url}/socket.io/?EIO=4&sid=&transport=polling`);
    assert.equal(answer.status, 200);
    assert.match(answer.body, /^0\{"sid":"/);
  });
});
