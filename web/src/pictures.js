// Anything that a browser can show, as a picture whose pixels can be read: { width, height, region, copy }.

import { AREA, resize, rint } from "./pixels.js";

const canvasOf = (width, height) => new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true, alpha: false });

/** Takes a Blob or File, ImageData, or what a canvas can draw: images, bitmaps, canvases, videos, video frames. */
export async function readPicture(image) {
  if (image?.data && image.width && image.height) return asPicture({ data: image.data, width: image.width, height: image.height, channels: 4 });
  const drawn = image instanceof Blob ? await decoded(image) : image;
  const width = drawn?.videoWidth ?? drawn?.naturalWidth ?? drawn?.displayWidth ?? drawn?.width;
  const height = drawn?.videoHeight ?? drawn?.naturalHeight ?? drawn?.displayHeight ?? drawn?.height;
  if (!width || !height) throw new TypeError("That is no picture, or it is not loaded yet. Expected a Blob, ImageData, image, bitmap, canvas or video frame.");
  const canvas = canvasOf(width, height);
  canvas.fillStyle = "#fff"; // behind what is transparent, as in Python
  canvas.fillRect(0, 0, width, height);
  canvas.drawImage(drawn, 0, 0, width, height);
  if (drawn !== image) drawn.close();
  return {
    width, height,
    region: (left, top, wide, high) => pixelsOf(canvas, left, top, wide, high),
    copy(longest) {
      const size = shrunk(width, height, longest);
      if (size[0] === width) return pixelsOf(canvas, 0, 0, width, height);
      const small = canvasOf(...size);
      small.drawImage(canvas.canvas, 0, 0, ...size);
      return pixelsOf(small, 0, 0, ...size);
    },
  };
}

/** Pixels that are there already, as a picture. */
export function asPicture(pixels) {
  const { data, width, height, channels } = pixels;
  return {
    width, height,
    region(left, top, wide, high) {
      if (wide === width && high === height) return pixels;
      const out = { data: new Uint8Array(wide * high * channels), width: wide, height: high, channels };
      for (let y = 0; y < high; y += 1) {
        const start = ((top + y) * width + left) * channels;
        out.data.set(data.subarray(start, start + wide * channels), y * wide * channels);
      }
      return out;
    },
    copy: (longest) => resize(pixels, ...shrunk(width, height, longest), AREA),
  };
}

async function decoded(blob) {
  try {
    return await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new TypeError(`${blob.name ?? "The file"} cannot be read as an image (${blob.type || "unknown type"}, ${blob.size} bytes). Try JPEG, PNG or WebP.`);
  }
}

function shrunk(width, height, longest) {
  const scale = Math.min(1, longest / Math.max(width, height));
  return [width, height].map((side) => Math.max(rint(side * scale), 1));
}

function pixelsOf(canvas, left, top, width, height) {
  return { data: canvas.getImageData(left, top, width, height).data, width, height, channels: 4 };
}
