// Choosing a picture, drawing a square around a face, showing the answer.
import { loadModel, recognise } from "./emotions.js";

const [input, canvas, table, status] = ["input", "canvas", "table", "[role=status]"].map((part) =>
  document.querySelector(part),
);
const context = canvas.getContext("2d", { willReadFrequently: true });
let picture, start, square;

const model = await loadModel("emotions.onnx").catch((problem) => {
  status.textContent = `The model cannot be loaded: ${problem.message}. Are emotions.onnx and emotions.json here?`;
  throw problem;
});
status.textContent = "Choose a picture.";

input.addEventListener("change", async () => {
  picture = await createImageBitmap(input.files[0]); // upright, as its EXIF data say
  [canvas.width, canvas.height, canvas.hidden] = [picture.width, picture.height, false];
  draw();
  status.textContent = "Draw a square around a face.";
});

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  start = place(event);
});

canvas.addEventListener("pointermove", (event) => {
  if (!start) return;
  const end = place(event);
  const side = Math.max(Math.abs(end.x - start.x), Math.abs(end.y - start.y));
  square = { x: end.x < start.x ? start.x - side : start.x, y: end.y < start.y ? start.y - side : start.y, side };
  draw();
});

canvas.addEventListener("pointerup", async () => {
  start = undefined;
  if (!square?.side) return;
  const { x, y, side } = square;
  context.drawImage(picture, 0, 0); // without the frame
  const pixels = context.getImageData(x, y, side, side);
  draw();
  const before = performance.now();
  const answer = await recognise(model, pixels);
  status.textContent = `${Math.round(performance.now() - before)} ms`;
  show(answer);
});

/** Where the pointer is, in whole pixels of the picture. */
function place(event) {
  const scale = canvas.width / canvas.clientWidth;
  return { x: Math.round(event.offsetX * scale), y: Math.round(event.offsetY * scale) };
}

function draw() {
  context.drawImage(picture, 0, 0);
  if (!square) return;
  context.strokeStyle = "#ffb000";
  context.lineWidth = Math.max(2, canvas.width / 250);
  context.strokeRect(square.x, square.y, square.side, square.side);
}

function show(answer) {
  table.replaceChildren(
    ...answer
      .toSorted((one, other) => other[1] - one[1])
      .map(([name, probability]) => {
        const row = document.createElement("tr");
        const meter = Object.assign(document.createElement("meter"), { value: probability, title: name });
        row.dataset.emotion = name;
        row.dataset.probability = probability;
        row.append(cell(name), cell(`${(100 * probability).toFixed(1)} %`), cell(meter));
        return row;
      }),
  );
}

function cell(content) {
  const made = document.createElement("td");
  made.append(content);
  return made;
}
