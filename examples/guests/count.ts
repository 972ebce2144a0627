// count.ts: counts lines, words and bytes of standard input, in AssemblyScript; see count.c.
let lines = 0, words = 0, bytes = 0;
let inWord = false;
const buffer = new ArrayBuffer(4096);
for (let got = <i32>process.stdin.read(buffer); got > 0; got = <i32>process.stdin.read(buffer)) {
  const view = Uint8Array.wrap(buffer, 0, got);
  bytes += got;
  for (let i = 0; i < got; i++) {
    const c = view[i];
    const space = c == 32 || (c >= 9 && c <= 13);
    if (c == 10) lines++;
    if (!inWord && !space) words++;
    inWord = !space;
  }
}
process.stdout.write(`${lines} lines, ${words} words, ${bytes} bytes\n`);
for (let i = 1; i < process.argv.length; i++) process.stdout.write(`argument: ${process.argv[i]}\n`);
process.exit(process.argv.length == 1 ? 3 : 0);
