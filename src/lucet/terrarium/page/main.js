// The page: pick a template, edit, build and deploy, watch, open.

import { Api, Refused } from "./api.js";
import { LENGTH, draw } from "./chart.js";
import { Editor } from "./editor.js";

const $ = (id) => document.getElementById(id);
const api = new Api();
const state = { templates: [], files: new Map(), file: "", kind: "", application: null, url: "", follow: null, lines: 0 };
const seconds = { rates: [], p50: [], p99: [], before: null };

const editor = new Editor($("editor"), (text) => {
  state.files.set(state.file, text);
  save();
});

// ---- what is edited survives a reload ----

function save() {
  try {
    localStorage.setItem("terrarium", JSON.stringify({ files: [...state.files], file: state.file, kind: state.kind, name: $("name").value }));
  } catch { /* a browser that keeps nothing */ }
}

function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem("terrarium"));
    if (!kept?.files?.length) return false;
    Object.assign(state, { files: new Map(kept.files), file: kept.file, kind: kept.kind });
    $("name").value = kept.name;
    return true;
  } catch {
    return false;
  }
}

// ---- files and templates ----

function choose(template) {
  Object.assign(state, { files: new Map(Object.entries(template.files)), kind: template.kind, file: Object.keys(template.files)[0] });
  $("name").value = template.name;
  editor.bad.clear();
  show(state.file);
  save();
}

function show(file) {
  state.file = file;
  editor.open(file, state.files.get(file) ?? "");
  list($("files"), [...state.files.keys()], (name) => name, (name) => name === file, show);
}

function list(parent, items, label, current, action) {
  parent.replaceChildren(...items.map((item) => {
    const button = document.createElement("button");
    button.textContent = label(item);
    button.setAttribute("aria-current", current(item));
    button.addEventListener("click", () => action(item));
    const entry = document.createElement("li");
    entry.append(button);
    return entry;
  }));
}

// ---- building and deploying ----

function say(text, kind = "") {
  $("status").textContent = text;
  $("status").className = kind;
}

async function deploy() {
  const name = $("name").value.trim();
  if (!/^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$/.test(name)) {
    say("The name has lower-case letters, digits and hyphens.", "bad");
    $("name").focus();
    return;
  }
  $("deploy").disabled = true;
  $("build").textContent = "";
  tab("build");
  try {
    const started = performance.now();
    say("Building…");
    const built = await api.deploy(name, state.kind, state.files, (log, stage) => {
      $("build").textContent = log;
      $("build").scrollTop = $("build").scrollHeight;
      if (stage) say(stage);
    });
    $("build").textContent = built.log;
    const took = ((performance.now() - started) / 1000).toFixed(1);
    if (!built.ok) {
      say(built.message || "The build failed.", "bad");
      const lines = [...built.log.matchAll(/^[^\s:]*?([\w.-]+):(\d+)(?::\d+)?:/gm)].filter((match) => match[1] === state.file);
      editor.mark(lines.map((match) => Number(match[2])));
      return;
    }
    say(`Live after ${took} s: version ${built.version}`, "good");
    $("build").textContent += `\nDeployed: ${built.url}\n`;
    watch({ name, url: built.url });
    await applications();
  } catch (error) {
    if (error instanceof Refused) await signIn(error.message);
    else say(error.message, "bad");
  } finally {
    $("deploy").disabled = false;
  }
}

async function applications() {
  const all = await api.applications();
  list($("applications"), all, (one) => one.name, (one) => one.name === state.application?.name, (one) => watch(one));
}

// ---- what is live ----

function watch(application) {
  state.application = application;
  $("live").hidden = !application.url;
  $("live").href = application.url;
  $("send").disabled = !application.url;
  $("log").replaceChildren();
  state.lines = 0;
  $("count").textContent = "";
  for (const button of $("applications").querySelectorAll("button")) button.setAttribute("aria-current", button.textContent === application.name);
  state.follow?.abort();
  state.follow = new AbortController();
  api.follow(application.name, state.follow.signal, line).catch((error) => {
    if (error.name !== "AbortError") say(`The log ended: ${error.message}`, "bad");
  });
  versions().catch(() => {});
  preview();
}

async function versions() {
  const all = await api.versions(state.application.name);
  const active = all.find((one) => one.weight);
  $("back").hidden = all.length < 2;
  return active?.version;
}

async function rollBack() {
  try {
    await api.rollBack(state.application.name);
    say(`${state.application.name}: version ${await versions()} answers again`, "good");
    preview();
  } catch (error) {
    say(error.message, "bad");
  }
}

function preview() {
  if (!state.application?.url) return;
  const target = new URL($("path").value || "/", state.application.url);
  $("preview").src = target.href;
  $("answer").textContent = target.href;
}

function line(entry) {
  const shown = document.createElement("div");
  const part = (kind, text) => {
    const span = document.createElement(kind === "time" ? "time" : "span");
    span.className = kind;
    span.textContent = text;
    shown.append(span);
  };
  part("time", (entry.time ?? "").slice(11, 23));
  if (entry.event) part("what", entry.event + (entry.error ? `: ${entry.error}` : ""));
  else {
    part(entry.status >= 400 || !entry.status ? "status bad" : "status", String(entry.status || "gone"));
    part("what", `${entry.method} ${entry.target}`);
    part("took", `${(entry.duration_us / 1000).toFixed(2)} ms`);
    if (entry.limit || entry.fault) part("status bad", entry.limit ? `limit: ${entry.limit}` : entry.fault);
  }
  const log = $("log");
  const atEnd = log.scrollTop + log.clientHeight > log.scrollHeight - 30;
  log.append(shown);
  for (const text of entry.log ?? []) {
    const said = document.createElement("span");
    said.className = "said";
    said.textContent = text;
    log.append(said);
  }
  while (log.childElementCount > 500) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
  state.lines += 1;
  $("count").textContent = state.lines;
}

// ---- traffic ----

async function measure() {
  if (!state.application) return;
  const now = await api.counts();
  const before = seconds.before;
  seconds.before = now;
  if (!before) return;
  const passed = (now.time - before.time) / 1000;
  const counts = now.buckets.map(([edge, count], index) => [edge, count - (before.buckets[index]?.[1] ?? 0)]);
  const total = counts.at(-1)?.[1] ?? 0;
  const at = (share) => (total ? counts.find(([, count]) => count >= share * total)[0] * 1000 : null);
  const put = (values, value) => { values.push(value); if (values.length > LENGTH) values.shift(); };
  put(seconds.rates, Math.max(0, total / passed));
  put(seconds.p50, at(0.5));
  put(seconds.p99, at(0.99));
  $("rate").textContent = (total / passed).toFixed(total / passed < 10 ? 1 : 0);
  $("p50").textContent = at(0.5) === null ? "-" : milliseconds(at(0.5));
  $("p99").textContent = at(0.99) === null ? "-" : milliseconds(at(0.99));
  plot();
}

const short = (value) => (value >= 10000 ? `${value / 1000}k` : String(Number(value.toPrecision(3))));
const milliseconds = (value) => (value < 1 ? `${short(value * 1000)} µs` : `${short(value)} ms`);

function plot() {
  if ($("traffic").hidden) return;
  draw($("rates"), [{ values: seconds.rates, kind: "line", filled: true }], short);
  draw($("latencies"), [{ values: seconds.p99, kind: "line p99" }, { values: seconds.p50, kind: "line" }], milliseconds);
}

async function send() {
  const target = new URL($("path").value || "/", state.application.url);
  $("send").disabled = true;
  let done = 0;
  const one = async () => {
    while (done < 200) {
      done += 1;
      await fetch(target, { mode: "no-cors", cache: "no-store" }).catch(() => {});
      $("sent").textContent = `${done} sent`;
    }
  };
  await Promise.all([one(), one(), one(), one()]);
  $("send").disabled = false;
}

// ---- the page itself ----

function tab(name) {
  for (const button of document.querySelectorAll(".tabs button")) {
    const selected = button.dataset.tab === name;
    button.setAttribute("aria-selected", selected);
    $(button.dataset.tab).hidden = !selected;
  }
  plot();
}

function signIn(message = "") {
  $("refused").textContent = message;
  if (!$("sign-in").open) $("sign-in").showModal();
  return new Promise((resolve) => {
    $("sign-in").addEventListener("close", () => {
      api.signIn($("token").value);
      $("token").value = "";
      resolve(start());
    }, { once: true });
  });
}

async function start() {
  try {
    const languages = await api.languages();
    const able = new Set(languages.filter((one) => one.available).map((one) => one.name));
    state.templates = (await (await fetch("templates.json")).json()).filter((one) => able.has(one.kind));
    $("template").replaceChildren(...state.templates.map((one, index) => new Option(one.title, index)));
    const missing = languages.filter((one) => !one.available).map((one) => one.title ?? one.name);
    $("languages").textContent = missing.length ? `Not installed on this server: ${missing.join(", ")}.` : "";
    if (!restore()) choose(state.templates[0]);
    else show(state.files.has(state.file) ? state.file : [...state.files.keys()][0]);
    await applications();
  } catch (error) {
    if (error instanceof Refused) return signIn(api.signedIn ? error.message : "");
    say(error.message, "bad");
  }
}

function dark(on) {
  document.documentElement.dataset.theme = on ? "dark" : "light";
}

$("template").addEventListener("change", () => choose(state.templates[$("template").value]));
$("name").addEventListener("input", save);
$("deploy").addEventListener("click", deploy);
$("reload").addEventListener("click", preview);
$("path").addEventListener("change", preview);
$("send").addEventListener("click", send);
$("back").addEventListener("click", rollBack);
$("theme").addEventListener("click", () => {
  dark(document.documentElement.dataset.theme !== "dark");
  localStorage.setItem("theme", document.documentElement.dataset.theme);
});
for (const button of document.querySelectorAll(".tabs button")) button.addEventListener("click", () => tab(button.dataset.tab));
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) deploy();
});
addEventListener("resize", plot);
dark(localStorage.theme ? localStorage.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
setInterval(() => measure().catch(() => {}), 1000);
start();
