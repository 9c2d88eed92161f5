// Judges descriptions of events with AsyncAPI's own parser, and each example by its schema
// (asyncapi.rs). Says one line for each file: what is wrong with it, and how much it describes.
const { Parser } = require("@asyncapi/parser");
const Ajv = require("ajv");
const fs = require("fs");

async function judge(text) {
  const { document, diagnostics } = await new Parser().parse(text);
  const wrong = diagnostics.map((found) => `${found.code} ${found.message} at ${found.path.join("/")}`);
  if (!document) return { wrong };
  const ajv = new Ajv({ strict: false, validateFormats: false });
  let examples = 0;
  for (const message of document.allMessages()) {
    const fits = ajv.compile(message.payload().json());
    for (const example of message.examples()) {
      examples += 1;
      if (!fits(example.payload())) wrong.push(`${message.id()}: ${ajv.errorsText(fits.errors)}`);
    }
  }
  return { wrong, version: document.version(), operations: document.allOperations().length, examples };
}

(async () => {
  for (const file of process.argv.slice(2)) console.log(JSON.stringify(await judge(fs.readFileSync(file, "utf8"))));
})();
