// YuNet: what `ferkit.detection` does with it, view by view. Constants are explained there.

import { dropOverlaps, inside, overlap, rollOf } from "./geometry.js";
import { AREA, CUBIC, LINEAR, part, resize, rint, turned } from "./pixels.js";

const STRIDES = [8, 16, 32];
const MIN_SCORE = 0.8, SURE_SCORE = 0.92, CLEARLY = 0.02, FACE = 80, LEAST = 0.5;
const HINT = 0.05, LIKELY = 0.3, SMALL = 64, REFINED = 40;
const FULL = 1280, FINEST = 0.7, MOST_PIXELS = 12_000_000, PART = 1600, SMALLEST_FACE = 28, MOST_ENLARGED = 4;
const COPY = 320, FIRST_STEP = 1.9, STEP = 4, MARGIN = 1.25, LEAST_PLACE = 128, WHOLE = 0.5;

/** network: an ONNX Runtime session of YuNet. Tensor: the class of its inputs. */
export function createDetector(network, Tensor) {
  const find = (pixels, least) => findFaces(network, Tensor, pixels, least);

  // What is found in views, in pixels of the picture: { points, score }, the points being two corners and five landmarks.
  async function search(some, least) {
    const rows = [];
    for (const view of some) {
      for (const row of await find(view.pixels, least)) {
        if (!cuts(view, row)) rows.push({ points: inPicture(view, row.points), score: row.score });
      }
    }
    return rows;
  }

  // All views of a picture; in the largest copy, only where the next one hints at small faces.
  async function lookedThrough(image) {
    const [largest, hinted, ...rest] = copies(image);
    if (!hinted) return search([largest], MIN_SCORE);
    const rows = await search(parts(hinted, rest[0]), HINT);
    const found = rows.filter(({ score }) => score >= MIN_SCORE);
    const wanted = rows.filter(({ points: [[, y1], [, y2]], score }) => {
      const height = (y2 - y1) * hinted.scale[1];
      return score >= MIN_SCORE ? height < REFINED : score >= LIKELY || height < SMALL;
    });
    found.push(...await search(places(largest, hinted, wanted), MIN_SCORE));
    for (const [place, copy] of rest.entries()) found.push(...await search(parts(copy, rest[place + 1]), MIN_SCORE));
    return found;
  }

  function asFaces(rows, { width, height }) {
    return rows.flatMap(({ points, score }) => {
      const [[x1, y1], [x2, y2]] = points;
      const box = inside([x1, y1, x2, y2], width, height);
      // On strips of a picture the network places faces that lie beside it.
      const good = box && (box[2] - box[0]) * (box[3] - box[1]) > 0.5 * (x2 - x1) * (y2 - y1);
      return good ? [asFace(box, score, points.slice(2))] : [];
    });
  }

  // The face as it stands: those on their head or a side are taken for upright ones, but score lower.
  async function standing(face, image) {
    if (face.detection_score >= SURE_SCORE) return face;
    const view = around(face, image);
    const rows = [];
    for (let quarters = 0; quarters < 4; quarters += 1) {
      const pixels = turned(view.pixels, quarters);
      const [x, y] = [pixels.width / 2, pixels.height / 2];
      const found = await find(pixels, LEAST);
      rows.push(found.find(({ points: [[x1, y1], [x2, y2]] }) => x1 < x && x < x2 && y1 < y && y < y2) ?? { score: 0 });
    }
    const best = rows.reduce((most, row, quarters) => (row.score > rows[most].score ? quarters : most), 0);
    if (rows[best].score < MIN_SCORE) return null;
    if (rows[best].score < rows[0].score + CLEARLY) return face;
    const { width, height } = view.pixels;
    const back = { 0: (x, y) => [x, y], 1: (x, y) => [width - y, x], 2: (x, y) => [width - x, height - y], 3: (x, y) => [y, height - x] }[best];
    const points = inPicture(view, rows[best].points.map(([x, y]) => back(x, y)));
    const [xs, ys] = [0, 1].map((axis) => [points[0][axis], points[1][axis]]);
    const box = inside([Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)], image.width, image.height);
    return box ? asFace(box, rows[best].score, points.slice(2)) : face;
  }

  return {
    /** All faces of pixels, of any size, as Python finds them; from left to right. */
    async detect(image) {
      const found = [];
      for (const face of dropOverlaps(asFaces(await lookedThrough(image), image))) {
        const one = await standing(face, image);
        if (one) found.push(one);
      }
      return leftToRight(found);
    },

    /** Faces in pixels as they are, for one frame of many: a small copy shows all but small faces. */
    async glance(image) {
      const whole = { pixels: image, scale: [1, 1], offset: [0, 0], size: [image.width, image.height] };
      return leftToRight(dropOverlaps(asFaces(await search([whole], MIN_SCORE), image)));
    },
  };
}

/** The same network for pictures of any size: the published file declares 640x640, though nothing in it needs that. */
export function anySize(weights) {
  const side = [10, 3, 8, 128, 5]; // a dimension of the value 640
  const fixed = [...side, ...side];
  const place = weights.findIndex((_, at) => fixed.every((byte, k) => weights[at + k] === byte));
  if (place < 0) return weights;
  const free = weights.slice();
  free.set([10, 3, 18, 1, 104, 10, 3, 18, 1, 119], place); // of the names "h" and "w", which take as many bytes
  return free;
}

const leftToRight = (faces) => faces.sort((a, b) => a.box[0] - b.box[0] || a.box[1] - b.box[1]);

const asFace = (box, score, landmarks) => ({ box, detection_score: score, landmarks, roll: rollOf(landmarks) });

async function findFaces(network, Tensor, pixels, least) {
  const [width, height] = [pixels.width + ((32 - (pixels.width % 32)) % 32), pixels.height + ((32 - (pixels.height % 32)) % 32)];
  const outputs = await network.run({ input: new Tensor("float32", blueFirst(pixels, width, height), [1, 3, height, width]) });
  const rows = STRIDES.flatMap((stride) => decoded(outputs, stride, width / stride, least));
  for (const output of Object.values(outputs)) output.dispose?.();
  const kept = [];
  for (const row of rows.sort((a, b) => b.score - a.score)) {
    const corners = row.points.slice(0, 2).flat();
    if (kept.every((better) => overlap(better.points.slice(0, 2).flat(), corners) <= 0.3)) kept.push(row);
  }
  return kept;
}

// Channel by channel, the right and lower edge repeated.
function blueFirst({ data, width: stride, height: lines, channels }, width, height) {
  const size = width * height;
  const out = new Float32Array(3 * size);
  let place = 0;
  for (let y = 0; y < height; y += 1) {
    const row = Math.min(y, lines - 1) * stride;
    for (let x = 0; x < width; x += 1, place += 1) {
      const at = (row + (x < stride ? x : stride - 1)) * channels;
      out[place] = data[at + 2];
      out[size + place] = data[at + 1];
      out[2 * size + place] = data[at];
    }
  }
  return out;
}

// The answers of one resolution that reach the score, as in OpenCV's `FaceDetectorYN`: corners and landmarks, then the score.
function decoded(outputs, stride, columns, least) {
  const [classes, objects, boxes, points] = ["cls", "obj", "bbox", "kps"].map((kind) => outputs[`${kind}_${stride}`].data);
  const unit = (value) => Math.min(Math.max(value, 0), 1);
  const rows = [];
  for (let place = 0; place < classes.length; place += 1) {
    const score = Math.sqrt(unit(classes[place]) * unit(objects[place]));
    if (!(score >= least)) continue; // NaN must not pass
    const [column, line] = [place % columns, Math.floor(place / columns)];
    const [x, y, w, h] = boxes.subarray(4 * place, 4 * place + 4);
    const [halfWidth, halfHeight] = [Math.exp(w) / 2, Math.exp(h) / 2];
    const found = [[column + x - halfWidth, line + y - halfHeight], [column + x + halfWidth, line + y + halfHeight]];
    for (let k = 0; k < 5; k += 1) found.push([column + points[10 * place + 2 * k], line + points[10 * place + 2 * k + 1]]);
    if (found.flat().every(Number.isFinite)) rows.push({ points: found.map(([a, b]) => [a * stride, b * stride]), score });
  }
  return rows;
}

function inPicture({ offset, scale }, points) {
  return points.map(([x, y]) => [(x + offset[0]) / scale[0], (y + offset[1]) / scale[1]]);
}

// Whether a face reaches the edge of a view where the picture goes on: another view has more of it.
function cuts({ pixels, offset: [left, top], size: [across, down] }, { points: [[x1, y1], [x2, y2]] }) {
  return (left > 0 && x1 < 2) || (top > 0 && y1 < 2)
    || (left + pixels.width < across && x2 > pixels.width - 2) || (top + pixels.height < down && y2 > pixels.height - 2);
}

// The whole picture at the sizes that together show its faces of all sizes, largest first.
function copies(image) {
  const found = [resized(image, image, factor(image.width, image.height))];
  for (let step = FIRST_STEP; ; step = STEP) {
    const view = found.at(-1);
    const longest = Math.max(...view.size);
    if (longest <= COPY * 1.2) return found;
    found.push(resized(view.pixels, image, Math.max(longest / step, COPY) / longest));
  }
}

function factor(width, height) {
  const longest = Math.max(width, height);
  if (longest <= FULL) return Math.min(Math.max(COPY / longest, 1), MOST_ENLARGED);
  // A strip counts as 32 pixels wide: so wide are its parts when the network sees them.
  return Math.min(Math.max(FULL / longest, FINEST), Math.sqrt(MOST_PIXELS / (width * height)), MOST_PIXELS / (32 * longest));
}

// `pixels`, which show the whole of `image`, times `times`.
function resized(pixels, image, times) {
  const size = [pixels.width, pixels.height].map((side) => Math.max(rint(side * times), 1));
  const way = times < 0.5 ? AREA : times < 1 ? LINEAR : CUBIC;
  return { pixels: resize(pixels, ...size, way), scale: [size[0] / image.width, size[1] / image.height], offset: [0, 0], size };
}

function partOf({ pixels, scale, size }, [left, top, right, bottom]) {
  return { pixels: part(pixels, left, top, right - left, bottom - top), scale, offset: [left, top], size };
}

// A copy, in parts where it is large: what is too small in the next smaller one lies wholly within one of them.
function parts(view, smaller) {
  const [width, height] = view.size;
  if (!smaller || Math.max(width, height) <= PART) return [view];
  const shared = Math.ceil((Math.max(width, height) / Math.max(...smaller.size)) * SMALLEST_FACE);
  return stretches(height, shared).flatMap(([top, bottom]) => stretches(width, shared).map(([left, right]) => partOf(view, [left, top, right, bottom])));
}

// Parts of a copy around rows; all its parts where those are much of it.
function places(view, smaller, rows) {
  const { size, scale } = view;
  const around = rows.map(({ points: [one, other] }) => {
    const sides = [0, 1].map((axis) => Math.abs(other[axis] - one[axis]) * scale[axis]);
    const half = Math.max(Math.max(...sides) * MARGIN, LEAST_PLACE / 2);
    const middle = [0, 1].map((axis) => ((one[axis] + other[axis]) / 2) * scale[axis]);
    const within = (at, axis) => Math.min(Math.max(at, 0), size[axis]);
    return [...middle.map((at, axis) => within(Math.floor(at - half), axis)), ...middle.map((at, axis) => within(Math.ceil(at + half), axis))];
  });
  const apart = united(around);
  const area = apart.reduce((sum, [left, top, right, bottom]) => sum + (right - left) * (bottom - top), 0);
  return area > WHOLE * size[0] * size[1] ? parts(view, smaller) : apart.map((place) => partOf(view, place));
}

// Boxes, those that overlap united into one around both, until none do.
function united(boxes) {
  let apart = [];
  for (let box of boxes) {
    for (;;) {
      const met = apart.filter((one) => one[0] < box[2] && box[0] < one[2] && one[1] < box[3] && box[1] < one[3]);
      if (!met.length) break;
      apart = apart.filter((one) => !met.includes(one));
      const all = [box, ...met];
      box = [0, 1, 2, 3].map((edge) => (edge < 2 ? Math.min : Math.max)(...all.map((one) => one[edge])));
    }
    apart.push(box);
  }
  return apart;
}

// A side as stretches of nearly equal length, each of which overlaps the next.
function stretches(length, overlapped) {
  const count = length <= PART ? 1 : Math.ceil((length - overlapped) / (PART - overlapped));
  const long = Math.ceil((length + (count - 1) * overlapped) / count);
  return Array.from({ length: count }, (_, number) => {
    const start = Math.min(number * (long - overlapped), length - long);
    return [start, start + long];
  });
}

// A face with as much around it, where it is of a size that the network finds best.
function around(face, image) {
  const [x1, y1, x2, y2] = face.box;
  const [x, y, half] = [(x1 + x2) / 2, (y1 + y2) / 2, Math.max(x2 - x1, y2 - y1)];
  const box = inside([x - half, y - half, x + half, y + half], image.width, image.height) ?? face.box;
  const sides = [box[2] - box[0], box[3] - box[1]];
  const times = FACE / half;
  const size = sides.map((side) => Math.max(rint(side * times), 1));
  const pixels = resize(part(image, box[0], box[1], ...sides), ...size, times < 1 ? AREA : LINEAR);
  const scale = [size[0] / sides[0], size[1] / sides[1]];
  return { pixels, scale, offset: [rint(box[0] * scale[0]), rint(box[1] * scale[1])], size };
}
