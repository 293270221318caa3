// The seed's contract: what its answers look like, and connections that join by its door.

import assert from "node:assert/strict";

import { Wire } from "./wire.js";

export const TOKEN_ANSWER = /^\{"success": true, "token": "([A-Za-z0-9_-]{43})"\}$/;
export const REFUSAL = /^\{"success": false, "message": "[^"]+"\}$/;
export const NO_MESSAGE = `{"success": false, "message": "Body is in incorrect format. Key 'message' not found."}`;

/** A connection that has been greeted. Leaves its public id in `wire.id`. */
async function connect(server) {
  const wire = await Wire.open(server.url);
  wire.send("40");
  const connected = await wire.next();
  wire.id = /^40\{"sid":"([^"]+)"\}$/.exec(connected)?.[1];
  assert.ok(wire.id, connected);
  await wire.expect('42["clientevent",{"data":"Connected","count":0}]');
  return wire;
}

export async function join(server, wire, channel) {
  wire.send(`42["join_channel",{"token":"${await server.token(channel)}"}]`);
  await wire.expect(`42["clientevent",{"data":${JSON.stringify(`Connected to ${channel}`)}}]`);
}

/** A connection that has joined `channels`, closed when the test ends. */
export async function joined(t, server, channels) {
  const wire = await connect(server);
  t.after(() => wire.close());
  for (const channel of channels) await join(server, wire, channel);
  return wire;
}
