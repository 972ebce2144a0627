// A request for each part of the interface: as tour.c.
import { debug, init, Pending, Request, Response, Store } from "./lucet_http";

function echo(path: string): void {
  const request = Request.incoming();
  const values = request.header("X-Name");
  const name = values.length ? values[0] : "nobody";
  const body = String.UTF8.decode(request.body);
  Response.setHeader("X-Kind", ["echo"]);
  Response.setCode(201);
  Response.setBodyText(`${request.method} ${path} ${body} ${name} ${request.headerNames.length}`);
}

function count(): void {
  const value = Store.get("count");
  const number = (value === null ? 0 : I32.parseInt(String.UTF8.decode(value))) + 1;
  const wasAbsent = Store.insert("count", String.UTF8.encode(number.toString()));
  Response.setBodyText(`${number} ${wasAbsent ? "first" : "again"}`);
}

function send(path: string): Pending {
  return (Request.create("GET", "http://there.test" + path) as Request).sendAsync() as Pending;
}

function fetch(): void {
  const pending = [send("/one"), send("/two")];
  let codes: u32 = 0, length = 0;
  while (pending.length) {
    pending.splice(Pending.select(pending), 1);
    const response = Pending.selected as Response;
    codes += response.code;
    length += response.body.byteLength;
  }
  const refused = (Request.create("GET", "http://refused.test/") as Request).send();
  Response.setBodyText(`${codes} ${length} ${refused === null ? -1 : 0}`);
}

export function run(): void {
  init();
  const path = Request.incoming().path;
  if (path == "/count") count();
  else if (path == "/fetch") fetch();
  else if (path == "/fail") {
    debug("this is wrong");
    Response.setCode(500);
    Response.setBodyText("this is wrong");
  } else if (path == "/trap") unreachable();
  else echo(path);
}
