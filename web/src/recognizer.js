// Pictures in, faces and their emotions out: what `EmotionRecognizer` is in Python, with the same answers.

import { readCard } from "./card.js";
import { cutFace } from "./cut.js";
import { createFollower } from "./follow.js";
import { asPicture, readPicture } from "./pictures.js";
import { anySize, createDetector } from "./yunet.js";

const BATCH = 64;
const SMALLEST = 2 ** -126; // what a probability of 0 counts as

/**
 * Load both networks.
 *
 * @param {object} [options]
 * @param {string | URL | ArrayBuffer} [options.model] ONNX file that `ferkit export` wrote; the packaged one if left out.
 * @param {string | URL | ArrayBuffer} [options.detector] YuNet; the packaged one if left out.
 * @param {object} [options.runtime] `onnxruntime-web`, where it is loaded already.
 * @param {"wasm" | "webgpu"} [options.device] "webgpu" is taken where the browser has it, and only then fetched.
 * @param {number} [options.threads] More than one needs a page that is cross-origin isolated.
 * @param {number} [options.sensitivity] How readily rare expressions are predicted, 0 to 1; the card's if left out.
 * @param {(bytes: number) => void} [options.onProgress] How much of the models has come, in all.
 */
export async function createRecognizer({ model, detector, runtime, device = "wasm", threads = 1, sensitivity, onProgress } = {}) {
  let come = 0;
  const load = (source) => bytesOf(source, (more) => onProgress?.(come += more));
  const provider = device === "webgpu" && await globalThis.navigator?.gpu?.requestAdapter() ? "webgpu" : "wasm";
  const [ort, emotions, yunet] = await Promise.all([
    runtime ?? (provider === "webgpu" ? import("onnxruntime-web/webgpu") : import("onnxruntime-web/wasm")),
    load(model ?? new URL("../models/emotions.onnx", import.meta.url)),
    load(detector ?? new URL("../models/yunet.onnx", import.meta.url)),
  ]);
  const card = readCard(emotions);
  const usual = checkedSensitivity(card, sensitivity) ?? card.sensitivity ?? null;
  ort.env.wasm.numThreads = threads;
  // One after the other: the runtime starts with the first.
  const options = { executionProviders: provider === "webgpu" ? ["webgpu", "wasm"] : ["wasm"], logSeverityLevel: 3 };
  const network = await ort.InferenceSession.create(emotions, options);
  const finder = await ort.InferenceSession.create(anySize(yunet), options);
  const find = createDetector(finder, ort.Tensor);
  const { classes, face_input: input } = card;

  async function ask(faces) {
    const size = input.height * input.width * input.channels;
    const batch = new Uint8Array(faces.length * size);
    faces.forEach((face, place) => batch.set(face, place * size));
    const tensor = new ort.Tensor("uint8", batch, [faces.length, input.height, input.width, input.channels]);
    const [output] = Object.values(await network.run({ [network.inputNames[0]]: tensor }));
    return faces.map((_, place) => output.data.subarray(place * classes.length, (place + 1) * classes.length));
  }

  /** Probabilities of faces of a picture, each in the order of the classes. */
  async function probabilities(picture, faces, at = usual) {
    const rows = [];
    for (let first = 0; first < faces.length; first += BATCH) {
      rows.push(...await ask(faces.slice(first, first + BATCH).map((face) => cutFace(picture, face, input))));
    }
    return rows.map((row) => calibrated(row, card, at));
  }

  const recognizer = {
    classes,
    card,
    device: provider,
    sensitivity: usual,
    find,
    probabilities,

    /** The faces of a picture, from left to right, as the JSON of `ferkit predict` has them. */
    async recognize(image, { sensitivity: at, minConfidence = 0 } = {}) {
      const picture = await readPicture(image);
      // Read once: faces are cut from the pixels in which they were found.
      const pixels = picture.region(0, 0, picture.width, picture.height);
      const faces = await find.detect(pixels);
      const rows = await probabilities(asPicture(pixels), faces, checkedSensitivity(card, at) ?? usual);
      return {
        width: picture.width,
        height: picture.height,
        faces: faces.map((face, place) => ({ ...face, ...emotionOf(classes, rows[place], minConfidence) })),
      };
    },

    /** For a camera or a video: `next(frame, seconds)` tells who is who, with emotions smoothed over time. */
    follow: (settings) => createFollower(recognizer, settings),

    async close() {
      await Promise.all([network.release(), finder.release()]);
    },
  };
  return recognizer;
}

/** The label, its confidence and the probability of each class. */
export function emotionOf(classes, row, minConfidence = 0) {
  const best = row.reduce((most, p, place) => (p > row[most] ? place : most), 0);
  return {
    label: row[best] >= minConfidence ? classes[best] : "uncertain",
    confidence: row[best],
    probabilities: Object.fromEntries(classes.map((name, place) => [name, row[place]])),
  };
}

// Logit adjustment and temperature, as far as the network has not made them itself.
function calibrated(row, card, sensitivity) {
  let powers = Array.from(row, (p) => Math.max(p, SMALLEST));
  if (sensitivity !== null && card.prior) {
    const left = (sensitivity - card.sensitivity_inside) / card.temperature_inside;
    const most = Math.max(...card.prior);
    powers = powers.map((p, place) => p / (card.prior[place] / most) ** left);
  }
  const sum = powers.reduce((total, p) => total + p, 0);
  powers = powers.map((p) => (p / sum) ** (1 / card.temperature));
  const all = powers.reduce((total, p) => total + p, 0);
  return powers.map((p) => p / all);
}

function checkedSensitivity(card, sensitivity) {
  if (sensitivity === undefined || sensitivity === null) return null;
  if (!card.prior) throw new RangeError("The model has no sensitivity: its card knows no prior. Leave sensitivity out.");
  if (!(sensitivity >= 0 && sensitivity <= 1)) throw new RangeError(`A sensitivity is a number from 0 to 1. Received: ${sensitivity}.`);
  return Number(sensitivity);
}

/** The bytes of an address, with word of each part that comes. */
export async function bytesOf(source, onPart = () => {}) {
  if (ArrayBuffer.isView(source)) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  const answer = await fetch(source);
  if (!answer.ok) throw new Error(`${source} cannot be loaded: the server answered ${answer.status}.`);
  const parts = [];
  const reader = answer.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    onPart(value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
