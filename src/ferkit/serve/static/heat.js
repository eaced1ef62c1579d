// A heatmap, drawn over its face.

const FADED = 0.85; // how gray a face becomes under it, so that skin is not taken for a colour that means something

const ROOM = 1.35; // how much of the picture a face from near shows, in its own height

// heat: a face as /v1/explain answers, with the size of its picture and the colours. plain: whether the face below may be
// drawn again, in gray.
export function drawHeat(context, heat, source, { place, mirrored, plain }) {
  heat.canvas ??= colored(heat);
  const [px, py, pw] = place;
  const scale = pw / heat.size[0];
  const [[a, c, e], [b, d, f]] = heat.to_picture;
  const { width, height } = heat.canvas;
  context.save();
  context.translate(mirrored ? px + pw : px, py);
  context.scale(mirrored ? -scale : scale, scale);
  context.imageSmoothingQuality = "high";
  if (plain) {
    const oval = new Path2D();
    oval.addPath(ellipse(width / 2, height / 2), new DOMMatrix([a, b, c, d, e, f]));
    context.save();
    context.clip(oval);
    context.globalAlpha = FADED;
    context.drawImage(source, 0, 0, ...heat.size);
    context.globalCompositeOperation = "saturation";
    context.globalAlpha = 1;
    context.fillStyle = "#808080";
    context.fill(oval);
    context.restore();
  }
  context.transform(a, b, c, d, e, f);
  context.drawImage(heat.canvas, 0, 0);
  context.restore();
}

function ellipse(x, y) {
  const path = new Path2D();
  path.ellipse(x, y, x, y, 0, 0, 2 * Math.PI);
  return path;
}

// A face from near, with its heatmap. box: of the face, in fractions of the picture. canvas: takes its size from its style.
export function drawFace(canvas, heat, source, { box: [x1, y1, x2, y2], mirrored }) {
  const unit = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(canvas.clientWidth * unit), Math.round(canvas.clientHeight * unit)];
  const scale = canvas.height / ((y2 - y1) * heat.size[1] * ROOM);
  const [width, height] = [heat.size[0] * scale, heat.size[1] * scale];
  const middle = mirrored ? 1 - (x1 + x2) / 2 : (x1 + x2) / 2;
  const place = [canvas.width / 2 - middle * width, canvas.height / 2 - ((y1 + y2) / 2) * height, width, height];
  const context = canvas.getContext("2d");
  context.save();
  context.imageSmoothingQuality = "high";
  context.translate(mirrored ? place[0] + width : place[0], place[1]);
  context.scale(mirrored ? -1 : 1, 1);
  context.drawImage(source, 0, 0, width, height);
  context.restore();
  drawHeat(context, heat, source, { place, mirrored, plain: true });
}

function colored({ heatmap, ramp, strength }) {
  const canvas = Object.assign(document.createElement("canvas"), { width: heatmap[0].length, height: heatmap.length });
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const colors = ramp.map((color) => [1, 3, 5, 7].map((at) => parseInt(color.slice(at, at + 2), 16)));
  heatmap.flat().forEach((value, place) => {
    const at = value * (colors.length - 1);
    const [low, high] = [colors[Math.floor(at)], colors[Math.ceil(at)]];
    const mixed = low.map((channel, index) => channel + (high[index] - channel) * (at % 1));
    mixed[3] *= strength;
    image.data.set(mixed, 4 * place);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}
