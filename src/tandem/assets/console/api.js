// The service's own API, as the console uses it.

const STORED = "tandem-key";

/** A key in the address (`#key=...`, as `tandem up` prints it) is taken, and removed from there. */
export function takeKeyFromAddress() {
  const given = /^#key=(.+)$/.exec(location.hash);
  if (given) {
    sessionStorage.setItem(STORED, decodeURIComponent(given[1]));
    history.replaceState(null, "", location.pathname);
  }
}

export const key = {
  get: () => sessionStorage.getItem(STORED),
  set: (value) => sessionStorage.setItem(STORED, value),
  forget: () => sessionStorage.removeItem(STORED),
};

export class ApiError extends Error {
  constructor(message, code, status) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

export async function request(path, options = {}) {
  const response = await fetch(path, {
    ...options,
    headers: { Authorization: `Bearer ${key.get() ?? ""}`, ...options.headers },
  }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new ApiError("the service cannot be reached", "unreachable", 0);
  });
  if (!response.ok) throw await errorOf(response);
  return response;
}

export async function get(path) {
  return (await (await request(path)).json()).data;
}

/** Calls `onText` with each piece of the answer; returns the usage. */
export async function streamChat(body, onText, signal) {
  const response = await request("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  let usage = null;
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return usage;
    const event = JSON.parse(data);
    if (event.error) throw new ApiError(event.error.message, event.error.code, 0);
    usage = event.usage ?? usage;
    const text = event.choices[0]?.delta?.content;
    if (text) onText(text);
  }
  throw new ApiError("the answer broke off", "broken", 0);
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield line.slice(6);
  }
}

async function errorOf(response) {
  try {
    const { error } = await response.json();
    return new ApiError(error.message, error.code, response.status);
  } catch {
    return new ApiError(`${response.status} ${response.statusText}`, "unknown", response.status);
  }
}
