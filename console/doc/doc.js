// Draws the descriptions of the interface, of requests and of events, and sends requests for whoever
// has a key.
//
// All text comes in by textContent: what the description says is never read as HTML. The key stays
// in this page's memory and goes to this gateway alone.

const METHODS = ["get", "post", "put", "patch", "delete"];
const byId = (id) => document.getElementById(id);
let token = "";
/** What is asked: of the gateway itself, and as clients of thethings.iO and of deCONZ do. */
let descriptions = [];
let events = {};
/** The document that references are looked up in: of requests, or of events. */
let root = {};

/** An element with attributes and children; text children are text. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null));
  return element;
}

/** Text in which `code` stands between backquotes. */
function prose(text = "") {
  return text.split("`").map((part, at) => (at % 2 ? el("code", {}, part) : part));
}

const follow = (thing) =>
  thing?.$ref ? thing.$ref.slice(2).split("/").reduce((at, key) => at?.[key], root) ?? {} : thing ?? {};

/** What a schema is, in a few words. */
function typeOf(schema) {
  if (schema?.$ref) return schema.$ref.split("/").pop();
  if (!schema) return "";
  if (schema.allOf?.length === 1) return typeOf(schema.allOf[0]);
  if ("const" in schema) return JSON.stringify(schema.const);
  const all = schema.oneOf ?? schema.anyOf;
  if (all) return [...new Set(all.map(typeOf))].join(" or ");
  if (schema.enum) return schema.enum.map((word) => JSON.stringify(word)).join(" or ");
  const types = [schema.type ?? "any"].flat();
  return types.map((type) => (type === "array" ? `${typeOf(schema.items)}[]` : type)).join(" or ");
}

function bounds(schema) {
  const { minimum, maximum, minLength, maxLength, maxItems, pattern, default: standard } = schema ?? {};
  const told = { minimum, maximum, minLength, maxLength, maxItems, pattern, default: standard };
  return Object.entries(told).filter(([, value]) => value !== undefined && value !== null)
    .map(([name, value]) => `${name} ${value}`).join(", ");
}

function table(heads, rows) {
  if (!rows.length) return undefined;
  const head = el("tr", {}, heads.map((text) => el("th", {}, text)));
  return el("table", {}, el("thead", {}, head), el("tbody", {}, rows.map((cells) =>
    el("tr", {}, cells.map((cell) => el("td", {}, cell))))));
}

/** The fields of a schema; those of parts that are objects are folded below. */
function fields(schema, seen = []) {
  const whole = follow(schema);
  const parts = (whole.allOf ?? [whole]).map(follow);
  const rows = [];
  const deeper = [];
  for (const part of parts) {
    for (const [name, field] of Object.entries(part.properties ?? {})) {
      const needed = part.required?.includes(name) ? "" : "optional";
      const about = [prose(follow(field).description ?? field.description), " ", el("span", { class: "faint" }, bounds(field))];
      rows.push([el("code", {}, name), `${typeOf(field)} ${needed}`, about]);
      const own = [field, field.items].flatMap((at) => [at, ...(at?.allOf ?? [])]);
      for (const ref of [...own, ...(field.oneOf ?? []), ...(field.anyOf ?? [])]) {
        if (ref?.$ref && !seen.includes(ref.$ref)) deeper.push(ref.$ref);
      }
    }
  }
  const below = [...new Set(deeper)].map(($ref) =>
    el("details", {}, el("summary", {}, $ref.split("/").pop()), fields({ $ref }, [...seen, $ref])));
  return el("div", {}, prose(whole.description), table(["field", "type", "what it is"], rows) ?? "", below, kinds(whole));
}

/** Messages that are told apart by a number, each with fields of its own. */
function kinds(schema) {
  const rows = (schema["x-messages"] ?? []).map(({ tsmId, about, fields: own }) =>
    [el("code", {}, String(tsmId)), about, own.map(({ name, unit }) => `${name}${unit ? ` (${unit})` : ""}`).join(", ")]);
  return rows.length ? el("details", {}, el("summary", {}, "Each tsmId"), table(["tsmId", "about", "fields"], rows)) : "";
}

const contentOf = (body) => Object.entries(follow(body).content ?? {});

function responses(operation) {
  return Object.entries(operation.responses ?? {}).map(([status, response]) => {
    const told = follow(response);
    const [[kind, media] = []] = contentOf(response);
    const title = [el("code", {}, status), " ", prose(told.description)];
    if (Number(status) >= 400 || !media) return el("div", {}, title);
    return el("details", {}, el("summary", {}, title), el("p", { class: "faint" }, kind), fields(media.schema));
  });
}

/** Where a document is served, if it is not here: this page can send nothing there. */
function elsewhere() {
  const { url = "/", variables = {} } = root.servers?.[0] ?? {};
  if (url.startsWith("/")) return "";
  return Object.entries(variables).reduce((filled, [name, { default: value }]) => filled.replace(`{${name}}`, value), url);
}

/** A form that sends the request, and what it is in curl. */
function trial(method, path, operation) {
  const parameters = (operation.parameters ?? []).map(follow);
  const inputs = parameters.map((parameter) => {
    const example = parameter.in === "path" ? parameter.schema?.examples?.[0] ?? "" : "";
    return el("input", { name: parameter.name, value: example, required: parameter.required });
  });
  const [[kind, media] = []] = contentOf(operation.requestBody);
  const body = media && el("textarea", { spellcheck: "false", "aria-label": "Body" });
  if (body) body.value = JSON.stringify(media.example ?? sample(media.schema), null, 2);
  const curl = el("pre");
  const other = elsewhere();
  const answer = el("pre", { hidden: "" });
  const address = () => {
    let filled = path;
    const query = new URLSearchParams();
    parameters.forEach((parameter, at) => {
      const value = inputs[at].value;
      if (parameter.in === "path") filled = filled.replace(`{${parameter.name}}`, encodeURIComponent(value));
      else if (parameter.in === "query" && value) query.append(parameter.name, value);
    });
    return query.size ? `${filled}?${query}` : filled;
  };
  const headers = () => {
    const named = parameters.map((p, at) => [p, inputs[at].value]).filter(([p, value]) => p.in === "header" && value);
    return Object.fromEntries([...(kind ? [["Content-Type", kind]] : []), ...named.map(([p, value]) => [p.name, value])]);
  };
  const show = () => {
    const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
    const parts = ["curl", ...(method === "get" ? [] : ["-X", method.toUpperCase()]), ...(other ? [] : ["-H", '"Authorization: Bearer $FIELDGATE_TOKEN"'])];
    for (const [name, value] of Object.entries(headers())) parts.push("-H", quote(`${name}: ${value}`));
    if (body?.value) parts.push("-d", quote(body.value));
    curl.textContent = [...parts, quote((other || location.origin) + address())].join(" ");
  };
  const send = async (event) => {
    event.preventDefault();
    answer.hidden = false;
    answer.textContent = "…";
    try {
      answer.textContent = await exchange(method, address(), headers(), body?.value);
    } catch (error) {
      answer.textContent = `no answer: ${error.message}`;
    }
  };
  const rows = parameters.map((parameter, at) => el("label", {}, `${parameter.name}${parameter.required ? " *" : ""}`, inputs[at]));
  const form = el("form", { class: "try", onsubmit: send, oninput: show }, rows, body, other ? "" : el("p", {}, el("button", {}, "Send")));
  show();
  return el("details", {}, el("summary", {}, other ? "In curl" : "Try it"), form, curl, answer);
}

/** Asks, and tells status, headers and body. Of a stream it shows the first five seconds. */
async function exchange(method, address, headers, body) {
  const stop = AbortSignal.timeout(5000);
  const sent = token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
  const response = await fetch(address, { method: method.toUpperCase(), headers: sent, body: body || undefined, signal: stop });
  const shown = ["content-type", "etag", "retry-after"].filter((name) => response.headers.has(name))
    .map((name) => `${name}: ${response.headers.get(name)}`);
  let text = "";
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let part = await reader?.read(); part && !part.done; part = await reader.read()) text += part.value;
  } catch (error) {
    if (error.name !== "TimeoutError") throw error;
    text += "\n… the stream goes on";
  }
  try { text = JSON.stringify(JSON.parse(text), null, 2); } catch { /* it is no JSON: shown as it came */ }
  return `${response.status} ${response.statusText}\n${shown.join("\n")}\n\n${text}`;
}

/** A value that a schema takes, with the fields that it needs. */
function sample(schema, depth = 0) {
  const whole = follow(schema);
  const example = whole.example ?? whole.examples?.[0] ?? whole.default;
  if (example !== undefined && example !== null) return example;
  if (depth > 4) return null;
  if (whole.enum) return whole.enum[0];
  const type = [whole.type].flat().find((name) => name !== "null");
  if (whole.properties) {
    const needed = Object.entries(whole.properties).filter(([name]) => whole.required?.includes(name));
    return Object.fromEntries(needed.map(([name, field]) => [name, sample(field, depth + 1)]));
  }
  return { string: "", integer: 0, number: 0, boolean: false, array: [], object: {} }[type] ?? {};
}

function operationOf(method, path, operation) {
  const parameters = (operation.parameters ?? []).map(follow).map((parameter) => [
    el("code", {}, parameter.name), `${parameter.in}, ${typeOf(parameter.schema)}${parameter.required ? "" : ", optional"}`,
    [prose(parameter.description), " ", el("span", { class: "faint" }, bounds(parameter.schema))]]);
  const [[, media] = []] = contentOf(operation.requestBody);
  return el("section", { id: operation.operationId },
    el("h3", {}, el("span", { class: `method ${method}` }, method.toUpperCase()), path),
    el("p", {}, prose([operation.summary, operation.description].filter(Boolean).join(" "))),
    table(["parameter", "where and type", "what it is"], parameters) ?? "",
    media ? el("details", {}, el("summary", {}, "Body"), fields(media.schema)) : "",
    el("details", {}, el("summary", {}, "Answers"), responses(operation)),
    trial(method, path, operation));
}

/** What a client sends (PUB) or receives (SUB). */
function messageOf(id, operation, message) {
  const label = operation.tags?.[0]?.name ?? "";
  const whole = follow(message.payload);
  const lists = whole.type === "array" ? [whole] : (whole.oneOf ?? []).filter((part) => part.type === "array");
  const shape = lists.length ? el("div", {}, `${typeOf(whole)}`, lists.map((list) => fields(list.items))) : fields(message.payload);
  const examples = (message.examples ?? []).map(({ payload }) => el("pre", {}, JSON.stringify(payload, null, 2)));
  return el("section", { id, class: "event" },
    el("h3", {}, el("span", { class: `method ${label.toLowerCase()}` }, label), message.name),
    el("p", {}, prose(message.summary)),
    el("details", {}, el("summary", {}, message.contentType === "application/json" ? "Payload" : `Payload: ${message.contentType}`), shape),
    examples.length ? el("details", {}, el("summary", {}, "Examples"), examples) : "");
}

/** Every interface that is no request: a channel, and what goes over it. */
function drawEvents(contents, main) {
  root = events;
  const label = ([, operation]) => operation.tags?.[0]?.name ?? "";
  const operations = Object.entries(events.operations ?? {}).sort((a, b) => label(a).localeCompare(label(b)));
  for (const [key, channel] of Object.entries(events.channels ?? {})) {
    const server = follow(channel.servers?.[0]);
    const query = channel.bindings?.ws?.query;
    contents.append(el("h2", {}, channel.title));
    main.append(el("h2", { id: `channel-${key}` }, channel.title),
      el("p", {}, el("code", {}, server.pathname ? `${server.pathname} namespace ${channel.address}` : `${server.protocol} ${channel.address}`)),
      el("p", {}, prose(channel.description)),
      query?.properties ? el("details", {}, el("summary", {}, "In the address"), fields(query)) : "");
    for (const [id, operation] of operations.filter(([, one]) => one.channel.$ref === `#/channels/${key}`)) {
      const message = follow(follow(operation.messages[0]));
      const text = `${operation.tags?.[0]?.name ?? ""} ${message.name}`;
      contents.append(el("a", { href: `#${id}`, title: operation.summary }, text));
      main.append(messageOf(id, operation, message));
    }
  }
}

function errors() {
  const rows = (descriptions[0]?.["x-codes"] ?? []).map((code) =>
    [el("code", {}, code.code), String(code.status), code.again ? "yes" : "no", prose(code.about), code.remedy]);
  return el("section", { id: "codes" }, el("h2", {}, "Codes"),
    el("p", {}, "Every refusal has one of these. Programs decide by the code, never by the message."),
    table(["code", "status", "again", "what it means", "what to do"], rows) ?? "");
}

/** Every request of one document. */
function drawRequests(document, contents, main) {
  root = document;
  const found = [];
  for (const [path, item] of Object.entries(document.paths)) {
    for (const method of METHODS) {
      const operation = item[method];
      if (operation) found.push({ tag: operation.tags?.[0] ?? "", method, path, operation });
    }
  }
  main.append(el("p", {}, prose(document.info.description)));
  const known = document.tags ?? [];
  const others = [...new Set(found.map((entry) => entry.tag))].filter((name) => !known.some((tag) => tag.name === name));
  for (const tag of [...known, ...others.map((name) => ({ name }))]) {
    const own = found.filter((entry) => entry.tag === tag.name);
    contents.append(el("h2", {}, tag.name));
    main.append(el("h2", { id: `tag-${tag.name}` }, tag.name), el("p", { class: "faint" }, tag.description ?? ""));
    for (const { method, path, operation } of own) {
      const text = `${method.toUpperCase()} ${path}`;
      contents.append(el("a", { href: `#${operation.operationId}`, title: operation.summary }, text));
      main.append(operationOf(method, path, operation));
    }
  }
}

function draw() {
  const contents = byId("contents");
  const main = byId("main");
  byId("version").textContent = descriptions[0].info.version;
  contents.replaceChildren();
  main.replaceChildren();
  for (const document of descriptions) drawRequests(document, contents, main);
  drawEvents(contents, main);
  contents.append(el("h2", {}, "more"), el("a", { href: "#codes" }, "Codes"));
  main.append(errors());
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

async function read() {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const [first, ...more] = await Promise.all(
    ["openapi", "thethings", "deconz", "asyncapi"].map((name) => fetch(`/doc/${name}.json`, { headers })));
  if (!first.ok) {
    const problem = await first.json();
    byId("main").replaceChildren(el("p", {}, `The gateway does not show it: ${problem.detail}. Give a key or token above.`));
    byId("told").textContent = "";
    return;
  }
  const [own, things, hub, said] = await Promise.all([first, ...more].map((response) => response.json()));
  descriptions = [own, things, hub];
  events = said;
  draw();
  byId("told").textContent = token ? "Requests of this page carry it." : "";
}

byId("who").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  read();
});
byId("find").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const link of byId("contents").querySelectorAll("a")) {
    link.hidden = !`${link.textContent} ${link.title}`.toLowerCase().includes(wanted);
  }
});
read();
