// An application: follows all telemetry, and after a reconnect goes on where it was.
//   fieldgate key add my-app --grant 'subscribe:devices/#'          prints the key
//   FIELDGATE_TOKEN=… node app.mjs ['devices/+/telemetry'] [ws://127.0.0.1:8080/ws]
import WebSocket from 'ws';

const [topic = 'devices/+/telemetry', url = 'ws://127.0.0.1:8080/ws'] = process.argv.slice(2);
const headers = { authorization: `Bearer ${process.env.FIELDGATE_TOKEN}` };
let position = null;                               // the last one seen: keep it on disk to survive a restart
let attempt = 0;

function connect() {
  const ws = new WebSocket(url, ['fieldgate.v1.json'], { headers });
  const heartbeat = setInterval(() => ws.readyState === WebSocket.OPEN && ws.ping(), 25_000);
  let over = false;
  ws.on('message', (data) => {
    const frame = JSON.parse(data);
    if (frame.type === 'auth_response') {
      attempt = 0;
      const since = position ? { after: position } : 'all';
      ws.send(JSON.stringify({ type: 'subscribe', topic, qos: 1, since }));
    } else if (frame.type === 'mqtt') {
      console.log(frame.seq, frame.topic, JSON.stringify(frame.payload));
      if (!frame.retain && !frame.ahead) position = frame.msgid;
      if (frame.qos) ws.send(JSON.stringify({ type: 'ack', msgid: frame.msgid }));
    } else if (frame.type === 'gap') {
      console.error(`gap: ${frame.from} to ${frame.to}: ${frame.reason}`);
      position = frame.to;
    } else if (frame.type === 'caught_up') {
      position = frame.position;
      console.error('the history is told, what follows is live');
    } else if (frame.type === 'error') {
      console.error(`refused: ${frame.code}: ${frame.message}`);
    }
  });
  ws.on('unexpected-response', (_, response) => {
    console.error(`refused: HTTP ${response.statusCode}`);
    over = response.statusCode < 500 && response.statusCode !== 429;
    ws.terminate();
  });
  ws.on('error', (error) => console.error(error.message));
  ws.on('close', (code) => {
    clearInterval(heartbeat);
    if (over || [4400, 4403].includes(code)) process.exit(1);
    setTimeout(connect, Math.min(30_000, 500 * 2 ** attempt++) * (0.5 + Math.random() / 2));
  });
}
connect();
