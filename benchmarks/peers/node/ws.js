// socket.io with its own WebSocket library, ws.

import { createServer } from "node:http";

import { Server } from "socket.io";

import { Contract } from "./contract.js";
import { endWithParent, launchOptions } from "./launch.js";

const { address, port, authKey } = launchOptions();
endWithParent();

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const { method, url, headers } = request;
    const [status, body] = contract.answer(method, url, headers.authorization, Buffer.concat(chunks).toString());
    response.writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
    response.end(body);
  });
});
// The publishers of a benchmark keep their connections, however quiet they are.
server.keepAliveTimeout = 0;
const contract = new Contract(new Server(server), authKey);
server.listen(port, address);
