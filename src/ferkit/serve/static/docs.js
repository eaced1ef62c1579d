// The routes, from openapi.json: all that it says, and nothing from other hosts.

import { address } from "./api.js";
import { element } from "./markdown.js";

const EXAMPLES = {
  "/v1/predict": () => `curl -F picture=@photo.jpg ${address("v1/predict")}`,
  "/v1/explain": () => `curl -F picture=@photo.jpg '${address("v1/explain?face=1")}'`,
  "/v1/model": () => `curl ${address("v1/model")}`,
};

const schema = await (await fetch(address("openapi.json"))).json();
document.getElementById("about").textContent = schema.info.description;
for (const [path, methods] of Object.entries(schema.paths)) {
  for (const [method, route] of Object.entries(methods)) {
    const article = make("article", "", "route");
    const title = make("h2", "");
    title.append(make("b", method.toUpperCase()), path);
    article.append(title, element("p", `${route.summary}. ${route.description ?? ""}`.trim()));
    const kinds = Object.keys(route.requestBody?.content ?? {});
    if (kinds.length) article.append(make("p", `Body: ${kinds.join(", ")}`));
    const list = make("dl", "");
    for (const [status, response] of Object.entries(route.responses)) {
      list.append(make("dt", status), make("dd", response.description));
    }
    article.append(list);
    if (EXAMPLES[path]) {
      const block = make("pre", "");
      block.append(make("code", EXAMPLES[path]()));
      article.append(block);
    }
    document.getElementById("routes").append(article);
  }
}

function make(tag, text, className = "") {
  return Object.assign(document.createElement(tag), { textContent: text, className });
}
