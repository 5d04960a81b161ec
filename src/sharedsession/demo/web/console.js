// The balancer sends each change as it happens, as the HTML to be put in place.
"use strict";

const LONGEST_LIST = 8;
const PAUSE = 5000; // between two warnings that say the same

const element = (id) => document.getElementById(id);
const shop = new BroadcastChannel("shop"); // where tabs tell each other that something changed
const say = (text) => { element("news").textContent = text; };

function keepingFocus(change) {
  const id = document.activeElement?.id;
  change();
  if (id && document.activeElement?.id !== id) element(id)?.focus();
}

// --- the lanes -------------------------------------------------------------------------------------

let warned = 0;

function showTotals({ total, missed }) {
  element("total").textContent = total;
  element("missed").textContent = missed;
  element("misses").dataset.some = missed > 0;
}

function showPicture(picture) {
  keepingFocus(() => { element("lanes").innerHTML = picture.lanes; });
  showTotals(picture);
}

function showRequest(change) {
  const lane = element(`lane-${change.server}`);
  const list = lane.querySelector(".requests");
  list.insertAdjacentHTML("afterbegin", change.request);
  while (list.children.length > LONGEST_LIST) list.lastElementChild.remove();
  lane.querySelector(".answered").textContent = change.answered;
  showTotals(change);
  if (change.lost && Date.now() - warned > PAUSE) {
    warned = Date.now();
    say(`${change.server} did not find the session.`);
  }
}

function showServer(change) {
  keepingFocus(() => {
    element(`lane-${change.server}`).querySelector(".head").outerHTML = change.head;
  });
  if (change.state !== "starting") say(`${change.server} is ${change.state}.`);
}

let events;

function watch() {
  events?.close();
  if (document.hidden) return; // a browser has few connections to spare
  events = new EventSource("/_demo/events");
  const on = (name, show) => events.addEventListener(name, (event) => show(JSON.parse(event.data)));
  on("picture", showPicture);
  on("request", showRequest);
  on("server", showServer);
  events.onopen = () => { element("live").textContent = "Live."; };
  events.onerror = () => { element("live").textContent = "Waiting for the balancer."; };
}

document.addEventListener("visibilitychange", watch);
document.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  if (button.ariaDisabled === "true") return;
  const answer = await fetch(event.target.action, { method: "POST", redirect: "manual" }).catch(() => {});
  if (answer?.type !== "opaqueredirect") say((await answer?.text()) ?? "The balancer does not answer.");
});

// --- the tabs --------------------------------------------------------------------------------------

const tabs = [element("tab-1"), element("tab-2")];

function openTabs() {
  // One after the other: two first visits at the same time would be two sessions.
  const [first, second] = tabs;
  first.addEventListener("load", () => { second.src = "/shop"; }, { once: true });
  first.src = "/shop";
}

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (answer.ok || answer.type === "opaqueredirect") return answer;
  throw new Error(answer.status === 503 ? "No server answers." : await answer.text());
}

async function teaInTheCart() {
  const session = await (await ask("/api/session")).json();
  return session.cart?.tea ?? 0;
}

async function clickInTab(tab) {
  const button = tab.contentDocument.getElementById("add-tea");
  if (!button) throw new Error("Open the shop in both tabs first.");
  const failure = await tab.contentWindow.outcomeOf(() => button.click());
  if (failure) throw new Error(failure);
}

const addInTabs = () => Promise.all(tabs.map(clickInTab));

async function addTen() {
  const add = () => ask("/cart/tea/add", { method: "POST", redirect: "manual" });
  await Promise.all(Array.from({ length: 10 }, add));
  shop.postMessage("changed");
}

function comparing(count, add) {
  return async () => {
    try {
      const before = await teaInTheCart();
      await add();
      const after = await teaInTheCart();
      const verdict = after === before + count ? "Nothing was lost." : `It should be ${before + count}.`;
      say(`Tea: ${before} + ${count} = ${after}. ${verdict}`);
    } catch (error) {
      say(error.message);
    }
  };
}

element("both").addEventListener("click", comparing(2, addInTabs));
element("ten").addEventListener("click", comparing(10, addTen));

for (const part of document.querySelectorAll("[data-script-only], #live")) part.hidden = false;
watch();
openTabs();
