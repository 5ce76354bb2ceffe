// A client of pgactor in Node, written from protocols/README.md alone: a stock ZeroMQ DEALER and a stock msgpack.

import { decode, encode } from "@msgpack/msgpack";
import { Dealer } from "zeromq";

const VERSION = 1;
const SHAPES_PER_LINK = 1024;

// 64-bit integers are BigInt in both directions: an epoch or an int8 keeps all its digits.
const EXACT = { useBigInt64: true };

export class Failed extends Error {
  constructor([, , code, message, errorClass, fields, , inTransaction, index]) {
    super(message);
    Object.assign(this, { code, errorClass, fields: fields ?? {}, inTransaction: inTransaction ?? false, index });
  }
}

export class Client {
  #dealer = new Dealer({ linger: 0, immediate: true, reconnectInterval: -1 });
  told = () => {}; // is given what comes unasked
  #nextId = 1;
  #waiting = new Map(); // id -> { resolve, reject, parts }
  #shapes = new Map(); // number -> columns, the first told first
  #welcomed;
  #sent = Promise.resolve(); // a socket sends one frame at a time

  static async connect(endpoint, label) {
    const client = new Client();
    client.#dealer.connect(endpoint);
    const welcome = new Promise((resolve, reject) => (client.#welcomed = { resolve, reject }));
    client.#read();
    await client.#send([["hello", VERSION, label, process.pid, "node"]]);
    const [, version, epoch, supervisor, maxFrameBytes, heartbeatSeconds] = await welcome;
    Object.assign(client, { version, epoch, supervisor, maxFrameBytes, heartbeatSeconds });
    return client;
  }

  // One frame with a request for each [tag, timeout, ...fields]; a promise of each reply.
  async requests(...all) {
    const begun = all.map((one) => this.#begin(one));
    await this.#send(begun.map(({ message }) => message));
    return begun.map(({ reply }) => reply);
  }

  // A request that is yet to be sent. heard: what comes for it before its reply, if it is a copy.
  #begin([tag, timeout, ...fields], heard) {
    const id = this.#nextId++;
    const waiting = { parts: [], heard };
    const reply = new Promise((resolve, reject) => Object.assign(waiting, { resolve, reject }));
    reply.catch(() => {}); // whoever awaits it is told; nobody else need be
    this.#waiting.set(id, waiting);
    return { id, reply, message: [tag, id, this.epoch, timeout, ...fields] };
  }

  async request(...one) {
    return (await this.requests(one))[0];
  }

  fetch(sql, args = [], lease = null) {
    return this.request("fetch", 10, sql, args, 0, lease);
  }

  execute(sql, args = [], lease = null) {
    return this.request("execute", 10, sql, args, lease);
  }

  acquire(ttl) {
    return this.request("acquire", 10, ttl);
  }

  release(lease) {
    return this.#send([["release", lease]]);
  }

  // COPY to here: sink is given each piece and awaited, and then as much more may come.
  async copyOut(lease, method, what, args, options, credit, sink) {
    let took = Promise.resolve();
    const copy = this.#begin(["copy_out", 10, method, what, args, options, credit, lease], ([, id, data]) => {
      took = took.then(() => sink(data)).then(() => this.#send([["credit", id, data.length]]));
    });
    await this.#send([copy.message]);
    const status = await copy.reply;
    await took;
    return status;
  }

  // COPY from here: source gives pieces, and is asked for the next one while there is credit.
  async copyIn(lease, method, table, options, source) {
    let credit = 0;
    let over = false;
    let wake = () => {};
    const copy = this.#begin(["copy_in", 10, method, table, options, lease], ([, , bytes]) => {
      credit += Number(bytes);
      wake();
    });
    copy.reply.catch(() => {}).finally(() => ((over = true), wake()));
    await this.#send([copy.message]);
    let error = null;
    try {
      for await (const data of source) {
        while (credit <= 0 && !over) await new Promise((resolve) => (wake = resolve));
        if (over) break;
        credit -= data.length;
        await this.#send([["chunk", copy.id, data]]);
      }
    } catch (failure) {
      error = String(failure);
    }
    if (!over) await this.#send([["end_of_chunks", copy.id, error]]);
    return copy.reply;
  }

  tell(...messages) {
    return this.#send(messages);
  }

  async close() {
    await this.#send([["bye"]]);
    await new Promise((done) => setTimeout(done, 50)); // linger is 0: let it leave
    this.#dealer.close();
  }

  #send(messages) {
    const frame = encode(messages, EXACT);
    if (frame.length > (this.maxFrameBytes ?? 1024)) throw new Error("the frame is too large");
    this.#sent = this.#sent.then(() => this.#dealer.send(frame));
    return this.#sent;
  }

  async #read() {
    for await (const [frame] of this.#dealer) for (const message of decode(frame, EXACT)) await this.#take(message);
  }

  async #take(message) {
    const tag = message[0];
    const id = message[1] === null ? null : Number(message[1]); // a small int may come in eight bytes
    if (tag === "welcome") return this.#welcomed.resolve(message);
    if (tag === "failed" && id === null) return this.#lost(new Failed(message));
    if (["lease_ended", "notification", "gap", "notice", "settings"].includes(tag)) return this.told(message);
    const waiting = this.#waiting.get(id);
    if (tag === "chunk" || tag === "credit") return waiting?.heard?.(message);
    const result = this.#result(message, waiting);
    if (tag === "part") return waiting?.parts.push(...result);
    if (waiting === undefined) return tag === "granted" ? this.release(message[2]) : undefined;
    this.#waiting.delete(id);
    if (result instanceof Failed) waiting.reject(result);
    else waiting.resolve(result);
  }

  #result(message, waiting) {
    const [tag, , third, columns, data] = message;
    switch (tag) {
      case "done":
        return third;
      case "part":
        return this.#rows(third, columns, data);
      case "rows":
        return [...(waiting?.parts ?? []), ...this.#rows(third, columns, data)];
      case "results":
        return third.map((reply) => this.#result(reply));
      case "granted":
        return { lease: third, ttl: message[3], pid: Number(message[4]), settings: message[7] };
      case "prepared":
        return { statement: Number(third), name: columns, parameters: data, columns: message[5] };
      case "opened":
        return Number(third);
      case "status_report":
        return third;
      case "failed":
        return new Failed(message);
    }
    throw new Error(`a message that was not asked for: ${tag}`);
  }

  #rows(shape, columns, data) {
    if (columns) {
      if (this.#shapes.size >= SHAPES_PER_LINK) this.#shapes.delete(this.#shapes.keys().next().value);
      this.#shapes.set(Number(shape), columns);
    }
    const names = this.#shapes.get(Number(shape)).map(([name]) => name);
    return data.map((row) => Object.fromEntries(row.map((value, at) => [names[at], value])));
  }

  #lost(error) {
    this.#welcomed.reject(error);
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    this.#dealer.close();
  }
}
