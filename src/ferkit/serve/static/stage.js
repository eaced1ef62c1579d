// The picture with what is drawn over it: one place for the camera, videos and pictures.

import { drawHeat } from "./heat.js";
import { blurFaces, contained, drawPeople } from "./overlay.js";

// With faces to be blurred and no news of where they are, everything is.
const BLIND_S = 1;

export class Stage {
  constructor(people, { frame, video, picture, overlay }) {
    Object.assign(this, { people, frame, video, picture, overlay });
    this.colors = {};
    this.mirrored = false;
    this.blurred = false;
    this.heat = null;
    this.mode = "none";
    this.before = performance.now();
    this.paintedAt = 0;
    new ResizeObserver(() => this.#fit()).observe(frame);
    video.addEventListener("resize", () => this.#fit());
    requestAnimationFrame((now) => this.#paint(now));
    this.onFrame = () => {};
  }

  // mode: "none", "camera", "video" or "picture".
  show(mode, { mirrored = false } = {}) {
    this.mode = mode;
    this.mirrored = mirrored;
    this.frame.dataset.mode = mode;
    this.video.hidden = mode !== "camera" && mode !== "video";
    this.picture.hidden = mode !== "picture";
    this.video.controls = mode === "video";
    this.video.classList.toggle("mirrored", mirrored);
    this.#fit();
  }

  get source() {
    return this.mode === "picture" ? this.picture : this.video;
  }

  get size() {
    const source = this.source;
    return [source.videoWidth ?? source.naturalWidth, source.videoHeight ?? source.naturalHeight];
  }

  get hasPicture() {
    return this.mode !== "none" && this.size[0] > 0;
  }

  #fit() {
    const [width, height] = this.mode === "none" ? [0, 0] : this.size;
    if (width) this.frame.style.setProperty("--ratio", `${width} / ${height}`);
    else this.frame.style.removeProperty("--ratio");
    const scale = window.devicePixelRatio || 1;
    this.overlay.width = Math.round(this.frame.clientWidth * scale);
    this.overlay.height = Math.round(this.frame.clientHeight * scale);
    this.paintedAt = 0;
  }

  #paint(now) {
    const seconds = Math.min((now - this.before) / 1000, 0.25);
    this.before = now;
    const moves = this.people.glide(now / 1000, seconds);
    // What stands still is drawn twice a second, for names and sizes may have changed.
    if (moves || this.blurred || now - this.paintedAt > 500) {
      this.paintedAt = now;
      const context = this.overlay.getContext("2d");
      context.clearRect(0, 0, this.overlay.width, this.overlay.height);
      if (this.hasPicture) {
        const place = contained(...this.size, this.overlay.width, this.overlay.height);
        this.#draw(context, place, window.devicePixelRatio || 1, now / 1000);
      }
    }
    this.onFrame(now / 1000);
    requestAnimationFrame((next) => this.#paint(next));
  }

  #draw(context, place, unit, now) {
    const people = this.people.inView;
    if (this.blurred) {
      const whole = !this.people.seenAt || (this.mode !== "picture" && !this.video.paused && now - this.people.seenAt > BLIND_S);
      const boxes = [...people.map((person) => person.shown), ...this.people.hidden];
      blurFaces(context, this.source, boxes, { place, mirrored: this.mirrored, whole });
    }
    if (this.heat) drawHeat(context, this.heat, this.source, { place, mirrored: this.mirrored, plain: !this.blurred });
    const nameOf = (track) => this.people.nameOf(track);
    drawPeople(context, people, { place, unit, mirrored: this.mirrored, colors: this.colors, nameOf });
  }

  // What is seen now, in the picture's own size, as PNG.
  async snapshot() {
    const [width, height] = this.size;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    context.save();
    if (this.mirrored) {
      context.translate(width, 0);
      context.scale(-1, 1);
    }
    context.drawImage(this.source, 0, 0, width, height);
    context.restore();
    this.#draw(context, [0, 0, width, height], Math.max(1, width / this.frame.clientWidth), performance.now() / 1000);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }
}
