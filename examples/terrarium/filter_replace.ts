// filter_replace.ts: replaces a text in pages. The filter's configuration is the text and its replacement, in two lines.
//
// asc filter_replace.ts -o filter_replace.wasm -O3 --runtime stub --use abort=

// @ts-ignore: decorator
@external("http_handler", "get_config")
declare function get_config(buffer: usize, limit: u32): u32;
// @ts-ignore: decorator
@external("http_handler", "enable_features")
declare function enable_features(features: u32): u32;
// @ts-ignore: decorator
@external("http_handler", "get_header_values")
declare function get_header_values(kind: u32, name: usize, nameSize: u32, buffer: usize, limit: u32): u64;
// @ts-ignore: decorator
@external("http_handler", "read_body")
declare function read_body(kind: u32, buffer: usize, limit: u32): u64;
// @ts-ignore: decorator
@external("http_handler", "write_body")
declare function write_body(kind: u32, body: usize, size: u32): void;

const RESPONSE: u32 = 1;
const BUFFER_RESPONSE: u32 = 2;

function text(size: u32, fill: (buffer: usize, size: u32) => void): string {
  const buffer = new ArrayBuffer(size);
  fill(changetype<usize>(buffer), size);
  return String.UTF8.decode(buffer);
}

function config(): string {
  return text(get_config(0, 0), (buffer, size) => { get_config(buffer, size); });
}

function isPage(): bool {
  const name = String.UTF8.encode("content-type");
  const buffer = new ArrayBuffer(256);
  const result = get_header_values(RESPONSE, changetype<usize>(name), name.byteLength, changetype<usize>(buffer), 256);
  return <u32>result <= 256 && String.UTF8.decode(buffer).startsWith("text/html");
}

function body(): string {
  let buffer = new ArrayBuffer(65536);
  let size: u32 = 0;
  let result: u64;
  do {
    if (size == <u32>buffer.byteLength) {
      const larger = new ArrayBuffer(buffer.byteLength * 2);
      memory.copy(changetype<usize>(larger), changetype<usize>(buffer), size);
      buffer = larger;
    }
    result = read_body(RESPONSE, changetype<usize>(buffer) + size, buffer.byteLength - size);
    size += <u32>result;
  } while (!(result >> 32));
  return String.UTF8.decodeUnsafe(changetype<usize>(buffer), size);
}

export function handle_request(): u64 {
  enable_features(BUFFER_RESPONSE);
  return 1;
}

export function handle_response(context: u32, isError: u32): void {
  if (isError || !isPage()) return;
  const lines = config().split("\n");
  if (lines.length < 2 || lines[0].length == 0) return;
  const replaced = String.UTF8.encode(body().replaceAll(lines[0], lines[1]));
  write_body(RESPONSE, changetype<usize>(replaced), replaced.byteLength);
}
