// The panel beside the picture: a card per person, with a bar per emotion.

import { colorOf } from "./overlay.js";

const NUMBERS_EVERY_S = 0.25;
const SPOKEN_EVERY_S = 2.5;
const USUAL = "occlusion";
const METHODS = { occlusion: "Covering", "grad-cam": "Grad-CAM" };
const CAUTION = "It shows where the model looks, not whether it is right.";
const MANY = 3; // from here on only the most-likely bar of each is shown

export class Cards {
  constructor(people, { root, hint, ghost, spoken, onWhy, onHeat }) {
    this.people = people;
    this.root = root;
    this.hint = hint; // what stands there while nobody does
    this.ghost = ghost;
    this.spoken = spoken;
    this.onWhy = onWhy; // (person, method): explain this; (person, null): no more
    this.onHeat = onHeat; // (canvas, heat, person): draw it
    this.cards = new Map();
    this.classes = [];
    this.methods = [];
    this.colors = {};
    this.numbersAt = 0;
    this.spokenAt = 0;
    this.said = new Map();
  }

  useModel({ classes, colors, explanations }) {
    this.methods = explanations;
    this.classes = classes;
    this.colors = colors;
    this.ghost.replaceChildren(...classes.map((name) => {
      const item = make("li", "");
      item.style.setProperty("--color", colorOf(colors, name));
      item.textContent = name;
      return item;
    }));
  }

  clear() {
    for (const card of this.cards.values()) card.element.remove();
    this.cards.clear();
    this.said.clear();
    this.hint.hidden = false;
  }

  show(now) {
    const listed = this.people.listed(now);
    const tracks = new Set(listed.map((person) => person.track));
    for (const [track, card] of this.cards) {
      if (tracks.has(track)) continue;
      card.element.remove();
      this.cards.delete(track);
      this.said.delete(track);
    }
    const withNumbers = now - this.numbersAt > NUMBERS_EVERY_S;
    if (withNumbers) this.numbersAt = now;
    for (const person of listed) this.#update(person, withNumbers);
    this.root.classList.toggle("many", listed.length > MANY);
    this.hint.hidden = listed.length > 0;
    this.#speak(listed, now);
  }

  #update(person, withNumbers) {
    const isNew = !this.cards.has(person.track);
    if (isNew) this.#add(person);
    const card = this.cards.get(person.track);
    card.element.dataset.gone = String(!person.here);
    card.element.style.setProperty("--color", colorOf(this.colors, person.label));
    for (const [name, bar] of card.bars) {
      const p = person.probabilities[name] ?? 0;
      bar.fill.style.setProperty("--p", p.toFixed(3));
    }
    if (!withNumbers && !isNew) return;
    card.label.textContent = person.label;
    card.confidence.textContent = `${Math.round(100 * person.confidence)}\u2009%`;
    const top = Math.max(...Object.values(person.probabilities));
    for (const [name, bar] of card.bars) {
      const p = person.probabilities[name] ?? 0;
      bar.number.textContent = `${Math.round(100 * p)}\u2009%`;
      bar.item.classList.toggle("most-likely", p === top);
    }
  }

  #add(person) {
    const element = make("article", "person", { "data-track": person.track });
    const name = make("input", "person-name", { "aria-label": `Name of person ${person.track}`, maxlength: "24", spellcheck: "false" });
    name.value = this.people.nameOf(person.track);
    name.addEventListener("input", () => {
      if (name.value.trim()) this.people.names.set(person.track, name.value.trim());
      else this.people.names.delete(person.track);
    });
    name.addEventListener("keydown", (event) => event.key === "Enter" && name.blur());
    const head = make("div", "person-head");
    const why = make("button", "why-button", { type: "button", "aria-expanded": "false" });
    why.textContent = "Why?";
    why.hidden = !this.methods.length;
    why.addEventListener("click", () => this.onWhy(this.people.all.get(person.track), why.getAttribute("aria-expanded") === "true" ? null : USUAL));
    head.append(name, why);
    const line = make("p", "person-label");
    const [label, confidence] = [make("span", "label"), make("b", "")];
    line.append(make("i", ""), label, confidence);
    const list = make("ul", "bars");
    const bars = new Map();
    for (const emotion of this.classes) {
      const item = make("li", "");
      const track = make("span", "bar");
      const fill = make("i", "");
      fill.style.setProperty("--color", colorOf(this.colors, emotion));
      track.append(fill);
      const text = make("span", "");
      text.textContent = emotion;
      const number = make("span", "number"); // not <output>: a live region would be read out four times a second;
      item.append(text, track, number);
      list.append(item);
      bars.set(emotion, { item, fill, number });
    }
    const answer = make("div", "why", { role: "status" });
    answer.hidden = true;
    element.append(head, line, list, answer);
    this.root.append(element);
    this.cards.set(person.track, { element, label, confidence, bars, why, answer });
  }

  // What `Why` says about one person; the others are asked nothing.
  explain({ state, person, method, heat, problem }) {
    for (const [track, card] of this.cards) {
      const asked = state !== "none" && track === person.track;
      card.why.setAttribute("aria-expanded", String(asked));
      card.answer.hidden = !asked;
      if (!asked) continue;
      card.answer.replaceChildren();
      if (state === "asking") card.answer.append(paragraph("Looking closer."));
      if (state === "failed") card.answer.append(paragraph(problem.message));
      if (state === "shown") this.#showHeat(card.answer, heat, person);
      if (state !== "asking" && this.methods.length > 1) card.answer.append(this.#choices(person, method));
    }
  }

  #showHeat(root, heat, person) {
    const near = make("canvas", "", { role: "img", "aria-label": `Heatmap of ${heat.explained}` });
    root.append(near, legend(heat.ramp), paragraph(inWords(heat)));
    // The bars above are smoothed over time; this is of one frame.
    if (heat.explained !== person.label) root.append(paragraph(`This frame alone: ${heat.explained}. The bars tell of the moments before it, too.`));
    root.append(paragraph(CAUTION, "hint"));
    this.onHeat(near, heat, person);
  }

  #choices(person, method) {
    const group = make("div", "why-methods", { role: "group", "aria-label": "Method" });
    for (const name of this.methods) {
      const button = make("button", "", { type: "button", "aria-pressed": String(name === method) });
      button.textContent = METHODS[name] ?? name;
      button.addEventListener("click", () => this.onWhy(person, name));
      group.append(button);
    }
    return group;
  }

  // For those who listen: what changed, not too often.
  #speak(listed, now) {
    if (now - this.spokenAt < SPOKEN_EVERY_S) return;
    const news = listed.filter((person) => person.here && this.said.get(person.track) !== person.label);
    if (!news.length) return;
    this.spokenAt = now;
    for (const person of news) this.said.set(person.track, person.label);
    this.spoken.textContent = news.map((person) => `${this.people.nameOf(person.track)}: ${person.label}`).join(", ");
  }
}

function inWords({ explained, peak, heatmap }) {
  if (!heatmap.flat().some((value) => value > 0)) return `No single place speaks for ${explained}.`;
  if (peak === null) return `The marked places raise the score of ${explained} most.`;
  const points = 100 * peak;
  return `Covering the brightest place takes ${points < 10 ? points.toFixed(1) : Math.round(points)} points from ${explained}.`;
}

function legend(ramp) {
  const row = make("p", "why-legend");
  const bar = make("i", "");
  bar.style.setProperty("--ramp", `linear-gradient(90deg, ${ramp.join(", ")})`);
  const [little, most] = ["counts little", "most"].map((text) => Object.assign(make("span", ""), { textContent: text }));
  row.append(little, bar, most);
  return row;
}

function paragraph(text, className = "") {
  return Object.assign(make("p", className), { textContent: text });
}

function make(tag, className, attributes = {}) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
