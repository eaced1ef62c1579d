// The page: what its controls do, and what it says when something is missing.

import { Cards } from "./cards.js";
import { askForKey, loadModel, setSensitivity } from "./engine.js";
import { Gallery } from "./gallery.js";
import { drawFace } from "./heat.js";
import { Live } from "./live.js";
import { render } from "./markdown.js";
import { People } from "./people.js";
import { cameras, CameraProblem, isVideo } from "./sources.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { Why } from "./why.js";

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const people = new People();
const stage = new Stage(people, { frame: $("frame"), video: $("video"), picture: $("picture"), overlay: $("overlay") });
const cards = new Cards(people, { root: $("people"), hint: $("people-hint"), ghost: $("ghost-bars"), spoken: $("spoken"), onWhy: askWhy, onHeat: (canvas, heat, person) => drawFace(canvas, heat, stage.source, { box: person.box, mirrored: stage.mirrored }) });
const timeline = new Timeline(people, { root: $("timeline"), rows: $("rows"), legend: $("legend") });
const live = new Live(people, stage, { onState: showState, onUnplugged: unplugged, onAnswer: () => $("banner").hidden = true });
const why = new Why(people, stage, { onShow: (news) => cards.explain(news) });
const gallery = new Gallery($("gallery"), { onShow: showPicture });
let model = null;
let retry = () => startCamera();

// --- What is shown -------------------------------------------------------------------------------------------------

let drawnAt = 0;
stage.onFrame = (now) => {
  if (now - drawnAt < (calm.matches ? 0.5 : 0.1)) return;
  drawnAt = now;
  const still = stage.mode === "picture";
  if (!still || people.all.size) cards.show(still ? people.seenAt : now);
  if (live.running) timeline.show(now);
  const figures = live.running ? live.figures : null;
  if (figures && $("status").dataset.state === "live") {
    const stopped = $("video").paused;
    $("status-text").textContent = stopped ? "Paused" : `Live \u00b7 ${Math.round(figures.rate)} fps`;
    $("status-delay").textContent = stopped ? "" : ` \u00b7 ${Math.round(figures.ms)} ms`;
  }
  $("save-button").disabled = !stage.hasPicture;
};

function showState(state, text) {
  const words = { open: "live", connecting: "waiting", waiting: "waiting", closed: "idle" };
  $("status").dataset.state = words[state];
  $("status-delay").textContent = "";
  $("status-text").textContent = { open: "Live", connecting: "Connecting", waiting: "No connection", closed: "Ready" }[state];
  $("banner").hidden = state === "open" && text === "Live" || state === "closed" || state === "connecting";
  if (!$("banner").hidden) $("banner").textContent = text;
}

// An engine that has to load something says how far it is.
addEventListener("loading", ({ detail }) => {
  if ($("status").dataset.state === "waiting") $("status-text").textContent = detail;
});

function tell(title, text, canRetry = true) {
  $("message-title").textContent = title;
  $("message-text").textContent = text;
  $("message-retry").hidden = !canRetry;
  $("message").hidden = false;
  $("frame").dataset.message = "true";
}

function askWhy(person, method) {
  if (!person || method === null) return void why.close();
  const { file, result } = gallery.current ?? {};
  why.ask(person, method, { file, size: result && [result.width, result.height] });
}

function startAfresh() {
  why.clear();
  live.stop();
  gallery.clear();
  people.clear();
  cards.clear();
  timeline.clear();
  stage.show("none");
  $("message").hidden = true;
  $("frame").dataset.message = "false";
  $("banner").hidden = true;
  $("empty").hidden = true;
  $("camera-button").setAttribute("aria-pressed", "false");
  $("devices").hidden = true;
}

// --- Camera --------------------------------------------------------------------------------------------------------

async function startCamera(deviceId) {
  retry = () => startCamera(deviceId);
  startAfresh();
  try {
    const used = await live.startCamera(deviceId);
    $("camera-button").setAttribute("aria-pressed", "true");
    await listCameras(used);
  } catch (problem) {
    if (problem.name === "AbortError") return; // another source was taken meanwhile
    if (problem instanceof CameraProblem) tell(problem.title, problem.message, problem.canRetry);
    else tell("The camera does not start", problem.message);
  }
}

async function listCameras(used) {
  const found = await cameras();
  $("devices").replaceChildren(...found.map((one, place) => new Option(one.label || `Camera ${place + 1}`, one.deviceId)));
  $("devices").value = used;
  $("devices").hidden = found.length < 2;
}

function stopCamera() {
  startAfresh();
  $("empty").hidden = false;
}

function unplugged() {
  startAfresh();
  retry = () => startCamera();
  tell("The camera was unplugged", "Plug it in again and try once more, or choose pictures or a video.");
}

// --- Files ---------------------------------------------------------------------------------------------------------

async function take(files) {
  const chosen = [...files];
  const videos = chosen.filter(isVideo);
  const pictures = chosen.filter((file) => !isVideo(file) && (file.type.startsWith("image/") || !file.type));
  if (!videos.length && !pictures.length) {
    if (chosen.length) startAfresh(), tell("That file is not an image or video", `${chosen[0].name || "It"} cannot be shown. Choose another file.`, false);
    return;
  }
  startAfresh();
  if (pictures.length) {
    await gallery.add(pictures);
    return;
  }
  retry = () => take([videos[0]]);
  try {
    await live.startVideo(videos[0]);
  } catch (problem) {
    if (problem.name === "AbortError") return;
    startAfresh();
    tell("This browser cannot play that video", `${videos[0].name}: try MP4 (H.264) or WebM. \`ferkit video\` reads the others.`, false);
  }
}

function showPicture(entry) {
  $("picture").src = entry.url;
  $("picture").alt = entry.file.name;
  stage.show("picture");
  why.clear();
  people.clear();
  cards.clear();
  $("message").hidden = true;
  $("frame").dataset.message = "false";
  $("status-delay").textContent = "";
  $("status").dataset.state = entry.result ? "live" : entry.problem ? "broken" : "waiting";
  $("status-text").textContent = entry.result ? counted(entry.result.faces.length) : entry.problem ? "Not read" : "Looking";
  $("banner").hidden = !entry.problem && !(entry.result && !entry.result.faces.length);
  $("banner").textContent = entry.problem ?? "No face found in this image.";
  if (entry.result) people.take(entry.result, performance.now() / 1000, true);
}

const counted = (count) => count === 1 ? "1 face" : `${count} faces`;

$("picture").addEventListener("load", () => stage.show(stage.mode));
$("picture").addEventListener("error", () => tell("This browser cannot show that image", "Try JPEG, PNG or WebP.", false));

// --- Controls ------------------------------------------------------------------------------------------------------

function setBlur(on) {
  stage.blurred = on;
  stage.paintedAt = 0;
  $("gallery").dataset.blurred = $("people").dataset.blurred = String(on);
  $("blur-button").setAttribute("aria-pressed", String(on));
}

async function save() {
  if (!stage.hasPicture) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await stage.snapshot());
  link.download = `ferkit-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function showCard() {
  $("card").showModal();
}

let settling = 0;

function changeSensitivity() {
  setSensitivity($("sensitivity").value);
  clearTimeout(settling);
  settling = setTimeout(() => {
    live.stream.reopen();
    gallery.again();
  }, 250); // while it is dragged
}

const toggleCamera = () => $("camera-button").getAttribute("aria-pressed") === "true" ? stopCamera() : startCamera();
const choose = () => $("files").click();
const actions = { c: toggleCamera, o: choose, b: () => setBlur(!stage.blurred), s: save, m: showCard };

$("start-button").addEventListener("click", () => startCamera());
$("camera-button").addEventListener("click", toggleCamera);
$("devices").addEventListener("change", () => startCamera($("devices").value));
for (const id of ["choose-button", "open-button", "message-choose"]) $(id).addEventListener("click", choose);
$("message-retry").addEventListener("click", () => retry());
$("files").addEventListener("change", () => {
  take($("files").files);
  $("files").value = ""; // the same file may be chosen again
});
$("blur-button").addEventListener("click", actions.b);
$("save-button").addEventListener("click", save);
$("sensitivity").addEventListener("input", changeSensitivity);
$("card-button").addEventListener("click", showCard);
$("card-close").addEventListener("click", () => $("card").close());
$("card").addEventListener("click", (event) => event.target === $("card") && $("card").close());

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  actions[event.key.toLowerCase()]?.();
});
document.addEventListener("paste", (event) => event.clipboardData.files.length && take(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("is-dropping");
});
document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("is-dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("is-dropping");
  take(event.dataTransfer.files);
});
addEventListener("pagehide", () => live.stop());

// --- The model -----------------------------------------------------------------------------------------------------

async function useModel() {
  try {
    model = await loadModel();
  } catch (problem) {
    if (problem.status === 401) return void askForKey().then(useModel);
    $("status").dataset.state = "broken";
    $("status-text").textContent = "No server";
    $("card-body").textContent = problem.message;
    setTimeout(useModel, 3000);
    return;
  }
  stage.colors = model.colors;
  cards.useModel(model);
  timeline.useModel(model);
  $("sensitivity-control").hidden = model.sensitivity === null;
  $("sensitivity").value = model.sensitivity ?? 0;
  $("card-body").replaceChildren(render(model.markdown));
  if ($("status-text").textContent === "No server") showState("closed", "");
}

setBlur(location.hash.includes("blur"));
document.documentElement.dataset.ready = "true";
useModel();
