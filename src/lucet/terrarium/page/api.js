// The admin API, as far as the page uses it. All that it deploys belongs to one tenant.

const PREFIX = "/_admin/v1";
const TENANT = "playground";

export class Refused extends Error {}

export class Api {
  constructor() {
    const given = new URLSearchParams(location.hash.slice(1)).get("token");
    if (given) {
      this.signIn(given);
      history.replaceState(null, "", location.pathname);
    }
    this.token = sessionStorage.getItem("token") ?? "";
  }

  get signedIn() {
    return this.token !== "";
  }

  signIn(token) {
    this.token = token.trim();
    sessionStorage.setItem("token", this.token);
  }

  async #fetch(method, path, body, signal) {
    const headers = { authorization: `Bearer ${this.token}` };
    const answer = await fetch(PREFIX + path, { method, headers, signal, body: body && JSON.stringify(body) }).catch((error) => {
      throw error.name === "AbortError" ? error : new Error("The server does not answer.");
    });
    if (answer.status === 401) throw new Refused("That is not the server's token.");
    if (!answer.ok) throw new Error((await answer.json().catch(() => null))?.error ?? `The server answers ${answer.status}.`);
    return answer;
  }

  async #ask(method, path, body) {
    return (await this.#fetch(method, path, body)).json();
  }

  async languages() {
    this.url = (await this.#ask("GET", "/status")).url;
    await this.#ask("PUT", `/tenants/${TENANT}`, {});
    return (await this.#ask("GET", "/languages")).languages.map((one) => ({ ...one, name: one.kind }));
  }

  #live(name) {
    return this.url.replace("{name}", name);
  }

  async deploy(name, kind, files, say) {
    const routes = [new URL(this.#live(name)).hostname];
    const body = { kind, files: Object.fromEntries(files), routes };
    let job = await this.#ask("POST", `/tenants/${TENANT}/apps/${name}/deploy`, body);
    while (!job.done) {
      say(job.log, job.status);
      await new Promise((resolve) => setTimeout(resolve, 250));
      job = await this.#ask("GET", `/jobs/${job.job}`);
    }
    return { ok: job.success, message: job.status, log: job.log, version: job.version, url: this.#live(name) };
  }

  async applications() {
    const { apps } = await this.#ask("GET", `/tenants/${TENANT}/apps`);
    return apps.filter((one) => one.shares.length).map((one) => ({ name: one.app, url: this.#live(one.app) }));
  }

  async versions(name) {
    return (await this.#ask("GET", `/tenants/${TENANT}/apps/${name}/versions`)).versions;
  }

  async rollBack(name) {
    return (await this.#ask("POST", `/tenants/${TENANT}/apps/${name}/rollback`, {})).shares;
  }

  async follow(name, signal, take) {
    for (const line of (await this.#ask("GET", `/tenants/${TENANT}/apps/${name}/logs?limit=50`)).lines) take(line);
    const answer = await this.#fetch("GET", `/tenants/${TENANT}/apps/${name}/logs/follow`, undefined, signal);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) if (event.startsWith("data: ")) take(JSON.parse(event.slice(6)));
    }
  }

  // How many requests took at most so many seconds, since the server started.
  async counts() {
    const text = await (await this.#fetch("GET", "/metrics")).text();
    const pattern = new RegExp(`^lucet_duration_seconds_bucket\\{tenant="${TENANT}",le="([^"]+)"\\} (\\d+)$`, "gm");
    const buckets = [...text.matchAll(pattern)].map(([, edge, count]) => [edge === "+Inf" ? 33 : Number(edge), Number(count)]);
    return { time: performance.now(), buckets };
  }
}
