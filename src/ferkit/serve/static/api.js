// Talking to the server by HTTP, with the key where it asks for one.

const KEY = "ferkit-key";
let key = null;
try { key = sessionStorage.getItem(KEY); } catch { /* private windows may refuse */ }

export const address = (path) => new URL(path, document.baseURI);

export class ServerProblem extends Error {
  constructor(message, code, status) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

export async function ask(path, options = {}) {
  for (;;) {
    const headers = new Headers(options.headers);
    if (key) headers.set("X-API-Key", key);
    let response;
    try {
      response = await fetch(address(path), { ...options, headers });
    } catch {
      throw new ServerProblem("The server does not answer. Is it still running?", "gone", 0);
    }
    if (response.status === 401) {
      await askForKey();
      continue;
    }
    const body = await response.json().catch(() => null);
    if (response.ok) return body;
    const problem = body?.error ?? { code: "unknown", message: `The server answered ${response.status}.` };
    throw new ServerProblem(problem.message, problem.code, response.status);
  }
}

export const loadModel = () => ask("v1/model");

export async function predict(picture, name) {
  const form = new FormData();
  form.append("picture", picture, name);
  return (await ask("v1/predict", { method: "POST", body: form }))[0];
}

// Which places of the face at x, y speak for its emotion.
export async function explain(picture, query) {
  const form = new FormData();
  form.append("picture", picture, "picture");
  return ask(`v1/explain?${new URLSearchParams(query)}`, { method: "POST", body: form });
}

// A browser cannot set headers on a WebSocket, so the key travels as a subprotocol.
export function subprotocols() {
  if (!key) return ["ferkit.v1"];
  const bytes = new TextEncoder().encode(key);
  const text = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return ["ferkit.v1", `ferkit.key.${text}`];
}

let asking = null;

export function askForKey() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("key");
    const input = document.getElementById("key-input");
    if (key) document.getElementById("key-text").textContent = "The server did not take that key.";
    input.value = "";
    // Without a key nothing works. Browsers let nobody forbid a second Escape, so it comes back.
    const again = () => dialog.showModal();
    dialog.addEventListener("close", again);
    document.getElementById("key-form").addEventListener("submit", () => {
      dialog.removeEventListener("close", again);
      key = input.value;
      try { sessionStorage.setItem(KEY, key); } catch { /* then it lasts as long as the page */ }
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}
