// Boxes, labels and blurred faces, drawn over the local picture.

const INK = "rgb(18 19 22 / 86%)";
const FONT = 'Inter, "Segoe UI Variable Text", "Segoe UI", -apple-system, "Helvetica Neue", Arial, sans-serif';
const UNCERTAIN = "#8B8F98";
const GROWN = 0.3; // of a face, on each side, so that hair and chin are blurred too
const BLOCKS = 7;

export const colorOf = (colors, label) => colors[label] ?? UNCERTAIN;

// Where a picture lies inside a box that contains it whole: x, y, width, height.
export function contained(width, height, boxWidth, boxHeight) {
  const scale = Math.min(boxWidth / width, boxHeight / height);
  const [w, h] = [width * scale, height * scale];
  return [(boxWidth - w) / 2, (boxHeight - h) / 2, w, h];
}

// place: [x, y, width, height] of the picture on the canvas, in its pixels. unit: how large a pixel of text is.
export function drawPeople(context, people, { place, unit, mirrored, colors, nameOf }) {
  const boxes = people.map((person) => boxOn(person.shown, place, mirrored));
  people.forEach((person, index) => {
    const [x, y, w, h] = boxes[index];
    const color = colorOf(colors, person.label);
    context.globalAlpha = person.opacity;
    drawFrame(context, x, y, w, h, color, unit);
    drawRibbon(context, person.ribbon, x, y + h, w, colors, unit);
  });
  // Labels stand where they cover no face; in a crowd they are short.
  const taken = boxes.map(([x, y, w, h]) => [x, y, x + w, y + h]);
  const [crowded, narrow] = [people.length > 2, place[2] < 560 * unit];
  people.forEach((person, index) => {
    context.globalAlpha = person.opacity;
    const number = String(person.track);
    const emotion = `${person.label} ${Math.round(100 * person.confidence)}\u2009%`;
    const [what, who] = crowded && narrow ? [number, ""] : [emotion, crowded || narrow ? number : nameOf(person.track)];
    taken.push(drawLabel(context, boxes[index], place, taken, { unit, color: colorOf(colors, person.label), what, who }));
  });
  context.globalAlpha = 1;
}

// source: what is drawn, upright and not mirrored; the context shows it mirrored where `mirrored` says so.
// faces: boxes in fractions of the picture. whole: blur all of it.
export function blurFaces(context, source, faces, { place, mirrored, whole }) {
  const boxes = whole ? [place] : faces.map((box) => grown(boxOn(box, place, mirrored)));
  const [px, py, pw, ph] = place;
  const [sw, sh] = [source.videoWidth ?? source.naturalWidth, source.videoHeight ?? source.naturalHeight];
  if (!sw || !sh) return;
  for (const [x, y, w, h] of boxes) {
    const [x1, y1] = [Math.max(x, px), Math.max(y, py)];
    const [x2, y2] = [Math.min(x + w, px + pw), Math.min(y + h, py + ph)];
    if (x2 <= x1 || y2 <= y1) continue;
    const left = mirrored ? px + pw - (x2 - px) : x1;
    const small = coarse(source, [((left - px) / pw) * sw, ((y1 - py) / ph) * sh, ((x2 - x1) / pw) * sw, ((y2 - y1) / ph) * sh], whole);
    context.save();
    if (!whole) {
      context.beginPath();
      context.ellipse(x + w / 2, y + h / 2, w / 2, h / 2, 0, 0, 2 * Math.PI);
      context.clip();
    }
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    if (mirrored) {
      context.translate(x1 + x2, 0);
      context.scale(-1, 1);
    }
    context.drawImage(small, x1, y1, x2 - x1, y2 - y1);
    context.restore();
  }
}

const blocks = document.createElement("canvas");

// So few pixels that nobody can be told from them.
function coarse(source, [x, y, w, h], whole) {
  blocks.width = whole ? 3 * BLOCKS : BLOCKS;
  blocks.height = Math.max(2, Math.round((blocks.width * h) / w));
  const context = blocks.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(source, x, y, w, h, 0, 0, blocks.width, blocks.height);
  return blocks;
}

function boxOn([x1, y1, x2, y2], [px, py, pw, ph], mirrored) {
  const [left, right] = mirrored ? [1 - x2, 1 - x1] : [x1, x2];
  return [px + left * pw, py + y1 * ph, (right - left) * pw, (y2 - y1) * ph];
}

function grown([x, y, w, h]) {
  return [x - w * GROWN, y - h * GROWN, w * (1 + 2 * GROWN), h * (1 + 2 * GROWN)];
}

function drawFrame(context, x, y, w, h, color, unit) {
  const radius = Math.min(12 * unit, w / 6);
  context.beginPath();
  context.roundRect(x, y, w, h, radius);
  context.lineWidth = 5 * unit;
  context.strokeStyle = "rgb(18 19 22 / 45%)";
  context.stroke();
  context.lineWidth = 2.5 * unit;
  context.strokeStyle = color;
  context.stroke();
}

// All probabilities side by side, as wide as the face.
function drawRibbon(context, ribbon, x, y, w, colors, unit) {
  const [top, height] = [y + 9 * unit, 6 * unit];
  context.save();
  context.beginPath();
  context.roundRect(x - unit, top - unit, w + 2 * unit, height + 2 * unit, height);
  context.fillStyle = INK;
  context.fill();
  context.beginPath();
  context.roundRect(x, top, w, height, height / 2);
  context.clip();
  let left = x;
  for (const [name, p] of Object.entries(ribbon)) {
    context.fillStyle = colorOf(colors, name);
    context.fillRect(left, top, p * w + 0.5, height);
    left += p * w;
  }
  context.restore();
}

function drawLabel(context, [x, y, w, h], [px, py, pw, ph], taken, { unit, color, what, who }) {
  const size = 14 * unit;
  context.textBaseline = "middle";
  context.font = `400 ${size}px ${FONT}`;
  const whoWidth = context.measureText(who).width;
  context.font = `650 ${size}px ${FONT}`;
  const whatWidth = context.measureText(what).width;
  const [pad, dot, gap] = [11 * unit, 9 * unit, 8 * unit];
  const [width, height] = [2 * pad + dot + gap + whatWidth + (who ? gap + whoWidth : 0), 30 * unit];
  const places = [
    [x + w / 2 - width / 2, y - height - 9 * unit], [x + w / 2 - width / 2, y + h + 22 * unit],
    [x + w + 9 * unit, y], [x - width - 9 * unit, y], [x, y - height - 9 * unit], [x + w - width, y - height - 9 * unit],
    [x, y + h + 22 * unit], [x + w - width, y + h + 22 * unit],
  ].map(([left, top]) => [
    Math.max(px + 4 * unit, Math.min(left, px + pw - width - 4 * unit)),
    Math.max(py + 4 * unit, Math.min(top, py + ph - height - 4 * unit)),
  ]);
  const covered = ([left, top]) => taken.reduce((sum, [l, t, r, b]) => sum
    + Math.max(0, Math.min(r, left + width) - Math.max(l, left)) * Math.max(0, Math.min(b, top + height) - Math.max(t, top)), 0);
  const [left, top] = places.reduce((best, one) => covered(one) < covered(best) ? one : best);
  context.beginPath();
  context.roundRect(left, top, width, height, height / 2);
  context.fillStyle = INK;
  context.fill();
  const middle = top + height / 2 + unit / 2;
  context.beginPath();
  context.arc(left + pad + dot / 2, top + height / 2, dot / 2, 0, 2 * Math.PI);
  context.fillStyle = color;
  context.fill();
  context.fillStyle = "#fff";
  context.fillText(what, left + pad + dot + gap, middle);
  context.font = `400 ${size}px ${FONT}`;
  context.fillStyle = "rgb(255 255 255 / 66%)";
  context.fillText(who, left + pad + dot + 2 * gap + whatWidth, middle);
  return [left, top, left + width, top + height];
}
