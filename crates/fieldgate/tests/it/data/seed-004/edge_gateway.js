class EdgeGateway {
  constructor() {
    this.localDevices = new Map();
    this.cloudConnection = null;
    this.dataBuffer = [];
    this.bufferSize = 100;
    this.flushInterval = 5000; // 5 seconds
  }

  addDevice(device) {
    this.localDevices.set(device.id, device);
    device.on('data', (data) => this.handleDeviceData(device.id, data));
  }

  handleDeviceData(deviceId, data) {
    // Local processing (e.g., simple filtering)
    if (this.shouldProcessLocally(data)) {
      this.processLocally(deviceId, data);
    } else {
      // Buffer to cloud
      this.dataBuffer.push({
        deviceId,
        data,
        timestamp: Date.now()
      });

      if (this.dataBuffer.length >= this.bufferSize) {
        this.flushToCloud();
      }
    }
  }

  async flushToCloud() {
    if (this.dataBuffer.length === 0 || !this.cloudConnection) return;

    const batch = this.dataBuffer.splice(0, this.dataBuffer.length);
    try {
      await this.sendToCloud(batch);
    } catch (error) {
      console.error('Cloud sending failed, re-buffering data');
      this.dataBuffer.unshift(...batch);
    }
  }

  start() {
    // Periodically flush buffer
    setInterval(() => this.flushToCloud(), this.flushInterval);

    // Establish cloud connection
    this.connectToCloud();
  }

  connectToCloud() {
    this.cloudConnection = new WebSocket('ws://cloud.example.com:8080');

    this.cloudConnection.on('open', () => {
      console.log('Cloud connection established');
      this.flushToCloud(); // Send buffered data upon connection
    });

    this.cloudConnection.on('message', (message) => {
      this.handleCloudMessage(message);
    });

    this.cloudConnection.on('close', () => {
      console.log('Cloud connection closed');
      this.cloudConnection = null;
      // Implement reconnection logic...
    });
  }
}
