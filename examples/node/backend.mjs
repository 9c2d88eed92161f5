// A backend over plain HTTP: what devices are in, a command and how it ended, and what was.
//
//   fieldgate key add my-backend --role operator                   prints the key
//   FIELDGATE_TOKEN=… node backend.mjs lamp-1 '{"set":{"on":true}}' [http://127.0.0.1:8080]

const [device, payload, url = "http://127.0.0.1:8080"] = process.argv.slice(2);
if (!device || !payload || !process.env.FIELDGATE_TOKEN) {
  console.error("usage: FIELDGATE_TOKEN=… node backend.mjs DEVICE JSON [URL]");
  process.exit(2);
}
const headers = { authorization: `Bearer ${process.env.FIELDGATE_TOKEN}` };
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Asks; what may succeed later is asked again, with the same body, so nothing is done twice. */
async function ask(path, options = {}) {
  for (let attempt = 0; ; attempt++) {
    const response = await fetch(url + path, { headers, ...options }).catch((error) => error);
    if (response.ok) return response.json();
    const again = !response.status || response.status === 429 || response.status === 503;
    if (!again || attempt === 5) {
      const problem = response.status ? await response.json() : { code: "unreachable", detail: response.message };
      console.error(`refused: ${problem.code}: ${problem.detail}`);
      process.exit(1);
    }
    const wait = Number(response.headers?.get("retry-after") ?? 2 ** attempt);
    await pause(wait * 1000 * (0.5 + Math.random() / 2));
  }
}

const here = encodeURIComponent(device);
const { reported } = await ask(`/v1/devices/${here}/state`);
console.log("is in", JSON.stringify(reported));

// The msgid makes a repeat harmless, also over our own restart if it is kept.
const command = { to: device, msgid: crypto.randomUUID(), payload: JSON.parse(payload) };
const outcome = await ask("/v1/commands?wait=5s", { method: "POST", body: JSON.stringify(command) });
console.log("command", JSON.stringify(outcome));

let cursor = "";
let count = 0;
do {
  const page = await ask(`/v1/devices/${here}/history?kind=telemetry&limit=500${cursor}`);
  count += page.items.length;
  cursor = page.next ? `&cursor=${encodeURIComponent(page.next)}` : "";
} while (cursor);
console.log("history", count);
