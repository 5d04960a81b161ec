// One click is one request of this page; the balancer sends it to every strategy at once.
"use strict";

const LONGEST_LIST = 12;
const EVERY = 1000; // milliseconds between two requests of a stream
const MET = {
  found: "found",
  new: "new",
  unused: "done",
  lost: "NOT FOUND",
  died: "no answer",
};

const element = (id) => document.getElementById(id);
const say = (text) => { element("news").textContent = text; };
const cells = [...document.querySelectorAll("thead [data-strategy]")];
const strategies = cells.map((cell) => cell.dataset.strategy);
const NAMES = new Map(cells.map((cell) => [
  cell.dataset.strategy,
  `${cell.querySelector("b").textContent}, ${cell.querySelector("small").textContent}`,
]));

// --- what is added up ------------------------------------------------------------------------------

const totals = new Map(strategies.map((name) => [name, {
  requests: 0, lost: 0, reads: {}, median: [],
  acknowledged: 0, missing: 0, // of the session at hand
  gone: 0, // of all of them
}]));

function note(action, answer) {
  const total = totals.get(answer.strategy);
  total.requests += 1;
  if (answer.status >= 400) return;
  total.median.push(answer.took);
  total.lost += answer.met === "lost";
  if (answer.read) total.reads[answer.read] = (total.reads[answer.read] ?? 0) + 1;
  // Signed out, here or in another tab: another session begins, or several with the same click.
  if (answer.met === "new" || action === "sign-out") Object.assign(total, { acknowledged: 0, missing: 0 });
  if (action === "write" || action === "two") total.acknowledged += 1;
}

function compare(answers) {
  // Once missing is lost. Only a read tells: of two writes at once, neither answer may show both.
  for (const { strategy, status, count } of answers) {
    const total = totals.get(strategy);
    const missing = status < 400 ? total.acknowledged - count : 0;
    if (missing <= total.missing) continue;
    total.gone += missing - total.missing;
    total.missing = missing;
  }
}

function median(times) {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted.length ? `${sorted[Math.floor(sorted.length / 2)].toFixed(1)} ms` : "–";
}

function listed(reads) {
  return Object.entries(reads).map(([who, times]) => `${who} ${times}`).join(", ") || "–";
}

const SHOWN = { median, reads: listed };

function showTotals() {
  for (const cell of document.querySelectorAll("[data-total]")) {
    const total = totals.get(cell.dataset.strategy);
    const key = cell.dataset.total;
    const text = SHOWN[key]?.(total[key]) ?? total[key];
    cell.textContent = text;
    if (key === "lost" || key === "gone") cell.dataset.bad = text > 0;
  }
}

// --- the list --------------------------------------------------------------------------------------

function made(tag, className, text) {
  const part = document.createElement(tag);
  part.className = className;
  part.textContent = text;
  return part;
}

function chip(answer) {
  const found = made("div", "answer", "");
  const good = answer.status < 400 && answer.met !== "lost";
  found.dataset.good = good;
  if (answer.server) {
    const by = made("span", "by", answer.server.split("-")[1]);
    by.dataset.hue = answer.server.split("-")[1];
    by.title = answer.server;
    by.setAttribute("aria-label", answer.server);
    by.role = "img";
    found.append(by, " ");
  }
  const sign = good ? "✓" : "✗";
  const met = answer.status < 400 || answer.met === "died" ? MET[answer.met] : `${answer.status}`;
  found.append(made("span", "met", `${sign} ${met}`), " ");
  if (answer.read) found.append(made("span", "read", answer.read), " ");
  found.append(made("span", "took", `${answer.took.toFixed(1)} ms`));
  return found;
}

function showRound({ label, answers }) {
  const row = document.createElement("tr");
  const head = made("th", "", label);
  head.scope = "row";
  row.append(head);
  for (const name of strategies) {
    const cell = document.createElement("td");
    cell.dataset.strategy = name;
    cell.append(...answers.filter((each) => each.strategy === name).map(chip));
    row.append(cell);
  }
  const list = element("requests");
  list.querySelector(".none")?.remove();
  list.prepend(row);
  while (list.children.length > LONGEST_LIST) list.lastElementChild.remove();
}

function inWords({ label, answers }) {
  const those = (holds) => [...new Set(answers.filter(holds).map((each) => NAMES.get(each.strategy)))].join("; ");
  const failed = those((each) => each.status >= 400);
  const lost = those((each) => each.status < 400 && each.met === "lost");
  const said = [failed && `no answer: ${failed}`, lost && `not found: ${lost}`].filter(Boolean);
  return `${label}: ${said.join(". ") || "all well"}.`;
}

// --- the buttons -----------------------------------------------------------------------------------

let last = Promise.resolve(); // one round after the other, in the order of clicks
let waiting = 0;

function go(action) {
  waiting += 1;
  last = last.then(async () => {
    const answer = await fetch(`/_demo/everywhere/${action}`, { method: "POST" });
    if (!answer.ok) throw new Error(await answer.text());
    const round = await answer.json();
    for (const each of round.answers) note(action, each);
    if (action === "read") compare(round.answers);
    showRound(round);
    showTotals();
    say(inWords(round));
  }).catch((error) => say(error instanceof TypeError ? "The balancer does not answer." : error.message))
    .finally(() => { waiting -= 1; });
  return last;
}

async function change(process, verb) {
  const answer = await fetch(`/_demo/servers/${process}/${verb}`, { method: "POST", redirect: "manual" }).catch(() => {});
  if (answer?.type !== "opaqueredirect") say((await answer?.text()) ?? "The balancer does not answer.");
}

let stream;

function toggleStream() {
  stream = stream ? clearInterval(stream) : setInterval(() => waiting || go("read"), EVERY);
  element("stream").setAttribute("aria-pressed", String(Boolean(stream)));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.action) go(button.dataset.action);
  if (button?.dataset.verb) change(button.dataset.process, button.dataset.verb);
  if (button?.id === "stream") toggleStream();
});

// --- which processes run ---------------------------------------------------------------------------

function showState(name, state) {
  const card = element(`process-${name}`);
  if (!card || card.dataset.state === state) return;
  card.dataset.state = state;
  card.querySelector(".state").textContent = state;
  if (state !== "starting") say(`${name} is ${state}.`);
}

let events;

function watch() {
  events?.close();
  if (document.hidden) return; // a browser has few connections to spare
  events = new EventSource("/_demo/events");
  events.addEventListener("state", ({ data }) => {
    const { name, state } = JSON.parse(data);
    showState(name, state);
  });
  events.addEventListener("picture", ({ data }) => {
    for (const [name, state] of Object.entries(JSON.parse(data).states)) showState(name, state);
  });
}

document.addEventListener("visibilitychange", watch);
watch();
