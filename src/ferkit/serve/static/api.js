// Talking to the server by HTTP, with the key where it asks for one.

import { shrunk } from "./sources.js";

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

// How readily rare expressions are predicted, 0 to 1; null leaves it to the server.
let sensitivity = null;

export function setSensitivity(value) {
  sensitivity = value;
}

// An address whose predictions have that sensitivity.
export function predicting(path) {
  const url = address(path);
  if (sensitivity !== null) url.searchParams.set("sensitivity", sensitivity);
  return url;
}

// The faces of a picture that was chosen.
export async function predict(file) {
  const form = new FormData();
  form.append("picture", await shrunk(file), file.name);
  return (await ask(predicting("v1/predict"), { method: "POST", body: form }))[0];
}

// Which places of the face at x, y speak for its emotion.
export async function explain(picture, query) {
  const form = new FormData();
  form.append("picture", picture, "picture");
  const url = predicting("v1/explain");
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  return ask(url, { method: "POST", body: form });
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
