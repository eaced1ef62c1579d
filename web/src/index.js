// @ferkit/web: facial expression recognition in the browser. `index.d.ts` has the types.

import { createRecognizer } from "./recognizer.js";

export { readPicture } from "./pictures.js";
export { createRecognizer };

let usual = null;

/** The faces of a picture and the emotions they are perceived to show, by the packaged model. */
export async function recognize(image, options) {
  usual ??= createRecognizer().catch((problem) => {
    usual = null; // the next call may have more luck
    throw problem;
  });
  return (await usual).recognize(image, options);
}
