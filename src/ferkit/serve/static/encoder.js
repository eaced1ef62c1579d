// A worker: frames in, JPEG out.
"use strict";

let canvas = null;

onmessage = async ({ data: { frame, quality } }) => {
  canvas ??= new OffscreenCanvas(frame.width, frame.height);
  if (canvas.width !== frame.width || canvas.height !== frame.height) {
    [canvas.width, canvas.height] = [frame.width, frame.height];
  }
  canvas.getContext("2d", { alpha: false }).drawImage(frame, 0, 0);
  frame.close();
  postMessage(await canvas.convertToBlob({ type: "image/jpeg", quality }));
};
