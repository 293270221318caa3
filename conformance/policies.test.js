// What a policy makes of the channels that it is for, as publishers and stock clients see it.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { io as io4x } from "socket.io-client-4.x";

import { publishAll } from "./burst.js";
import { Server } from "./server.js";
import { StockClient, freshName } from "./stock.js";

const CONFIG = `
[[policy]]
match = "replay-*"
replay_on_join = 2

[[policy]]
match = "relaxed-*"
durability = "relaxed"
`;

let server;
before(async () => (server = await Server.start([], { config: CONFIG })));
after(() => server?.stop());

const client = (t, auth) => new StockClient(t, io4x, server.url, { auth });

describe("replay_on_join", () => {
  const DOORS = {
    "at the seed's door": async (t, channel) => {
      const stock = client(t, {});
      await stock.nth("connect");
      stock.socket.emit("join_channel", { token: await server.token(channel) });
      return stock;
    },
    "at the handshake door": async (t, channel) => client(t, { token: await server.token(channel) }),
  };
  for (const [door, join] of Object.entries(DOORS)) {
    it(`gives who comes for the first time the newest messages, ${door}`, async (t) => {
      const channel = `replay-${freshName()}`;
      await publishAll(server, channel, [1, 2, 3]);
      const stock = await join(t, channel);
      await stock.message(3);
      await publishAll(server, channel, [4]);
      await stock.message(4);
      assert.deepEqual([stock.messages, stock.of("gap")], [[2, 3, 4], []]);
    });

    it(`gives nothing of other channels, ${door}`, async (t) => {
      const channel = freshName();
      await publishAll(server, channel, [1, 2, 3]);
      const stock = await join(t, channel);
      await (door.includes("seed") ? stock.nth("clientevent", 2) : stock.settled());
      await publishAll(server, channel, [4]);
      await stock.message(4);
      assert.deepEqual(stock.messages, [4]);
    });
  }

  it("gives who comes back what it missed, and nothing twice", async (t) => {
    const channel = `replay-${freshName()}`;
    await publishAll(server, channel, [1, 2, 3]);
    const stock = client(t, { token: await server.token(channel) });
    await stock.kept(3);
    stock.socket.io.engine.close();
    await stock.nth("disconnect");
    await publishAll(server, channel, [4, 5, 6, 7]);
    await stock.message(7);
    assert.deepEqual([stock.messages, stock.recoveries], [[2, 3, 4, 5, 6, 7], [false, true]]);
  });
});

describe("replay_on_join, when a client comes back with one channel more", () => {
  it("gives it the newest messages there, and what it missed where it was", async (t) => {
    const [old, fresh] = [`replay-${freshName()}`, `replay-${freshName()}`];
    const tokens = [await server.token(old)];
    await publishAll(server, fresh, [1, 2, 3]);
    // It comes back when all is there that it is to come back to.
    const stock = client(t, { tokens }, { reconnection: false });
    await stock.settled();
    stock.socket.io.engine.close();
    await stock.nth("disconnect");
    await publishAll(server, old, [4, 5, 6]);
    tokens.push(await server.token(fresh));
    stock.socket.connect();
    await stock.nth("connect", 2);
    await publishAll(server, fresh, [7]);
    await stock.message(7);
    assert.deepEqual(stock.messages.toSorted(), [2, 3, 4, 5, 6, 7]);
    assert.deepEqual([stock.recoveries, stock.of("gap")], [[false, false], []], "it is another session, and nothing is missing");
  });
});

describe("durability = \"relaxed\"", () => {
  it("is what a publisher is told, and loses nothing to a kill -9", async (t) => {
    const channel = `relaxed-${freshName()}`;
    const stock = client(t, { token: await server.token(channel) });
    await stock.settled();
    const answer = await server.v1("POST", `/channels/${channel}/messages`, { data: 1 });
    assert.deepEqual([answer.status, answer.json.durability], [201, "relaxed"]);
    await stock.kept(1);
    await publishAll(server, channel, [2, 3]);
    await server.crashAndRestart();
    await publishAll(server, channel, [4]);
    await stock.message(4);
    assert.deepEqual([stock.messages, stock.recoveries], [[1, 2, 3, 4], [false, true]]);
  });
});
