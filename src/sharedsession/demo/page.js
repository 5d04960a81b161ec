// Without this script every button is an ordinary form. With it, answers are laid into the page
// that is there: the servers write the HTML, the script only puts it in place.
"use strict";

const news = document.getElementById("news");
const parse = (html) => new DOMParser().parseFromString(html, "text/html");

function keepingFocus(change) {
  const id = document.activeElement?.id;
  change();
  if (id && document.activeElement?.id !== id) document.getElementById(id)?.focus();
}

function show(html) {
  const answer = parse(html);
  if (answer.getElementById("servers")) return showServers(answer);
  keepingFocus(() => {
    for (const part of document.querySelectorAll("[data-part]")) {
      const fresh = answer.getElementById(part.id);
      if (fresh) part.replaceWith(document.adoptNode(fresh));
    }
    document.title = answer.title;
    prepare();
  });
}

function showServers(answer) {
  const fresh = answer.getElementById("servers");
  const panel = document.getElementById("panel");
  const answered = document.getElementById("answer-title").textContent;
  fresh.querySelector(`[data-server="${answered}"]`)?.setAttribute("aria-current", "true");
  if (panel.innerHTML === fresh.outerHTML) return;
  keepingFocus(() => panel.replaceChildren(document.adoptNode(fresh)));
}

async function ask(url, options) {
  const response = await fetch(url, options);
  const html = await response.text();
  if (response.status === 502) throw new Error(html);
  show(html);
  return response;
}

async function refreshServers() {
  if (document.hidden) return;
  await ask("/_demo/servers");
}

async function tenAtOnce() {
  const ask = async () => parse(await (await fetch("/", { cache: "no-store" })).text()).getElementById("answer-title");
  const titles = await Promise.all(Array.from({ length: 10 }, ask));
  const counts = new Map();
  for (const title of titles) {
    const name = title?.textContent ?? "no server";
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].sort().map(([name, count]) => `${name} ${count}`).join(", ");
}

function report(work) {
  return async (event) => {
    event.preventDefault();
    try {
      news.textContent = (await work(event)) ?? "";
      await refreshServers();
    } catch (error) {
      news.textContent = `No answer: ${error.message}`;
    }
  };
}

const submit = report(async (event) => {
  const form = event.target;
  const body = form.method === "post" ? new URLSearchParams(new FormData(form)) : undefined;
  await ask(form.action, { method: form.method, body });
});

const clickTen = report(async () => {
  const before = Number(document.getElementById("visits").textContent);
  const answers = await tenAtOnce();
  await ask("/");
  const after = Number(document.getElementById("visits").textContent);
  return `Ten at once and one to look: ${answers}. Visits went from ${before} to ${after}.`;
});

function prepare() {
  for (const element of document.querySelectorAll("[data-script-only]")) element.hidden = false;
}

document.addEventListener("submit", submit);
document.addEventListener("click", (event) => {
  if (event.target.id === "ten") clickTen(event);
});
document.addEventListener("visibilitychange", refreshServers);
setInterval(() => refreshServers().catch(() => {}), 2000);
prepare();
refreshServers().catch(() => {});
