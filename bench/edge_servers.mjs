// node's http server as a peer: a fresh WebAssembly.Instance of the same guest for every request.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const [file, port] = process.argv.slice(2);
const module = new WebAssembly.Module(readFileSync(file));

createServer((request, response) => {
  let body = Buffer.alloc(0);
  let memory;
  const text = (at, size) => Buffer.from(memory.buffer, at, size).toString("latin1");
  const env = {
    hostcall_init_mm() {},
    hostcall_resp_set_header(handle, name, nameSize, values, count) {
      const slices = new Uint32Array(memory.buffer, values, 2 * count);
      const given = Array.from({ length: count }, (_, i) => text(slices[2 * i], slices[2 * i + 1]));
      response.setHeader(text(name, nameSize), given);
      return 0;
    },
    hostcall_resp_set_body(handle, at, size) {
      body = Buffer.from(memory.buffer.slice(at, at + size));
      return 0;
    },
  };
  const instance = new WebAssembly.Instance(module, { env });
  memory = instance.exports.memory;
  instance.exports.run();
  response.end(body);
}).listen(Number(port), "127.0.0.1");
