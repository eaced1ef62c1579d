// Resizing, turning and warping with the whole-number arithmetic of OpenCV, so that a face is cut as in Python.
//
// Pixels are { data, width, height, channels }: bytes, row after row; 4 channels (RGBA) or 1 (gray).

export const AREA = "area", LINEAR = "linear", CUBIC = "cubic";

const make = (width, height, channels) => ({ data: new Uint8Array(width * height * channels), width, height, channels });

/** To the nearest whole number, halves to the even one, as Python and OpenCV round. */
export function rint(x) {
  const low = Math.floor(x);
  const rest = x - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}

/** A rectangle of them, copied. */
export function part(pixels, left, top, width, height) {
  const { data, channels } = pixels;
  const out = make(width, height, channels);
  for (let y = 0; y < height; y += 1) {
    const start = ((top + y) * pixels.width + left) * channels;
    out.data.set(data.subarray(start, start + width * channels), y * width * channels);
  }
  return out;
}

/** ITU-R 601 luma. */
export function gray({ data, width, height, channels }) {
  const out = make(width, height, 1);
  for (let place = 0, at = 0; place < out.data.length; place += 1, at += channels) {
    out.data[place] = (data[at] * 9798 + data[at + 1] * 19235 + data[at + 2] * 3735 + 16384) >> 15;
  }
  return out;
}

/** Turned so that a face is upright that leans by so many quarters clockwise. */
export function turned(pixels, quarters) {
  if (!quarters) return pixels;
  const { data, width, height, channels } = pixels;
  const out = quarters === 2 ? make(width, height, channels) : make(height, width, channels);
  for (let y = 0; y < out.height; y += 1) {
    for (let x = 0; x < out.width; x += 1) {
      const [fromX, fromY] = quarters === 1 ? [width - 1 - y, x] : quarters === 2 ? [width - 1 - x, height - 1 - y] : [y, height - 1 - x];
      for (let c = 0; c < channels; c += 1) {
        out.data[(y * out.width + x) * channels + c] = data[(fromY * width + fromX) * channels + c];
      }
    }
  }
  return out;
}

/** To another size. `AREA` averages where it shrinks; where an axis grows, use another way. */
export function resize(pixels, width, height, way) {
  if (pixels.width === width && pixels.height === height) return pixels;
  const [across, down] = [pixels.width / width, pixels.height / height];
  const halves = across === 2 && down === 2;
  if (way === AREA || (way === LINEAR && halves)) {
    const whole = Number.isInteger(across) && Number.isInteger(down);
    return whole ? averaged(pixels, width, height, across, down) : decimated(pixels, width, height);
  }
  return way === LINEAR ? interpolated(pixels, width, height) : cubic(pixels, width, height);
}

// Blocks of whole pixels.
function averaged({ data, width: stride, channels }, width, height, across, down) {
  const out = make(width, height, channels);
  const [count, row] = [across * down, stride * channels];
  const share = Math.fround(1 / count);
  let place = 0;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const start = y * down * row + x * across * channels;
      for (let c = 0; c < channels; c += 1, place += 1) {
        let sum = 0;
        for (let j = 0, line = start + c; j < down; j += 1, line += row) {
          for (let i = 0, at = line; i < across; i += 1, at += channels) sum += data[at];
        }
        out.data[place] = count === 4 ? (sum + 2) >> 2 : rint(Math.fround(sum * share));
      }
    }
  }
  return out;
}

// Which pixels of a side make each new one, and with what weight: [new, old, weight].
function shares(from, to) {
  const scale = 1 / (to / from);
  const found = [];
  for (let place = 0; place < to; place += 1) {
    const [first, last] = [place * scale, place * scale + scale];
    const cell = Math.min(scale, from - first);
    const end = Math.min(Math.floor(last), from - 1);
    const start = Math.min(Math.ceil(first), end);
    if (start - first > 1e-3) found.push([place, start - 1, Math.fround((start - first) / cell)]);
    for (let old = start; old < end; old += 1) found.push([place, old, Math.fround(1 / cell)]);
    if (last - end > 1e-3) found.push([place, end, Math.fround(Math.min(Math.min(last - end, 1), cell) / cell)]);
  }
  return found;
}

function decimated({ data, width: stride, height: lines, channels }, width, height) {
  const out = make(width, height, channels);
  const columns = shares(stride, width);
  const [row, sum] = [new Float32Array(width * channels), new Float32Array(width * channels)];
  let before = 0;
  const flush = () => {
    const start = before * width * channels;
    for (let at = 0; at < sum.length; at += 1) out.data[start + at] = rint(sum[at]);
  };
  for (const [y, line, weight] of shares(lines, height)) {
    row.fill(0);
    const start = line * stride * channels;
    for (const [x, old, share] of columns) {
      for (let c = 0; c < channels; c += 1) {
        row[x * channels + c] += Math.fround(data[start + old * channels + c] * share);
      }
    }
    if (y !== before) {
      flush();
      sum.fill(0);
      before = y;
    }
    for (let at = 0; at < sum.length; at += 1) sum[at] += Math.fround(row[at] * weight);
  }
  flush();
  return out;
}

const clamp = (value, most) => (value < 0 ? 0 : value > most ? most : value);

// The first of the pixels of a side between which each new one lies, and the weights that a kernel gives them.
function between(from, to, kernel, edges) {
  const scale = from / to;
  return Array.from({ length: to }, (_, place) => {
    const at = Math.fround((place + 0.5) * scale - 0.5);
    let first = Math.floor(at);
    let rest = Math.fround(at - first);
    if (edges && first < 0) [first, rest] = [0, 0];
    if (edges && first >= from - 1) [first, rest] = [from - 1, 0];
    return [first, kernel(rest)];
  });
}

function interpolated({ data, width: stride, height: lines, channels }, width, height) {
  const out = make(width, height, channels);
  // Whole numbers: 2048 is one.
  const kernel = (rest) => [Math.fround(1 - rest), rest].map((weight) => rint(weight * 2048));
  const columns = between(stride, width, kernel, true);
  const across = (line) => {
    const row = new Int32Array(width * channels);
    columns.forEach(([first, [a, b]], x) => {
      const [left, right] = [(line * stride + first) * channels, (line * stride + Math.min(first + 1, stride - 1)) * channels];
      for (let c = 0; c < channels; c += 1) row[x * channels + c] = data[left + c] * a + data[right + c] * b;
    });
    return row;
  };
  const made = new Map();
  between(lines, height, kernel, false).forEach(([first, [a, b]], y) => {
    const [upper, lower] = [first, first + 1].map((line) => {
      const place = clamp(line, lines - 1);
      if (!made.has(place)) made.set(place, across(place));
      return made.get(place);
    });
    for (const line of made.keys()) if (line < first) made.delete(line);
    const start = y * width * channels;
    for (let at = 0; at < upper.length; at += 1) {
      out.data[start + at] = (((a * (upper[at] >> 4)) >> 16) + ((b * (lower[at] >> 4)) >> 16) + 2) >> 2;
    }
  });
  return out;
}

function cubicKernel(x) {
  const A = -0.75;
  const outer = (t) => ((A * t - 5 * A) * t + 8 * A) * t - 4 * A;
  const inner = (t) => ((A + 2) * t - (A + 3)) * t * t + 1;
  const near = [outer(x + 1), inner(x), inner(1 - x)];
  return [...near, 1 - near[0] - near[1] - near[2]];
}

function cubic({ data, width: stride, height: lines, channels }, width, height) {
  const out = make(width, height, channels);
  const columns = between(stride, width, cubicKernel, false);
  const across = (line) => {
    const row = new Float64Array(width * channels);
    columns.forEach(([first, weights], x) => {
      weights.forEach((weight, k) => {
        const from = (line * stride + clamp(first - 1 + k, stride - 1)) * channels;
        for (let c = 0; c < channels; c += 1) row[x * channels + c] += data[from + c] * weight;
      });
    });
    return row;
  };
  const made = new Map();
  between(lines, height, cubicKernel, false).forEach(([first, weights], y) => {
    const rows = weights.map((_, k) => {
      const place = clamp(first - 1 + k, lines - 1);
      if (!made.has(place)) made.set(place, across(place));
      return made.get(place);
    });
    for (const line of made.keys()) if (line < first - 1) made.delete(line);
    const start = y * width * channels;
    for (let at = 0; at < rows[0].length; at += 1) {
      const sum = rows.reduce((total, row, k) => total + row[at] * weights[k], 0);
      out.data[start + at] = clamp(rint(sum), 255);
    }
  });
  return out;
}

/**
 * The pixels at the places that a matrix [[a, b, c], [d, e, f]] takes those of the result to; beyond the edge, the edge.
 * Places count in 1/32 pixel, as OpenCV's `warpAffine` has them.
 */
export function warp({ data, width: stride, height: lines, channels }, [[a, b, c], [d, e, f]], width, height) {
  const out = make(width, height, channels);
  const [rights, downs] = [a, d].map((step) => Int32Array.from({ length: width }, (_, x) => rint(step * x * 1024)));
  let place = 0;
  for (let y = 0; y < height; y += 1) {
    const [left, top] = [rint((b * y + c) * 1024) + 16, rint((e * y + f) * 1024) + 16];
    for (let x = 0; x < width; x += 1) {
      const [across, down] = [(left + rights[x]) >> 5, (top + downs[x]) >> 5];
      const [i, j] = [across & 31, down & 31];
      const [x1, x2] = [clamp(across >> 5, stride - 1), clamp((across >> 5) + 1, stride - 1)];
      const [y1, y2] = [clamp(down >> 5, lines - 1) * stride, clamp((down >> 5) + 1, lines - 1) * stride];
      for (let k = 0; k < channels; k += 1, place += 1) {
        const upper = data[(y1 + x1) * channels + k] * (32 - i) + data[(y1 + x2) * channels + k] * i;
        const lower = data[(y2 + x1) * channels + k] * (32 - i) + data[(y2 + x2) * channels + k] * i;
        out.data[place] = (upper * (32 - j) + lower * j + 512) >> 10;
      }
    }
  }
  return out;
}

/** RGB alone, three bytes a pixel, of pixels with four channels; gray stays as it is. */
export function withoutAlpha({ data, channels }) {
  return channels === 1 ? data : data.filter((_, place) => place % 4 !== 3);
}
