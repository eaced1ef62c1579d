// The recognizer on a thread of its own: { id, call, values } in, { id, result } or { id, problem } out.

import { readPicture } from "./pictures.js";
import { bytesOf, createRecognizer } from "./recognizer.js";

let recognizer = null;
let follower = null;

const calls = {
  // runtime, wasm: addresses of onnxruntime-web and of its WebAssembly. The rest: as `createRecognizer` takes it.
  async open({ runtime, wasm, ...options }) {
    let come = 0;
    const tell = (bytes) => postMessage({ progress: come = bytes });
    const [ort, binary] = await Promise.all([import(runtime), bytesOf(wasm, (more) => tell(come + more))]);
    ort.env.wasm.wasmBinary = binary;
    const before = come;
    recognizer = await createRecognizer({ ...options, runtime: ort, onProgress: (bytes) => tell(before + bytes) });
    follower = recognizer.follow();
    const { classes, card, device, sensitivity } = recognizer;
    return { classes, card, device, sensitivity };
  },
  recognize: ({ image, ...options }) => recognizer.recognize(image, options),
  async next({ image, timeS, ...options }) {
    const picture = await readPicture(image);
    image.close?.();
    return follower.next(picture, timeS, options);
  },
  reset: () => follower.reset(),
};

// One call after the other: a follower belongs to one frame at a time.
let before = Promise.resolve();

onmessage = ({ data: { id, call, values } }) => {
  before = before.then(async () => {
    try {
      postMessage({ id, result: await calls[call](values ?? {}) });
    } catch (problem) {
      postMessage({ id, problem: problem.message ?? String(problem) });
    }
  });
};
