// The network between a client and the server: a relay that can be cut, as a dead Wi-Fi cuts it.

import { once } from "node:events";
import net from "node:net";

import { within } from "./wire.js";

export class Link {
  /** Each connection through this link: the client's end of it and the server's. */
  #pairs = new Set();
  #isCut = false;
  /** The server's ends of connections that were lost. The server has not been told. */
  stale = [];

  static async open(t, server) {
    const link = new Link();
    const relay = net.createServer((near) => (link.#isCut ? near.destroy() : link.#carry(near, net.connect(server.port, "127.0.0.1"))));
    relay.listen(0, "127.0.0.1");
    await once(relay, "listening");
    link.url = `http://127.0.0.1:${relay.address().port}`;
    t.after(() => {
      relay.close();
      for (const { near, far } of link.#pairs) [near, far].forEach((socket) => socket.destroy());
      for (const { far } of link.stale) far.destroy();
    });
    return link;
  }

  #carry(near, far) {
    const pair = { near, far };
    this.#pairs.add(pair);
    const end = () => {
      if (!this.#pairs.delete(pair)) return;
      near.destroy();
      far.destroy();
    };
    for (const socket of [near, far]) socket.on("error", end).on("close", end);
    near.pipe(far);
    far.pipe(near);
  }

  /** The client loses every connection and gets no new one until `restore`. To the server each looks open; what it sends goes nowhere. */
  cut() {
    this.#isCut = true;
    for (const { near, far } of this.#pairs) {
      near.unpipe(far);
      far.unpipe(near);
      this.stale.push({ far, closed: new Promise((resolve) => far.once("close", resolve)) });
      far.resume();
      near.destroy();
    }
    this.#pairs.clear();
  }

  restore() {
    this.#isCut = false;
  }

  /** Resolves once the server has given up every connection that was lost. */
  abandoned() {
    return within(Promise.all(this.stale.map(({ closed }) => closed)), "the server to close the connections that were lost");
  }
}
