{
    type: 'auth',
    deviceId: 'sensor-001',
    token: 'device-secret-token'
  }