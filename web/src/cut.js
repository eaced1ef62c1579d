// Cutting faces out as a network takes them: what `ferkit.detection.crops` does. Constants are explained there.

import { AREA, gray, LINEAR, resize, rint, warp, withoutAlpha } from "./pixels.js";

const HIGH = 2.0, WIDE = 1.5, ABOVE = 0.14, CONTRADICTION = 2.0;

/**
 * The bytes of a face, height * width * channels: levelled where its landmarks agree with its box.
 *
 * picture: { width, height, region(left, top, width, height) -> pixels }. input: `face_input` of a card.
 */
export function cutFace(picture, face, input) {
  const [x1, y1, x2, y2] = face.box;
  if (x2 - x1 === picture.width && y2 - y1 === picture.height) return resizeFace(picture.region(0, 0, picture.width, picture.height), input);
  const rectangle = (input.align && levelled(face)) || unlevelled(face);
  const grow = 1 + input.margin;
  const scale = Math.max((rectangle.wide * grow) / input.width, (rectangle.high * grow) / input.height);
  return cut(picture, rectangle, scale, input);
}

function unlevelled({ box: [x1, y1, x2, y2], roll }) {
  const quarters = rint((roll ?? 0) / 90);
  const sides = quarters % 2 ? [y2 - y1, x2 - x1] : [x2 - x1, y2 - y1];
  return { x: (x1 + x2) / 2, y: (y1 + y2) / 2, wide: sides[0], high: sides[1], angle: (quarters * Math.PI) / 2 };
}

// The face's rectangle by its landmarks; null where there are none, or where they contradict the box.
function levelled({ box: [x1, y1, x2, y2], landmarks, roll }) {
  if (!landmarks) return null;
  const [rightEye, leftEye, , rightMouth, leftMouth] = landmarks;
  const middle = (a, b) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
  const [eyes, mouth] = [middle(rightEye, leftEye), middle(rightMouth, leftMouth)];
  const span = Math.hypot(leftEye[0] - rightEye[0], leftEye[1] - rightEye[1], mouth[0] - eyes[0], mouth[1] - eyes[1]);
  const angle = (roll * Math.PI) / 180;
  const size = (span * HIGH) / Math.max(x2 - x1, y2 - y1);
  if (!(1 / CONTRADICTION < size && size < CONTRADICTION)) return null;
  const [x, y] = middle(eyes, mouth);
  const found = { x: x + span * ABOVE * Math.sin(angle), y: y - span * ABOVE * Math.cos(angle), wide: span * WIDE, high: span * HIGH, angle };
  return x1 <= found.x && found.x <= x2 && y1 <= found.y && found.y <= y2 ? found : null;
}

// `scale` pixels of the picture per pixel of the cut.
function cut(picture, { x, y, angle }, scale, input) {
  // Where the picture shrinks, twice the size is cut and averaged.
  const fine = scale > 1 ? 2 : 1;
  const [wide, high] = [input.width * fine, input.height * fine];
  const [cosine, sine] = [(Math.cos(angle) * scale) / fine, (Math.sin(angle) * scale) / fine];
  const matrix = [
    [cosine, -sine, x - (cosine * wide) / 2 + (sine * high) / 2],
    [sine, cosine, y - (sine * wide) / 2 - (cosine * high) / 2],
  ];
  const { pixels, offset, shrunk } = around(picture, matrix, wide, high);
  const moved = matrix.map(([a, b, c], axis) => {
    const row = [a, b, c - offset[axis]].map((value) => value * shrunk[axis]);
    // OpenCV counts from the middle of the first pixel, we from its corner.
    row[2] += (row[0] + row[1]) / 2 - 0.5;
    return row;
  });
  const warped = warp(input.channels === 1 ? gray(pixels) : pixels, moved, wide, high);
  return withoutAlpha(resize(warped, input.width, input.height, AREA));
}

// The part of the picture that a cut needs, shrunk to its scale: pixels, where it begins, how much it shrank.
function around(picture, matrix, wide, high) {
  const corners = [[0, 0], [wide, 0], [0, high], [wide, high]].map(([u, v]) => matrix.map(([a, b, c]) => a * u + b * v + c));
  const sides = [picture.width, picture.height];
  const [first, last] = [[], []];
  for (const axis of [0, 1]) {
    const values = corners.map((corner) => corner[axis]);
    // Two pixels more on each side: cutting looks at neighbours.
    first[axis] = Math.min(Math.max(Math.floor(Math.min(...values)) - 2, 0), sides[axis] - 1);
    last[axis] = Math.min(Math.max(Math.ceil(Math.max(...values)) + 2, first[axis] + 1), sides[axis]);
  }
  const size = [last[0] - first[0], last[1] - first[1]];
  const pixels = picture.region(...first, ...size);
  const scale = Math.hypot(matrix[0][0], matrix[1][0]);
  if (scale <= 1) return { pixels, offset: first, shrunk: [1, 1] };
  const small = size.map((side) => Math.max(rint(side / scale), 1));
  return { pixels: resize(pixels, ...small, AREA), offset: first, shrunk: [small[0] / size[0], small[1] / size[1]] };
}

// A whole picture is a face that was cut before; its aspect is not kept.
function resizeFace(pixels, input) {
  const taken = input.channels === 1 ? gray(pixels) : pixels;
  const small = resize(taken, Math.min(taken.width, input.width), Math.min(taken.height, input.height), AREA);
  return withoutAlpha(resize(small, input.width, input.height, LINEAR));
}
