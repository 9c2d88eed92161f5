const WebSocket = require('ws');
const ws = new WebSocket('ws://iot-gateway.example.com:8080');

// Device Authentication
ws.on('open', () => {
  ws.send(JSON.stringify({
    type: 'auth',
    deviceId: 'sensor-001',
    token: 'device-secret-token'
  }));
});

// Receive Control Commands
ws.on('message', (message) => {
  const cmd = JSON.parse(message);
  if (cmd.type === 'control') {
    handleControlCommand(cmd);
  }
});

function handleControlCommand(cmd) {
  console.log('Received control command:', cmd);
  // Execute device control logic...
}

// Periodic Status Reporting
setInterval(() => {
  const sensorData = readSensorData(); // Read sensor data
  ws.send(JSON.stringify({
    type: 'status',
    deviceId: 'sensor-001',
    timestamp: Date.now(),
    data: sensorData
  }));
}, 5000); // Report every 5 seconds
