// socket.io on µWebSockets, which takes the place of Node's HTTP server and of ws.

import uws from "@trufflesuite/uws-js-unofficial";
import { Server } from "socket.io";

import { Contract } from "./contract.js";
import { endWithParent, launchOptions } from "./launch.js";

const { address, port, authKey } = launchOptions();
endWithParent();

const REASONS = new Map([[200, "200 OK"], [403, "403 Forbidden"], [404, "404 Not Found"]]);

const app = uws.App();
const io = new Server();
io.attachApp(app);
const contract = new Contract(io, authKey);

app.any("/*", (response, request) => {
  // The request is gone when this function returns.
  const [method, url] = [request.getMethod().toUpperCase(), request.getUrl()];
  const authorization = request.getHeader("authorization");
  const chunks = [];
  let isAborted = false;
  response.onAborted(() => (isAborted = true));
  response.onData((chunk, isLast) => {
    chunks.push(Buffer.from(chunk.slice(0)));
    if (!isLast || isAborted) return;
    const [status, body] = contract.answer(method, url, authorization, Buffer.concat(chunks).toString());
    response.cork(() => {
      response.writeStatus(REASONS.get(status)).writeHeader("Content-Type", "application/json").end(body);
    });
  });
});
app.listen(address, port, (listening) => {
  if (!listening) throw new Error(`cannot listen on ${address}:${port}`);
});
