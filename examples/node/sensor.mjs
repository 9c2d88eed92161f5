// A device: sends a reading every second, keeps it until it is acknowledged, reconnects by itself.
//   fieldgate device add sensor-001          prints the token
//   FIELDGATE_TOKEN=… node sensor.mjs sensor-001 [ws://127.0.0.1:8080/ws]
import WebSocket from 'ws';

const [deviceId = 'sensor-001', url = 'ws://127.0.0.1:8080/ws'] = process.argv.slice(2);
const token = process.env.FIELDGATE_TOKEN;
const waiting = new Map();                         // msgid → frame, until the server has stored it
const waiting_max = 1000;
const for_now = ['rate_limited', 'queue_full', 'busy', 'storage_unavailable'];
const refused = new Set();                         // of those that wait: what was refused for now
let count = 0, attempt = 0, ready = null;          // ready: the socket, once authenticated

function connect() {
  const ws = new WebSocket(url, ['fieldgate.v1.json']);
  const heartbeat = setInterval(() => ws.readyState === WebSocket.OPEN && ws.ping(), 25_000);
  ws.on('open', () => ws.send(JSON.stringify({ type: 'auth', deviceId, token })));
  ws.on('message', (data) => {
    const frame = JSON.parse(data);
    if (frame.type === 'auth_response' && frame.status === 'success') {
      attempt = 0;
      ready = ws;
      refused.clear();
      for (const unsent of waiting.values()) ws.send(unsent);
    } else if (frame.type === 'ack' && waiting.delete(frame.msgid)) {
      console.log(`stored as ${frame.seq}, ${waiting.size} waiting`);
    } else if (frame.type === 'error') {
      if (for_now.includes(frame.code)) refused.add(frame.ref);
      else waiting.delete(frame.ref);              // it would be refused again
      console.error(`refused: ${frame.code}: ${frame.message}`);
    }
  });
  ws.on('error', (error) => console.error(error.message));
  ws.on('close', (code, reason) => {
    clearInterval(heartbeat);
    ready = null;
    if ([4400, 4403, 4409].includes(code)) return console.error(`over: ${code} ${reason}`), process.exit(1);
    setTimeout(connect, Math.min(30_000, 500 * 2 ** attempt++) * (0.5 + Math.random() / 2));
  });
}

setInterval(() => {
  if (waiting.size >= waiting_max) return console.error('the buffer is full: a reading is lost');
  const msgid = `${process.pid}-${Date.now()}-${count++}`;   // the same for every repeat
  const data = { temperature: Math.round(2100 + 200 * Math.sin(count / 10)) / 100 };
  waiting.set(msgid, JSON.stringify({ type: 'status', msgid, timestamp: Date.now(), data }));
  ready?.send(waiting.get(msgid));
}, 1000);
setInterval(() => {
  for (const msgid of refused) if (waiting.has(msgid)) ready?.send(waiting.get(msgid));
  refused.clear();
}, 5000);
connect();
