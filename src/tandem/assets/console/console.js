// Signing in, the two pages, and what is refreshed while they are open.

import { ApiError, get, key, takeKeyFromAddress } from "./api.js";
import { setUpChat, showModels } from "./chat.js";
import { showMachines } from "./machines.js";

const $ = (id) => document.getElementById(id);
const PAGES = ["chat", "machines"];
const REFRESH_MS = 1000;

function page() {
  const named = location.hash.slice(1);
  return PAGES.includes(named) ? named : "chat";
}

function show() {
  const signedIn = key.get() !== null;
  $("sign-in").hidden = signedIn;
  $("sign-out").hidden = !signedIn;
  for (const name of PAGES) $(name).hidden = !signedIn || name !== page();
  for (const link of document.querySelectorAll("nav a")) {
    link.toggleAttribute("aria-current", link.dataset.page === page());
  }
  if (signedIn) refresh();
}

async function refresh() {
  try {
    if (page() === "machines") await showMachines();
    else await showModels();
    $("health").textContent = (await fetch("/readyz")).ok ? "ready" : "not able to serve now";
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) signOut(error.message);
    else $("health").textContent = error.message;
  }
}

async function keepFresh() {
  if (key.get() !== null && page() === "machines" && !document.hidden) await refresh();
  setTimeout(keepFresh, REFRESH_MS);
}

function signOut(problem = "") {
  key.forget();
  $("sign-in-problem").textContent = problem;
  $("health").textContent = "";
  show();
  $("key").focus();
}

$("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  key.set($("key").value.trim());
  $("key").value = "";
  $("sign-in-problem").textContent = "";
  await get("/v1/models").then(show, (error) => signOut(error.message));
});
$("sign-out").addEventListener("click", () => signOut());
addEventListener("hashchange", () => {
  takeKeyFromAddress();
  show();
});
async function start() {
  takeKeyFromAddress();
  setUpChat();
  // A service of `--no-keys` answers everybody.
  if (key.get() === null && (await fetch("/v1/models")).ok) key.set("");
  show();
  keepFresh();
}

start();
