// Without this script every button is an ordinary form. With it, answers are laid into the page
// that is there: the servers write the HTML, the script only puts it in place.
"use strict";

const news = document.getElementById("news");
const tabs = new BroadcastChannel("shop"); // where tabs tell each other that something changed
let last = Promise.resolve(); // requests of one tab go one after the other, in the order of clicks
let following = false;

function show(html) {
  const answer = new DOMParser().parseFromString(html, "text/html");
  const id = document.activeElement?.id;
  for (const part of document.querySelectorAll("[data-part]")) {
    const fresh = answer.getElementById(part.id);
    if (fresh) part.replaceWith(document.adoptNode(fresh));
  }
  document.title = answer.title;
  if (id && document.activeElement?.id !== id) document.getElementById(id)?.focus();
}

async function ask(url, options) {
  const response = await fetch(url, options);
  const html = await response.text();
  if (!response.ok) throw new Error(response.status === 503 ? "No server answers." : html);
  show(html);
  news.textContent = "";
}

function inTurn(work) {
  last = last.then(work).then(() => "", (error) => (news.textContent = error.message));
  return last; // with what went wrong, or nothing
}

function submit(form) {
  const body = new URLSearchParams(new FormData(form));
  return inTurn(async () => {
    await ask(form.action, { method: "POST", body });
    tabs.postMessage("changed");
  });
}

function follow() {
  if (following) return; // one look at what is there now is enough
  following = true;
  inTurn(() => { following = false; return ask("/cart"); });
}

// The console clicks in both tabs at once, and asks each what came of it.
window.outcomeOf = (click) => { click(); return last; };

document.addEventListener("submit", (event) => {
  event.preventDefault();
  submit(event.target);
});
tabs.addEventListener("message", follow);
tabs.postMessage("changed"); // this visit was counted, the other tab shows it too
