/// <reference types="@fastly/js-compute" />
import { env } from "fastly:env";
import { ConfigStore } from "fastly:config-store";
import { SecretStore } from "fastly:secret-store";
import { KVStore } from "fastly:kv-store";
import { Logger } from "fastly:logger";
import { Acl } from "fastly:acl";
import { Backend } from "fastly:backend";
import { SimpleCache } from "fastly:cache";
import { Device } from "fastly:device";
import { EdgeRateLimiter, PenaltyBox, RateCounter } from "fastly:edge-rate-limiter";
import { allowDynamicBackends } from "fastly:experimental";
import { getGeolocationForIpAddress } from "fastly:geolocation";

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
  "/dynamic": async () => {
    allowDynamicBackends(true);
    return new Response(await (await fetch("https://dynamic.test:8443/made")).text());
  },
  "/backend": async () => {
    const backend = new Backend({ name: "mine", target: "mine.test:81", hostOverride: "override.test" });
    const answer = await fetch("http://example.test/made", { backend });
    return new Response(`${Backend.exists("mine")} ${Backend.exists("yours")} ${await answer.text()}`);
  },
  "/upload": (request) => fetch("http://origin.test/upload", { backend: "origin", method: "POST", body: request.body }),
  "/kv-stream": async (request) => {
    const store = new KVStore("large");
    await store.put("key", request.body);
    return new Response((await store.get("key")).body);
  },
  "/gzip": async () => {
    const answer = await fetch("http://origin.test/gzip", { backend: "origin", fastly: { decompressGzip: true } });
    return new Response(await answer.text());
  },
  "/failures": async () => {
    const failures = [];
    for (const [path, backend] of [["fail", "origin"], ["refuse", "origin"], ["", "absent"]]) {
      await fetch(`http://origin.test/${path}`, { backend }).catch((error) => failures.push(error.message));
    }
    return new Response(failures.join("\n") + "\n");
  },
  "/wait-until": (_, event) => {
    event.waitUntil(new KVStore("later").put("key", "value"));
    return new Response("done\n");
  },
  "/later": async () => new Response(`${await (await new KVStore("later").get("key")).text()}\n`),
  "/cache": async () => {
    const before = SimpleCache.get("key");
    const made = await SimpleCache.getOrSet("key", async () => ({ value: "made", ttl: 60 }));
    const text = await made.text();
    return new Response(`${before === null ? "nothing" : await before.text()} ${text}\n`);
  },
  "/purge": () => {
    SimpleCache.purge("key", { scope: "global" });
    return new Response("purged\n");
  },
  "/geo": (_, event) => {
    const found = getGeolocationForIpAddress("192.0.2.7");
    return new Response(`${found.city} ${event.client.geo.latitude}\n`);
  },
  "/device": () => new Response(`${Device.lookup("Browser/1").name} ${Device.lookup("Browser/2")}\n`),
  "/acl": async () => {
    const list = Acl.open("blocked");
    return new Response(JSON.stringify([await list.lookup("192.0.2.7"), await list.lookup("198.51.100.1")]));
  },
  "/rate": () => {
    const counter = new RateCounter("counter");
    const box = new PenaltyBox("box");
    counter.increment("client", 3);
    box.add("other", 2);
    const limiter = new EdgeRateLimiter(counter, box);
    const checked = limiter.checkRate("client", 1, 10, 100, 1);
    return new Response(`${counter.lookupCount("client", 10)} ${box.has("other")} ${box.has("client")} ${checked}\n`);
  },
  "/throw": () => {
    throw new Error("on purpose");
  },
};

async function serve(event) {
  const route = routes[new URL(event.request.url).pathname];
  return route ? route(event.request, event) : new Response("no route\n", { status: 404 });
}
