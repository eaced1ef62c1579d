// Boxes, points and angles, as `ferkit.results` has them.

import { rint } from "./pixels.js";

/** The part of x1, y1, x2, y2 that lies in a picture, on whole pixels; null where nothing does. */
export function inside(corners, width, height) {
  const [x1, y1, x2, y2] = corners.map(rint);
  const box = [Math.max(x1, 0), Math.max(y1, 0), Math.min(x2, width), Math.min(y2, height)];
  return box[0] < box[2] && box[1] < box[3] ? box : null;
}

/** Intersection over union of two boxes, 0 to 1. */
export function overlap(one, other) {
  const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
  const across = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const down = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  const shared = Math.max(across, 0) * Math.max(down, 0);
  return shared / (area(one) + area(other) - shared);
}

/** Of those whose boxes overlap by more than `limit`, the best scored; best first. */
export function dropOverlaps(faces, limit = 0.3) {
  const kept = [];
  for (const face of [...faces].sort((a, b) => b.detection_score - a.detection_score)) {
    if (kept.every((better) => overlap(better.box, face.box) <= limit)) kept.push(face);
  }
  return kept;
}

/** Degrees by which the line of the eyes leans, with the mouth below it, whichever eye comes first. */
export function rollOf([rightEye, leftEye, , rightMouth, leftMouth]) {
  const [across, down] = [leftEye[0] - rightEye[0], leftEye[1] - rightEye[1]];
  const [x, y] = [0, 1].map((axis) => rightMouth[axis] + leftMouth[axis] - rightEye[axis] - leftEye[axis]);
  const degrees = (Math.atan2(down, across) * 180) / Math.PI + (across * y - down * x < 0 ? 180 : 0);
  return 180 - ((((180 - degrees) % 360) + 360) % 360);
}
