// The last minute of each person: probabilities over time, one on top of the other.

import { WINDOW_S } from "./people.js";
import { colorOf } from "./overlay.js";

const MOST_ROWS = 6;

export class Timeline {
  constructor(people, { root, rows, legend }) {
    this.people = people;
    this.root = root;
    this.rows = rows;
    this.legend = legend;
    this.shown = new Map();
    this.classes = [];
    this.colors = {};
  }

  useModel({ classes, colors }) {
    this.classes = classes;
    this.colors = colors;
    this.legend.replaceChildren(...classes.map((name) => {
      const item = document.createElement("li");
      const dot = document.createElement("i");
      dot.style.setProperty("--color", colorOf(colors, name));
      item.append(dot, name);
      return item;
    }));
  }

  clear() {
    for (const row of this.shown.values()) row.element.remove();
    this.shown.clear();
    this.root.hidden = true;
  }

  show(now) {
    const remembered = this.people.remembered(now).sort((a, b) => b.seenAt - a.seenAt || a.track - b.track)
      .slice(0, MOST_ROWS).sort((a, b) => a.track - b.track);
    const tracks = new Set(remembered.map((person) => person.track));
    for (const [track, row] of this.shown) {
      if (tracks.has(track)) continue;
      row.element.remove();
      this.shown.delete(track);
    }
    this.root.hidden = remembered.length === 0;
    for (const person of remembered) {
      const row = this.shown.get(person.track) ?? this.#add(person.track);
      row.name.textContent = this.people.nameOf(person.track);
      row.canvas.setAttribute("aria-label", `${this.people.nameOf(person.track)} over the last minute, now ${person.label}`);
      this.#draw(row.canvas, person.history, person.here ? now : person.seenAt, now);
    }
  }

  #add(track) {
    const element = document.createElement("div");
    element.className = "row";
    const name = document.createElement("span");
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    element.append(name, canvas);
    this.rows.append(element);
    const row = { element, name, canvas };
    this.shown.set(track, row);
    return row;
  }

  #draw(canvas, history, until, now) {
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
    if (!width) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const x = (at) => width * (1 - (now - at) / WINDOW_S);
    for (const stretch of stretches(history, until)) this.#drawStretch(context, stretch, x, height);
  }

  #drawStretch(context, stretch, x, height) {
    const base = new Array(stretch.length).fill(0);
    for (const name of this.classes) {
      context.beginPath();
      stretch.forEach((one, place) => context.lineTo(x(one.at), height * (1 - base[place])));
      stretch.forEach((one, place) => { base[place] += one.probabilities[name] ?? 0; });
      for (let place = stretch.length - 1; place >= 0; place -= 1) {
        context.lineTo(x(stretch[place].at), height * (1 - base[place]));
      }
      context.closePath();
      context.fillStyle = colorOf(this.colors, name);
      context.fill();
    }
  }
}

// Parts of a history without a gap; the last one reaches to now.
function* stretches(history, until) {
  let current = [];
  for (const one of history) {
    if (one.probabilities) {
      current.push(one);
      continue;
    }
    if (current.length) yield [...current, { ...current.at(-1), at: one.at }];
    current = [];
  }
  if (current.length) yield [...current, { ...current.at(-1), at: Math.max(until, current.at(-1).at) }];
}
