// The Markdown that model cards are written in: headings, paragraphs, lists, tables, code. Text only ever becomes text.

export function render(markdown) {
  const lines = markdown.replace(/^---\n[\s\S]*?\n---\n/, "").split("\n");
  const out = document.createDocumentFragment();
  let place = 0;
  const take = (matches) => {
    const taken = [];
    while (place < lines.length && matches(lines[place])) taken.push(lines[place++]);
    return taken;
  };
  while (place < lines.length) {
    const line = lines[place];
    const heading = /^(#{1,3}) (.*)/.exec(line);
    if (!line.trim()) place += 1;
    else if (heading) {
      place += 1;
      out.append(element(`h${heading[1].length}`, heading[2]));
    } else if (line.startsWith("```")) {
      place += 1;
      const code = take((one) => !one.startsWith("```")).join("\n");
      place += 1;
      const pre = document.createElement("pre");
      pre.append(Object.assign(document.createElement("code"), { textContent: code }));
      out.append(pre);
    } else if (line.startsWith("|")) out.append(table(take((one) => one.startsWith("|"))));
    else if (line.startsWith("- ")) {
      const list = document.createElement("ul");
      list.append(...take((one) => one.startsWith("- ")).map((one) => element("li", one.slice(2))));
      out.append(list);
    } else out.append(element("p", take((one) => one.trim() && !/^(#|\||- |```)/.test(one)).join(" ")));
  }
  return out;
}

function table(rows) {
  const cells = rows.map((row) => row.slice(1, row.lastIndexOf("|")).split(/(?<!\\)\|/).map((cell) => cell.trim()));
  const body = document.createElement("table");
  cells.forEach((row, number) => {
    if (number === 1) return; // the rule under the heads
    const line = body.insertRow();
    line.append(...row.map((cell) => element(number ? "td" : "th", cell)));
  });
  const box = document.createElement("div");
  box.className = "table";
  box.append(body);
  return box;
}

// An element with text in which `code` and escapes are meant.
function element(tag, text) {
  const made = document.createElement(tag);
  text.split(/(`[^`]*`)/).forEach((part) => {
    if (/^`.*`$/.test(part)) made.append(Object.assign(document.createElement("code"), { textContent: part.slice(1, -1) }));
    else made.append(part.replace(/\\([\\`*_{}[\]<>|#~])/g, "$1"));
  });
  return made;
}
