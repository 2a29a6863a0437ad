// The chat page: one conversation, streamed.

import { get, streamChat } from "./api.js";

const $ = (id) => document.getElementById(id);
const conversation = [];
let running = null;

export function setUpChat() {
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  $("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      $("ask").requestSubmit();
    }
  });
  $("stop").addEventListener("click", () => running?.abort());
  $("clear").addEventListener("click", () => {
    running?.abort();
    conversation.length = 0;
    $("messages").replaceChildren();
    $("question").focus();
  });
}

export async function showModels() {
  const models = await get("/v1/models");
  const chosen = $("model").value;
  $("model").replaceChildren(...models.map(({ id }) => new Option(id, id, false, id === chosen)));
}

async function send() {
  const question = $("question").value.trim();
  if (!question || running) return;
  $("question").value = "";
  conversation.push({ role: "user", content: question });
  show("user", question);
  const shown = show("assistant", "");
  const text = shown.appendChild(document.createTextNode(""));
  running = new AbortController();
  busy(true);
  const began = performance.now();
  try {
    const usage = await streamChat(
      {
        model: $("model").value,
        messages: conversation,
        temperature: Number($("temperature").value),
      },
      (piece) => text.appendData(piece),
      running.signal,
    );
    note(shown, figures(usage, performance.now() - began));
  } catch (error) {
    note(shown, error.name === "AbortError" ? "stopped" : error.message, error.name !== "AbortError");
  } finally {
    conversation.push({ role: "assistant", content: text.data });
    running = null;
    busy(false);
  }
}

function show(role, content) {
  const item = document.createElement("li");
  item.className = role;
  item.append(content);
  $("messages").append(item);
  item.scrollIntoView({ block: "end" });
  return item;
}

function note(item, text, problem = false) {
  const small = document.createElement("small");
  small.textContent = text;
  if (problem) small.className = "problem";
  item.append(small);
}

function figures(usage, milliseconds) {
  const rate = (usage.completion_tokens / milliseconds) * 1000;
  return `${usage.completion_tokens} tokens, ${rate.toFixed(1)} a second`;
}

function busy(is) {
  $("send").hidden = is;
  $("stop").hidden = !is;
  if (!is) $("question").focus();
}
