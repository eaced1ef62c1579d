// The panel beside the picture: a card per person, with a bar per emotion.

import { colorOf } from "./overlay.js";

const NUMBERS_EVERY_S = 0.25;
const SPOKEN_EVERY_S = 2.5;
const MANY = 3; // from here on only the surest bar of each is shown

export class Cards {
  constructor(people, { root, hint, ghost, spoken }) {
    this.people = people;
    this.root = root;
    this.hint = hint; // what stands there while nobody does
    this.ghost = ghost;
    this.spoken = spoken;
    this.cards = new Map();
    this.classes = [];
    this.colors = {};
    this.numbersAt = 0;
    this.spokenAt = 0;
    this.said = new Map();
  }

  useModel({ classes, colors }) {
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
      bar.item.classList.toggle("surest", p === top);
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
    head.append(name);
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
      const number = make("output", "");
      item.append(text, track, number);
      list.append(item);
      bars.set(emotion, { item, fill, number });
    }
    element.append(head, line, list);
    this.root.append(element);
    this.cards.set(person.track, { element, label, confidence, bars });
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

function make(tag, className, attributes = {}) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
