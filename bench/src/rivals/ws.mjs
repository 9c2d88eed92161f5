// The rival "Node ws": every message of one client goes to all others as it is.
// In: the file for the port. One process, one thread, no authentication, no storage.
import { writeFileSync, renameSync } from "node:fs";
import { WebSocketServer } from "ws";

const [file] = process.argv.slice(2);
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
server.on("connection", (sender) => {
  sender.on("message", (message, binary) => {
    for (const client of server.clients) {
      if (client !== sender) client.send(message, { binary });
    }
  });
});
server.on("listening", () => {
  writeFileSync(`${file}.new`, String(server.address().port));
  renameSync(`${file}.new`, file);
});
