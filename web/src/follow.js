// The faces of a stream, frame after frame: who is who, and emotions smoothed over time, as in `ferkit.video`. There faces
// are followed by optical flow; here every frame is searched, in a copy that is as small as the faces allow.

import { inside, overlap } from "./geometry.js";
import { emotionOf } from "./recognizer.js";

const TIME_CONSTANT_S = 0.3, MAX_GAP_S = 1.0;
// A whole search, which also finds small faces, so often, and when a face is missed.
const SEARCH_S = 0.4, SOONEST_S = 0.15;
const SEARCHED = 640, GLANCED = 320;
const EASILY_SEEN = 40; // pixels that the smallest face has in a copy that shows it

/** Of each track, the exponential moving average of its probabilities. Weights depend on time, not on frames. */
export class Smoother {
  #means = new Map();

  constructor(timeConstantS = TIME_CONSTANT_S) {
    this.timeConstantS = timeConstantS;
  }

  update(track, timeS, probabilities) {
    const before = this.#means.get(track);
    if (!before || this.timeConstantS === 0) {
      this.#means.set(track, { timeS, mean: probabilities });
      return probabilities;
    }
    const weight = -Math.expm1(-Math.max(timeS - before.timeS, 0) / this.timeConstantS);
    const mean = before.mean.map((p, place) => p + weight * (probabilities[place] - p));
    this.#means.set(track, { timeS: Math.max(before.timeS, timeS), mean });
    return mean;
  }

  /** Forget all but these. */
  keep(tracks) {
    for (const track of this.#means.keys()) if (!tracks.has(track)) this.#means.delete(track);
  }
}

const LEAST_OVERLAP = 0.2, REACH = 1.2, LARGEST_CHANGE = 1.8, COASTING_S = 0.25, LONGEST_PAUSE_S = 10, VELOCITY_S = 0.1;

/** Gives boxes track numbers: 1, 2, 3, ... in order of appearance, never used twice. */
export class FaceTracker {
  #tracks = new Map();
  #last = 0;

  constructor(maxGapS = MAX_GAP_S) {
    this.maxGapS = maxGapS;
  }

  get living() {
    return new Set(this.#tracks.keys());
  }

  /** The track of each box, in order. */
  update(boxes, timeS) {
    this.#end(timeS);
    const found = this.#matches(boxes, timeS);
    const matched = new Set(found.values());
    for (const [number, track] of this.#tracks) if (!matched.has(number)) track.missed = true;
    return boxes.map((box, place) => {
      const number = found.get(place) ?? ++this.#last;
      if (found.has(place)) move(this.#tracks.get(number), box, timeS);
      else this.#tracks.set(number, { middle: middleOf(box), size: sizeOf(box), velocity: [0, 0], seen: timeS, missed: false });
      return number;
    });
  }

  /** Where each living track should be, in a frame of that size. */
  predict(timeS, width, height) {
    this.#end(timeS);
    const boxes = new Map();
    for (const [number, track] of this.#tracks) {
      const box = inside(around(expected(track, timeS), track.size), width, height);
      if (box) boxes.set(number, box);
    }
    return boxes;
  }

  #end(timeS) {
    const pause = Math.max(this.maxGapS, LONGEST_PAUSE_S);
    for (const [number, track] of this.#tracks) {
      if (timeS - track.seen > (track.missed ? this.maxGapS : pause)) this.#tracks.delete(number);
    }
  }

  // Place of a box -> its track, best pairs first.
  #matches(boxes, timeS) {
    const pairs = [];
    for (const [number, track] of this.#tracks) {
      boxes.forEach((box, place) => pairs.push({ number, place, score: likeness(expected(track, timeS), track.size, box) }));
    }
    const [found, taken] = [new Map(), new Set()];
    for (const { number, place, score } of pairs.sort((a, b) => b.score - a.score)) {
      if (score === -Infinity) break;
      if (found.has(place) || taken.has(number)) continue;
      found.set(place, number);
      taken.add(number);
    }
    return found;
  }
}

const middleOf = ([x1, y1, x2, y2]) => [(x1 + x2) / 2, (y1 + y2) / 2];
const sizeOf = ([x1, y1, x2, y2]) => [x2 - x1, y2 - y1];
const around = ([x, y], [width, height]) => [x - width / 2, y - height / 2, x + width / 2, y + height / 2];

// People do not move straight on for long: the velocity fades.
function expected({ middle, velocity, seen }, timeS) {
  const ahead = COASTING_S * -Math.expm1(-Math.max(timeS - seen, 0) / COASTING_S);
  return middle.map((at, axis) => at + velocity[axis] * ahead);
}

function move(track, box, timeS) {
  const middle = middleOf(box);
  const passed = timeS - track.seen;
  if (passed > 0) {
    const weight = -Math.expm1(-passed / VELOCITY_S);
    track.velocity = track.velocity.map((speed, axis) => speed + weight * ((middle[axis] - track.middle[axis]) / passed - speed));
  }
  Object.assign(track, { middle, size: sizeOf(box), seen: Math.max(timeS, track.seen), missed: false });
}

// Their overlap, where there is enough; else minus their distance in sides, where it is small; else -Infinity.
function likeness(middle, size, box) {
  const shared = overlap(around(middle, size), box);
  if (shared >= LEAST_OVERLAP) return shared;
  const [x, y] = middleOf(box);
  const [side, other] = [(size[0] + size[1]) / 2, (box[2] - box[0] + box[3] - box[1]) / 2];
  const distance = Math.hypot(middle[0] - x, middle[1] - y) / ((side + other) / 2);
  return distance <= REACH && Math.max(side / other, other / side) <= LARGEST_CHANGE ? -distance : -Infinity;
}

/** recognizer: of `createRecognizer`. settings: { timeConstantS, maxGapS }. */
export function createFollower(recognizer, { timeConstantS, maxGapS } = {}) {
  const { find, probabilities, classes } = recognizer;
  let tracker, smoother, searchedAt, known;

  function reset() {
    [tracker, smoother] = [new FaceTracker(maxGapS), new Smoother(timeConstantS)];
    [searchedAt, known] = [-Infinity, []];
  }
  reset();

  async function searched(picture, timeS) {
    searchedAt = timeS;
    const pixels = picture.copy(SEARCHED);
    return enlarged(await find.detect(pixels), pixels, picture);
  }

  // A copy in which the smallest known face is seen well.
  async function glanced(picture) {
    const smallest = Math.min(...known.map(({ box }) => Math.min(...sizeOf(box))));
    const wanted = (EASILY_SEEN / smallest) * Math.max(picture.width, picture.height);
    const pixels = picture.copy(wanted > GLANCED ? SEARCHED : GLANCED);
    return enlarged(await find.glance(pixels), pixels, picture);
  }

  async function faces(picture, timeS) {
    const since = timeS - searchedAt;
    if (!known.length || !(since >= 0 && since < SEARCH_S)) return searched(picture, timeS);
    const found = await glanced(picture);
    return found.length < known.length && since > SOONEST_S ? searched(picture, timeS) : found;
  }

  return {
    /** picture: of `readPicture`. timeS: seconds since any moment; it should rise. */
    async next(picture, timeS, { sensitivity, minConfidence } = {}) {
      known = await faces(picture, timeS);
      const tracks = tracker.update(known.map(({ box }) => box), timeS);
      smoother.keep(tracker.living);
      const rows = await probabilities(picture, known, sensitivity ?? recognizer.sensitivity);
      const { width, height } = picture;
      const here = new Set(tracks);
      return {
        width,
        height,
        faces: known.map((face, place) => {
          const smooth = smoother.update(tracks[place], timeS, rows[place]);
          return { ...face, ...emotionOf(classes, smooth, minConfidence), track: tracks[place], raw: emotionOf(classes, rows[place]).probabilities };
        }),
        // Where people must be who were missed for a moment: what blurring must not uncover.
        hidden: [...tracker.predict(timeS, width, height)].filter(([track]) => !here.has(track)).map(([, box]) => box),
      };
    },
    reset,
  };
}

// Faces of a copy as faces of the picture.
function enlarged(faces, copy, picture) {
  const [across, down] = [picture.width / copy.width, picture.height / copy.height];
  if (across === 1 && down === 1) return faces;
  return faces.flatMap((face) => {
    const [x1, y1, x2, y2] = face.box;
    const box = inside([x1 * across, y1 * down, x2 * across, y2 * down], picture.width, picture.height);
    return box ? [{ ...face, box, landmarks: face.landmarks.map(([x, y]) => [x * across, y * down]) }] : [];
  });
}
