// Pages of two origins talk to a gateway of a third one, with credentials; says what each was told
// (browser.rs).
const fs = require("fs");
const http = require("http");
const { chromium } = require("playwright-core");

const library = (generation) => fs.readFileSync(`node_modules/socket.io-client-${generation}/dist/socket.io.js`);
const serve = () => new Promise((resolve) => {
  const server = http.createServer((request, response) => {
    const generation = /^\/io([24])\.js$/.exec(request.url);
    if (generation) return response.writeHead(200, { "Content-Type": "text/javascript" }).end(library(generation[1]));
    response.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html><title>page</title><link rel=icon href=data:,>");
  });
  server.listen(0, "127.0.0.1", () => resolve(`http://localhost:${server.address().port}`));
});
const told = async (name) => {
  while (!fs.existsSync(name)) await new Promise((resolve) => setTimeout(resolve, 20));
  return fs.readFileSync(name, "utf8");
};

// In the page: from joining to the first value.
const follow = ({ url, key, generation }) => new Promise((resolve, reject) => {
  const options = generation === 2 ? {} : { withCredentials: true };
  const socket = io(url + "/v2", { ...options, transports: ["polling"], forceNew: true, reconnection: false });
  for (const event of ["connect_error", "error"]) socket.on(event, (error) => reject(new Error(String(error))));
  socket.on("connect", () => socket.emit("authenticate", { sessionToken: key }));
  socket.on("authenticate", () => socket.emit("subscribe", { resource: "/me/resources/n" }));
  socket.on("/me/resources/n", (items) => { socket.disconnect(); resolve(items[0].value); });
});

(async () => {
  const origins = [await serve(), await serve()];
  console.log(origins.join(" "));
  const [browser] = process.argv.slice(2);
  const { url, key } = JSON.parse(await told("gateway.json"));
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  const opened = await chromium.launch({ executablePath: browser, args });
  for (const origin of origins) {
    for (const generation of [2, 4]) {
      const page = await opened.newPage();
      const complaints = [];
      const answers = new Set();
      page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
      page.on("response", async (response) => {
        if (!response.url().includes("/socket.io/")) return;
        const headers = response.headers();
        answers.add([headers["access-control-allow-origin"] === origin, headers["access-control-allow-credentials"]].join());
      });
      await page.goto(origin);
      await page.addScriptTag({ url: `/io${generation}.js` });
      const value = await page.evaluate(follow, { url, key, generation }).catch((error) => error.message);
      console.log([generation, value, [...answers].join(" "), JSON.stringify(complaints)].join(" "));
      await page.close();
    }
  }
  await opened.close();
  process.exit(0);
})();
