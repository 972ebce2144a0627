// The functions that a Terrarium gives its guests, for programs in AssemblyScript. docs/terrarium-hostcalls.md explains them.
//
//   import { init, Request, Response } from "./lucet_http";
//
//   export function run(): void {
//     init();
//     Response.setHeader("content-type", ["text/plain"]);
//     Response.setBodyText("you asked for " + Request.incoming().path);
//   }

@external("env", "hostcall_init_mm") declare function init_mm(malloc: i32, free: i32): void;
@external("env", "hostcall_debug") declare function debug_(text: usize, size: usize): void;
@external("env", "hostcall_req_get_method") declare function req_get_method(p: usize, n: usize, req: i32): void;
@external("env", "hostcall_req_get_path") declare function req_get_path(p: usize, n: usize, req: i32): void;
@external("env", "hostcall_req_get_body") declare function req_get_body(p: usize, n: usize, req: i32): void;
@external("env", "hostcall_req_get_headers") declare function req_get_headers(p: usize, n: usize, req: i32): void;
@external("env", "hostcall_req_get_header")
declare function req_get_header(p: usize, n: usize, req: i32, name: usize, size: usize): void;
@external("env", "hostcall_req_create")
declare function req_create(method: usize, n: usize, url: usize, m: usize): i32;
@external("env", "hostcall_req_set_header")
declare function req_set_header(req: i32, name: usize, n: usize, values: usize, m: usize): i32;
@external("env", "hostcall_req_set_body") declare function req_set_body(req: i32, body: usize, n: usize): i32;
@external("env", "hostcall_req_send") declare function req_send(req: i32): i32;
@external("env", "hostcall_req_send_async") declare function req_send_async(req: i32): i32;
@external("env", "hostcall_pending_req_wait") declare function pending_req_wait(pending: i32): i32;
@external("env", "hostcall_pending_req_poll") declare function pending_req_poll(pending: i32): i32;
@external("env", "hostcall_pending_req_select")
declare function pending_req_select(pending: usize, n: usize, which: usize): i32;
@external("env", "hostcall_resp_get_response_code") declare function resp_get_response_code(resp: i32): u32;
@external("env", "hostcall_resp_get_body") declare function resp_get_body(p: usize, n: usize, resp: i32): void;
@external("env", "hostcall_resp_get_headers") declare function resp_get_headers(p: usize, n: usize, resp: i32): void;
@external("env", "hostcall_resp_get_header")
declare function resp_get_header(p: usize, n: usize, resp: i32, name: usize, size: usize): void;
@external("env", "hostcall_resp_set_response_code") declare function resp_set_response_code(resp: i32, code: i32): i32;
@external("env", "hostcall_resp_set_header")
declare function resp_set_header(resp: i32, name: usize, n: usize, values: usize, m: usize): i32;
@external("env", "hostcall_resp_set_body") declare function resp_set_body(resp: i32, body: usize, n: usize): i32;
@external("env", "hostcall_kvstore_insert")
declare function kvstore_insert(key: usize, n: usize, value: usize, m: usize): i32;
@external("env", "hostcall_kvstore_upsert")
declare function kvstore_upsert(key: usize, n: usize, value: usize, m: usize): i32;
@external("env", "hostcall_kvstore_append")
declare function kvstore_append(key: usize, n: usize, value: usize, m: usize): i32;
@external("env", "hostcall_kvstore_get") declare function kvstore_get(p: usize, n: usize, key: usize, m: usize): i32;
@external("env", "hostcall_kvstore_remove") declare function kvstore_remove(key: usize, n: usize): i32;
@external("env", "hostcall_rng_next_u64") declare function rng_next_u64(): u64;
@external("env", "hostcall_time_now") declare function time_now(nanoseconds: usize): u64;
@external("env", "hostcall_dns_query_ip")
declare function dns_query_ip(p: usize, n: usize, name: usize, size: usize, v6: i32): i32;

// Where getters write a pointer and a size.
const out = memory.data(8);

function malloc(size: usize): usize {
  return heap.alloc(size);
}

function free(pointer: usize): void {
  heap.free(pointer);
}

/** To be called first: what the host gives is allocated here. */
export function init(): void {
  init_mm(<i32>malloc.index, <i32>free.index);
}

function taken(): ArrayBuffer | null {
  const pointer = <usize>load<u32>(out), size = <i32>load<u32>(out, 4);
  if (!pointer) return null;
  const buffer = new ArrayBuffer(size);
  memory.copy(changetype<usize>(buffer), pointer, size);
  heap.free(pointer);
  return buffer;
}

function takenText(): string {
  const buffer = taken();
  return buffer === null ? "" : String.UTF8.decode(buffer);
}

function takenBuffers(): ArrayBuffer[] {
  const pointer = <usize>load<u32>(out), count = <i32>load<u32>(out, 4);
  const found: ArrayBuffer[] = [];
  for (let i = 0; i < count; i++) {
    memory.copy(out, pointer + 8 * i, 8);
    found.push(<ArrayBuffer>taken());
  }
  if (pointer) heap.free(pointer);
  return found;
}

function takenTexts(): string[] {
  const buffers = takenBuffers();
  const found: string[] = [];
  for (let i = 0; i < buffers.length; i++) found.push(String.UTF8.decode(buffers[i]));
  return found;
}

function at(buffer: ArrayBuffer): usize {
  return changetype<usize>(buffer);
}

class Values {
  buffers: ArrayBuffer[] = [];
  array: ArrayBuffer;

  constructor(values: string[]) {
    this.array = new ArrayBuffer(8 * values.length);
    for (let i = 0; i < values.length; i++) {
      const buffer = String.UTF8.encode(values[i]);
      this.buffers.push(buffer);
      store<u32>(at(this.array) + 8 * i, <u32>at(buffer));
      store<u32>(at(this.array) + 8 * i, <u32>buffer.byteLength, 4);
    }
  }
}

/** A line for the request's log. */
export function debug(text: string): void {
  const buffer = String.UTF8.encode(text);
  debug_(at(buffer), buffer.byteLength);
}

/** What the client asks, or a request to others. */
export class Request {
  private constructor(private handle: i32) {}

  static incoming(): Request {
    return new Request(0);
  }

  /** null: the method or the URL, which is absolute, is none. */
  static create(method: string, url: string): Request | null {
    const m = String.UTF8.encode(method), u = String.UTF8.encode(url);
    const handle = req_create(at(m), m.byteLength, at(u), u.byteLength);
    return handle < 0 ? null : new Request(handle);
  }

  get method(): string {
    req_get_method(out, out + 4, this.handle);
    return takenText();
  }

  /** With the query. */
  get path(): string {
    req_get_path(out, out + 4, this.handle);
    return takenText();
  }

  get body(): ArrayBuffer {
    req_get_body(out, out + 4, this.handle);
    const body = taken();
    return body === null ? new ArrayBuffer(0) : body;
  }

  get headerNames(): string[] {
    req_get_headers(out, out + 4, this.handle);
    return takenTexts();
  }

  header(name: string): string[] {
    const n = String.UTF8.encode(name);
    req_get_header(out, out + 4, this.handle, at(n), n.byteLength);
    return takenTexts();
  }

  setHeader(name: string, values: string[]): bool {
    const n = String.UTF8.encode(name), v = new Values(values);
    return req_set_header(this.handle, at(n), n.byteLength, at(v.array), values.length) == 0;
  }

  setBody(body: ArrayBuffer): bool {
    return req_set_body(this.handle, at(body), body.byteLength) == 0;
  }

  /** Waits for the response; null: there is none, the request's log tells why. */
  send(): Response | null {
    return Response.of(req_send(this.handle));
  }

  sendAsync(): Pending | null {
    const handle = req_send_async(this.handle);
    return handle < 0 ? null : new Pending(handle);
  }
}

/** A request that was sent. */
export class Pending {
  isReady: bool = false;

  constructor(public handle: i32) {}

  wait(): Response | null {
    return Response.of(pending_req_wait(this.handle));
  }

  /** null: there is no response, or, unless isReady is true then, none yet. */
  poll(): Response | null {
    const handle = pending_req_poll(this.handle);
    this.isReady = handle != -2;
    return Response.of(handle);
  }

  /** Waits for one of several: its place among them, or -1. Its response is `selected` then. */
  static select(pending: Pending[]): i32 {
    const handles = new ArrayBuffer(4 * pending.length);
    for (let i = 0; i < pending.length; i++) store<i32>(at(handles) + 4 * i, pending[i].handle);
    Pending.selected = Response.of(pending_req_select(at(handles), pending.length, out));
    const which = load<i32>(out);
    for (let i = 0; i < pending.length; i++) if (pending[i].handle == which) return i;
    return -1;
  }

  static selected: Response | null = null;
}

/** What came back; and, as static members, the response to the client, which is sent when `run` has returned. */
export class Response {
  private constructor(private handle: i32) {}

  static of(handle: i32): Response | null {
    return handle < 0 ? null : new Response(handle);
  }

  get code(): u32 {
    return resp_get_response_code(this.handle);
  }

  get body(): ArrayBuffer {
    resp_get_body(out, out + 4, this.handle);
    const body = taken();
    return body === null ? new ArrayBuffer(0) : body;
  }

  get headerNames(): string[] {
    resp_get_headers(out, out + 4, this.handle);
    return takenTexts();
  }

  header(name: string): string[] {
    const n = String.UTF8.encode(name);
    resp_get_header(out, out + 4, this.handle, at(n), n.byteLength);
    return takenTexts();
  }

  static setCode(code: i32): bool {
    return resp_set_response_code(0, code) == 0;
  }

  static setHeader(name: string, values: string[]): bool {
    const n = String.UTF8.encode(name), v = new Values(values);
    return resp_set_header(0, at(n), n.byteLength, at(v.array), values.length) == 0;
  }

  static setBody(body: ArrayBuffer): bool {
    return resp_set_body(0, at(body), body.byteLength) == 0;
  }

  static setBodyText(text: string): bool {
    return Response.setBody(String.UTF8.encode(text));
  }
}

/** The tenant's key-value store. Those that write tell whether there was nothing under the key. */
export class Store {
  static get(key: string): ArrayBuffer | null {
    const k = String.UTF8.encode(key);
    kvstore_get(out, out + 4, at(k), k.byteLength);
    return taken();
  }

  static insert(key: string, value: ArrayBuffer): bool {
    const k = String.UTF8.encode(key);
    return kvstore_insert(at(k), k.byteLength, at(value), value.byteLength) != 0;
  }

  /** Only if there is nothing under the key: the name is the original's. */
  static upsert(key: string, value: ArrayBuffer): bool {
    const k = String.UTF8.encode(key);
    return kvstore_upsert(at(k), k.byteLength, at(value), value.byteLength) != 0;
  }

  static append(key: string, value: ArrayBuffer): bool {
    const k = String.UTF8.encode(key);
    return kvstore_append(at(k), k.byteLength, at(value), value.byteLength) != 0;
  }

  static remove(key: string): bool {
    const k = String.UTF8.encode(key);
    return kvstore_remove(at(k), k.byteLength) != 0;
  }
}

export function random(): u64 {
  return rng_next_u64();
}

/** Seconds since 1970. */
export function now(): u64 {
  return time_now(0);
}

/** Addresses of 4 or 16 bytes. */
export function dnsAddresses(name: string, v6: bool): ArrayBuffer[] {
  const n = String.UTF8.encode(name);
  dns_query_ip(out, out + 4, at(n), n.byteLength, v6 ? 1 : 0);
  return takenBuffers();
}
