// Visits the page under /doc; says line by line what it found (doc.rs).
const { chromium } = require("playwright-core");
(async () => {
  const [browser, address, key] = process.argv.slice(2);
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  const opened = await chromium.launch({ executablePath: browser, args });
  const page = await opened.newPage();
  const complaints = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  await page.goto(`http://${address}/doc`);
  await page.waitForSelector("#codes td");
  console.log(JSON.stringify({
    sections: await page.locator("main section:not(.event) h3").count(),
    sent: await page.locator("main section.event h3 .pub").count(),
    received: await page.locator("main section.event h3 .sub").count(),
    codes: await page.locator("#codes tbody tr").count(),
    broken: (await page.locator("main").textContent()).includes("[object"),
  }));
  await page.fill("#token", key);
  await page.click("#who button");
  await page.waitForFunction(() => document.querySelector("#told").textContent);
  const add = page.locator("#addDevice");
  await add.locator("summary", { hasText: "Try it" }).click();
  await add.locator("textarea").fill('{"id":"lamp-9","kind":"light"}');
  await add.locator("button").click();
  const answer = add.locator("pre").last();
  await answer.filter({ hasText: /^\d{3} / }).waitFor();
  console.log((await answer.textContent()).split("\n")[0]);
  console.log((await add.locator("pre").first().textContent()).includes(key) ? "the key is shown" : "no key");
  console.log(JSON.stringify(complaints));
  await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "document.title = 'foreign'";
    document.body.append(script);
  });
  console.log(await page.title());
  await opened.close();
})();
