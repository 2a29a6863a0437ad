// Which models can be served; and for an operator's key by which machines, and draining them.

import { get, key, request } from "./api.js";

const $ = (id) => document.getElementById(id);

/** The key that machines were last refused to: a user's sees models only, and is not asked again. */
let refusedTo = null;

export async function showMachines() {
  try {
    const [models, providers] = await Promise.all([get("/v1/models/capacity"), machines()]);
    fill("models", models.map(modelCells));
    fill("providers", (providers ?? []).map(providerCells));
    $("operator").hidden = providers === null;
    $("machines-problem").textContent = "";
  } catch (error) {
    $("machines-problem").textContent = error.message;
    throw error;
  }
}

async function machines() {
  if (refusedTo === key.get()) return null;
  try {
    return await get("/v1/providers");
  } catch (error) {
    if (error.code !== "permission_refused") throw error;
    refusedTo = key.get();
    return null;
  }
}

function modelCells(model) {
  const first = model.expected_first_token_s;
  return [
    cell(model.id, model.can_accept ? "good" : "bad"),
    cell(model.routable_providers),
    cell(model.free_providers),
    cell(model.queued),
    cell(first === null ? "-" : `${(first * 1000).toFixed(0)} ms`),
  ];
}

function providerCells(provider) {
  const [state, look] = stateOf(provider);
  return [
    cell(provider.name),
    cell(state, look),
    cell(provider.trust.replace("_", " ")),
    cell(provider.models.join(", ")),
    cell(deviceOf(provider)),
    cell(provider.in_flight),
    action(provider),
  ];
}

function deviceOf({ device, hardware }) {
  const gigabytes = (hardware.memory_bytes / 1e9).toFixed(0);
  return `${device}, ${hardware.threads} threads, ${gigabytes} GB`;
}

function stateOf(provider) {
  if (provider.cluster_role > 0) return [`rank ${provider.cluster_role}`, "idle"];
  if (provider.draining) return [provider.in_flight ? "draining" : "drained", "idle"];
  if (provider.set_aside) return ["set aside", "bad"];
  if (!provider.ready) return ["not ready", "bad"];
  const ranks = provider.cluster_members.length;
  return [ranks > 1 ? `ready, rank 0 of ${ranks}` : "ready", "good"];
}

function action(provider) {
  const button = document.createElement("button");
  const [verb, text] = provider.draining ? ["resume", "Resume"] : ["drain", "Drain"];
  button.type = "button";
  button.textContent = text;
  button.hidden = provider.cluster_role > 0;
  button.addEventListener("click", async () => {
    button.disabled = true;
    await request(`/v1/providers/${provider.id}/${verb}`, { method: "POST" }).catch((error) => {
      $("machines-problem").textContent = error.message;
    });
    await showMachines();
  });
  const data = document.createElement("td");
  data.append(button);
  return data;
}

function cell(text, look = "") {
  const data = document.createElement("td");
  data.textContent = text;
  data.className = look;
  return data;
}

function fill(table, rows) {
  const made = rows.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells);
    return row;
  });
  $(table).tBodies[0].replaceChildren(...made);
}
