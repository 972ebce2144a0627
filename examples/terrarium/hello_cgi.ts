// hello_cgi.ts: a web page by CGI, in AssemblyScript.
//
// asc hello_cgi.ts -o hello_cgi.wasm -O3 --config node_modules/@assemblyscript/wasi-shim/asconfig.json

function variable(name: string): string {
  const value = process.env.get(name);
  return value ? value : "";
}

process.stdout.write("Content-Type: text/plain; charset=utf-8\r\n\r\n");
process.stdout.write(variable("REQUEST_METHOD") + " " + variable("SCRIPT_NAME") + variable("PATH_INFO") + "\n");
for (let i = 1; i < process.argv.length; i++) {
  process.stdout.write("argument: " + process.argv[i] + "\n");
}
