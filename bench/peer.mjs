// peer.mjs: node as a peer, for bench/node.py to run: commands on standard input, one JSON object a line, answers likewise.
//
// {"body": NAME, "count": N}: does it so often; answers the nanoseconds of CPU time, collecting garbage included.
// {"kernel": FILE}: loads it; the body "kernel" then runs its export "run" once for each count. Answers 0.
// {"last": true}: what the kernel returned last, as 64 bits.
// {"compile": FILE}: compiles it once; answers the nanoseconds of CPU time.

import { readFileSync, readSync } from "node:fs";

const usual = new WebAssembly.Module(readFileSync(process.argv[2]));
const caller = new WebAssembly.Module(readFileSync(process.argv[3]));
const LOOPS = Number(process.argv[4]);

const { run } = new WebAssembly.Instance(usual).exports;
const { host_loop, empty_loop } = new WebAssembly.Instance(caller, { env: { host: (value) => value } }).exports;
let kernel = null;
let last = 0n;

const bodies = {
  create(count) {
    for (let i = 0; i < count; i++) new WebAssembly.Instance(usual);
  },
  cycle(count) {
    for (let i = 0; i < count; i++) new WebAssembly.Instance(usual).exports.run(1, 2);
  },
  call(count) {
    let sum = 0; // so that the calls are not left out
    for (let i = 0; i < count; i++) sum = run(sum, i);
    return sum;
  },
  host(count) {
    for (let i = 0; i < count; i++) host_loop(LOOPS, 1);
  },
  empty(count) {
    for (let i = 0; i < count; i++) empty_loop(LOOPS, 1);
  },
  kernel(count) {
    for (let i = 0; i < count; i++) last = kernel();
  },
};

function timed(action) {
  const before = process.cpuUsage();
  action();
  const used = process.cpuUsage(before);
  return (used.user + used.system) * 1000;
}

function answer(command) {
  if (command.body) return timed(() => bodies[command.body](command.count));
  if (command.compile) {
    const bytes = readFileSync(command.compile);
    return timed(() => new WebAssembly.Module(bytes));
  }
  if (command.last) return String(BigInt.asUintN(64, last));
  kernel = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(command.kernel))).exports.run;
  return 0;
}

// Synchronous: no event loop between a command and its answer.
const piece = Buffer.alloc(65536);
let text = "";
for (;;) {
  const size = readSync(0, piece);
  if (size === 0) break;
  text += piece.toString("utf8", 0, size);
  for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
    process.stdout.write(JSON.stringify(answer(JSON.parse(text.slice(0, end)))) + "\n");
    text = text.slice(end + 1);
  }
}
