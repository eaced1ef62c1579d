// Who is in view: what the server said last, and what is shown of it, which glides after it.

const GLIDE_S = 0.07;
const FADE_S = 0.35;
const STILL = 5e-4; // less of the picture nobody sees
const FORGET_S = 6;
const SAMPLE_S = 0.1;
export const WINDOW_S = 60;

const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class People {
  constructor() {
    this.all = new Map();
    this.names = new Map();
    this.hidden = []; // where people must be whom the last answer missed: only blurring asks
    this.seenAt = 0; // when the last answer came, in seconds
  }

  clear() {
    this.all.clear();
    this.names.clear();
    this.hidden = [];
    this.seenAt = 0;
  }

  nameOf(track) {
    return this.names.get(track) ?? `Person ${track}`;
  }

  // As the server answers; boxes become fractions of the picture. still: a picture, in which nothing moves.
  take({ faces, hidden = [], width, height }, now, still = false) {
    const part = ([x1, y1, x2, y2]) => [x1 / width, y1 / height, x2 / width, y2 / height];
    this.seenAt = now;
    this.hidden = hidden.map(part);
    const here = new Set();
    faces.forEach((face, index) => {
      const track = face.track ?? index + 1;
      here.add(track);
      const box = part(face.box);
      const person = this.all.get(track) ?? this.#newcomer(track, box, face, now);
      person.here = true;
      person.seenAt = now;
      person.box = box;
      person.label = face.label;
      person.confidence = face.confidence;
      person.probabilities = face.probabilities;
      if (still) person.opacity = 1;
      else this.#remember(person, now);
    });
    for (const person of this.all.values()) {
      if (!here.has(person.track)) {
        if (person.here) person.history.push({ at: now, probabilities: null });
        person.here = false;
      }
    }
  }

  #newcomer(track, box, face, now) {
    const person = {
      track, box, shown: [...box], opacity: 0, here: true, seenAt: now, since: now,
      label: face.label, confidence: face.confidence, probabilities: face.probabilities,
      ribbon: { ...face.probabilities }, history: [],
    };
    this.all.set(track, person);
    return person;
  }

  #remember(person, now) {
    const last = person.history.at(-1);
    if (last?.probabilities && now - last.at < SAMPLE_S) return;
    person.history.push({ at: now, probabilities: person.probabilities });
    while (person.history.length > 2 && person.history[1].at < now - WINDOW_S) person.history.shift();
  }

  // Move what is shown towards what is known. Returns whether anything moved.
  glide(now, seconds) {
    const weight = calm.matches ? 1 : 1 - Math.exp(-seconds / GLIDE_S);
    let farthest = 0;
    const closer = (shown, known) => {
      farthest = Math.max(farthest, Math.abs(known - shown));
      return shown + (known - shown) * weight;
    };
    for (const person of this.all.values()) {
      person.shown = person.shown.map((edge, place) => closer(edge, person.box[place]));
      for (const [name, p] of Object.entries(person.probabilities)) person.ribbon[name] = closer(person.ribbon[name], p);
      const step = calm.matches ? 1 : seconds / FADE_S;
      const opacity = Math.min(1, Math.max(0, person.opacity + (person.here ? step : -step)));
      farthest = Math.max(farthest, Math.abs(opacity - person.opacity));
      person.opacity = opacity;
    }
    return farthest > STILL;
  }

  get inView() {
    return [...this.all.values()].filter((person) => person.opacity > 0);
  }

  // Those who have a card: here, or gone a moment ago.
  listed(now) {
    return [...this.all.values()].filter((person) => person.here || now - person.seenAt < FORGET_S);
  }

  // Those whose history reaches into the timeline; the others are forgotten.
  remembered(now) {
    for (const person of this.all.values()) {
      if (!person.here && now - person.seenAt > WINDOW_S) this.all.delete(person.track);
    }
    return [...this.all.values()].filter((person) => person.history.length > 1);
  }
}
