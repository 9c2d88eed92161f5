// Client-side heartbeat handling
const heartbeatInterval = 25000; // 25 seconds (slightly less than server interval)
let heartbeatTimer;

ws.on('open', () => {
  // Start heartbeat timer
  heartbeatTimer = setInterval(() => {
    if (ws.readyState === WebSocket.OPEN) {
      ws.ping();
    }
  }, heartbeatInterval);
});

ws.on('pong', () => {
  // Received server pong, update activity time
  connectionManager.updateActivity(deviceId);
});

ws.on('close', () => {
  clearInterval(heartbeatTimer);
});
