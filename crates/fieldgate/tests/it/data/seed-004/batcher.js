class DataBatcher {
  constructor(flushInterval, maxBatchSize) {
    this.batch = [];
    this.flushInterval = flushInterval;
    this.maxBatchSize = maxBatchSize;
    this.timer = null;
  }

  addData(data) {
    this.batch.push(data);

    if (this.batch.length >= this.maxBatchSize) {
      this.flush();
    } else if (!this.timer) {
      this.timer = setTimeout(() => this.flush(), this.flushInterval);
    }
  }

  flush() {
    if (this.timer) {
      clearTimeout(this.timer);
      this.timer = null;
    }

    if (this.batch.length > 0) {
      const batchToSend = this.batch.splice(0, this.batch.length);
      ws.send(JSON.stringify({
        type: 'batch',
        data: batchToSend
      }));
    }
  }
}

// Usage example
const batcher = new DataBatcher(5000, 100); // Flush every 5 seconds or 100 data points

// Device sensor data collection
setInterval(() => {
  const sensorData = readSensors();
  batcher.addData({
    deviceId: 'sensor-001',
    timestamp: Date.now(),
    data: sensorData
  });
}, 1000); // Collect every 1 second
