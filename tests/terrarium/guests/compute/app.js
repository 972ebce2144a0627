/// <reference types="@fastly/js-compute" />
import { env } from "fastly:env";
import { ConfigStore } from "fastly:config-store";
import { SecretStore } from "fastly:secret-store";
import { KVStore } from "fastly:kv-store";
import { Logger } from "fastly:logger";

addEventListener("fetch", (event) => event.respondWith(serve(event)));

const routes = {
  "/": () => new Response("Hello from JavaScript!\n"),
  "/head": (request, event) =>
    new Response(
      [request.method, request.url, ...[...request.headers].map(([name, value]) => `${name}: ${value}`), event.client.address]
        .join("\n") + "\n",
    ),
  "/echo": (request) => new Response(request.body),
  "/upper": async (request) => new Response((await request.text()).toUpperCase()),
  "/json": async (request) => Response.json({ got: await request.json() }, { status: 201, headers: { "x-kind": "json" } }),
  "/stream": () => {
    let line = 0;
    const body = new ReadableStream({
      pull(controller) {
        if (line === 100) controller.close();
        else controller.enqueue(new TextEncoder().encode(`line ${line++}\n`));
      },
    });
    return new Response(body);
  },
  "/transform": async (request) => {
    const upper = new TransformStream({
      transform(chunk, controller) {
        controller.enqueue(new TextEncoder().encode(new TextDecoder().decode(chunk).toUpperCase()));
      },
    });
    return new Response(request.body.pipeThrough(upper));
  },
  "/fetch": async () => {
    const answer = await fetch("http://origin.test/asked", { backend: "origin", method: "PUT", body: "asking", headers: { "x-from": "js" } });
    return new Response(`${answer.status} ${await answer.text()}`);
  },
  "/proxy": () => fetch("http://origin.test/proxied", { backend: "origin" }),
  "/parallel": async () => {
    const answers = [2, 1, 0].map((n) => fetch(`http://origin.test/slow/${n}`, { backend: "origin" }).then((one) => one.text()));
    return new Response(`${await Promise.race(answers)} of ${await Promise.all(answers)}\n`);
  },
  "/config": () => {
    const store = new ConfigStore("settings");
    return new Response(`${store.get("greeting")} ${store.get("absent")}\n`);
  },
  "/secret": async () => {
    const secret = await new SecretStore("vault").get("key");
    return new Response(`${secret.plaintext()}\n`);
  },
  "/kv": async () => {
    const store = new KVStore("things");
    const before = await store.get("key");
    await store.put("key", "value", { metadata: "about" });
    const entry = await store.get("key");
    const listed = await store.list({ prefix: "k" });
    await store.delete("key");
    const after = await store.get("key");
    return new Response(`${before} ${await entry.text()} ${entry.metadataText()} ${listed.list} ${after}\n`);
  },
  "/log": () => {
    new Logger("access").log("one line");
    console.log("printed", { a: 1 });
    return new Response(`${env("FASTLY_SERVICE_ID")} ${env("FASTLY_SERVICE_VERSION")}\n`);
  },
  "/sleep": async () => {
    await new Promise((done) => setTimeout(done, 30));
    return new Response("slept\n");
  },
  "/digest": async () => {
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode("text"));
    return new Response([...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("") + "\n");
  },
  "/throw": () => {
    throw new Error("on purpose");
  },
};

async function serve(event) {
  const route = routes[new URL(event.request.url).pathname];
  return route ? route(event.request, event) : new Response("no route\n", { status: 404 });
}
