// Where the answers come from: the networks, on a thread of this page. Nothing is sent anywhere. Takes the place of
// src/ferkit/serve/static/engine.js, which asks a server, and offers the same names.

const MOST_ON_THE_WAY = 2;
const here = (path) => new URL(path, import.meta.url).href;

// --- The worker ----------------------------------------------------------------------------------------------------

let worker = null;
let opened = null;
let calls = 0;
const waiting = new Map();

function call(name, values, moved = []) {
  calls += 1;
  worker.postMessage({ id: calls, call: name, values }, moved);
  return new Promise((resolve, reject) => waiting.set(calls, { resolve, reject }));
}

// The networks, loaded when they are first needed.
function open() {
  opened ??= start().catch((problem) => {
    opened = null;
    throw problem;
  });
  return opened;
}

async function start() {
  const { bytes } = await loadModel();
  worker?.terminate();
  worker = new Worker(here("recognizer/worker.js"), { type: "module" });
  worker.onmessage = ({ data: { id, result, problem, progress } }) => {
    if (progress !== undefined) return void tell(`Loading ${Math.min(99, Math.floor((100 * progress) / bytes))}\u2009%`);
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (problem === undefined) resolve(result);
    else reject(new Error(problem));
  };
  worker.onerror = (event) => {
    for (const { reject } of waiting.values()) reject(new Error(event.message || "The recognizer does not start."));
    waiting.clear();
  };
  // `?device=webgpu` tries the graphics card. Both networks are so small that it is no matter of course.
  const wanted = new URLSearchParams(location.search).get("device") === "webgpu";
  const device = wanted && await navigator.gpu?.requestAdapter() ? "webgpu" : "wasm";
  const build = device === "webgpu" ? "ort-wasm-simd-threaded.asyncify.wasm" : "ort-wasm-simd-threaded.wasm";
  await call("open", {
    device,
    runtime: here(`runtime/ort.${device}.bundle.min.mjs`),
    wasm: here(`runtime/${build}`),
    model: here("models/emotions.onnx"),
    detector: here("models/yunet.onnx"),
  });
}

const tell = (detail) => dispatchEvent(new CustomEvent("loading", { detail }));

// --- What the page asks for ----------------------------------------------------------------------------------------

let about = null;
let sensitivity;

export async function loadModel() {
  about ??= await (await fetch(here("model.json"))).json();
  return about;
}

export function setSensitivity(value) {
  sensitivity = Number(value);
}

export async function predict(file) {
  await open();
  tell("Looking");
  return call("recognize", { image: file, sensitivity });
}

export const explain = null; // the heatmaps are made by Python
export const askForKey = () => Promise.resolve();

export class LiveStream {
  // As the one of the server: onAnswer(answer, capturedAt), onState("connecting" | "open" | "waiting" | "closed", text).
  constructor({ onAnswer, onState }) {
    Object.assign(this, { onAnswer, onState });
    this.wanted = false;
    this.opened = false;
    this.onTheWay = 0;
    this.generation = 0; // number of resets
  }

  async open() {
    this.wanted = true;
    this.onState("connecting", "Loading");
    try {
      await open();
    } catch (problem) {
      if (this.wanted) this.onState("waiting", `The models cannot be loaded: ${problem.message}`);
      return;
    }
    if (!this.wanted) return;
    this.opened = true;
    this.reset();
    this.onState("open", "Live");
  }

  close() {
    this.wanted = this.opened = false;
    this.onState("closed", "");
  }

  reopen() {} // each frame takes the sensitivity along
  wake() {}

  get ready() {
    return this.opened && this.onTheWay < MOST_ON_THE_WAY;
  }

  // The next frame has nothing to do with those before: another video, another place in it.
  reset() {
    this.generation += 1;
    if (this.opened) call("reset");
  }

  // The whole frame: faces are cut from it in full, wherever they were found.
  capture(video) {
    return createImageBitmap(video);
  }

  async send(image, capturedAt, generation) {
    if (!this.ready || generation !== this.generation) return void image.close();
    this.onTheWay += 1;
    try {
      const answer = await call("next", { image, timeS: capturedAt / 1000, sensitivity }, [image]);
      if (this.opened && generation === this.generation) this.onAnswer(answer, capturedAt);
    } catch (problem) {
      this.onState("open", problem.message);
    } finally {
      this.onTheWay -= 1;
    }
  }
}
