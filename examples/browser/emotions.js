// A model that `ferkit export --format onnx` wrote, in the browser.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

// More threads need a page that is isolated from other origins; one takes a few milliseconds for a face.
ort.env.wasm.numThreads = 1;

/** Load emotions.onnx, and emotions.json beside it, which names its classes. */
export async function loadModel(address) {
  const [session, card] = await Promise.all([
    ort.InferenceSession.create(address),
    fetch(address.replace(/onnx$/, "json")).then((answer) => answer.json()),
  ]);
  return { session, classes: card.classes };
}

/**
 * Probabilities of one face that was cut out of its picture: [["happy", 0.93], ...] in the order of the classes.
 * pixels: ImageData of any size. Making it gray, resizing and calibration are inside the model.
 */
export async function recognise({ session, classes }, pixels) {
  const face = new ort.Tensor("uint8", withoutAlpha(pixels), [1, pixels.height, pixels.width, 3]);
  const { probabilities } = await session.run({ faces: face });
  return classes.map((name, n) => [name, probabilities.data[n]]);
}

/** RGBA of a canvas to RGB, row by row, as the model takes it. */
function withoutAlpha({ data, width, height }) {
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    rgb[to++] = data[from];
    rgb[to++] = data[from + 1];
    rgb[to++] = data[from + 2];
  }
  return rgb;
}
