// The rival "Node socket.io": every event of one client goes to the room that all others are in.
// In: the file for the port. One process, one thread, no authentication, no storage.
import { createServer } from "node:http";
import { writeFileSync, renameSync } from "node:fs";
import { Server } from "socket.io";

const [file] = process.argv.slice(2);
const http = createServer();
const server = new Server(http, { transports: ["websocket"], perMessageDeflate: false });
server.of("/v2").on("connection", (socket) => {
  socket.on("subscribe", ({ resource }) => {
    socket.join(resource);
    socket.emit("subscribe", { status: "success" });
  });
  socket.on("publish", (resource, items) => socket.to(resource).emit(resource, items));
});
http.listen(0, "127.0.0.1", () => {
  writeFileSync(`${file}.new`, String(http.address().port));
  renameSync(`${file}.new`, file);
});
