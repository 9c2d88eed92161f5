{
    type: 'status',
    deviceId: 'sensor-001',
    timestamp: Date.now(),
    data: sensorData
  }