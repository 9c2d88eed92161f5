// Device-side encoding example
const protobuf = require('protobufjs');
const root = protobuf.loadSync('iot_data.proto');
const IoTData = root.lookupType('IoTData');

function encodeSensorData(deviceId, readings) {
  const payload = {
    device_id: deviceId,
    timestamp: Date.now(),
    readings: readings.map(r => ({
      sensor_id: r.sensorId,
      value: r.value,
      unit: r.unit
    }))
  };

  const errMsg = IoTData.verify(payload);
  if (errMsg) throw Error(errMsg);

  const message = IoTData.create(payload);
  return IoTData.encode(message).finish();
}

// Send binary data
ws.send(encodeSensorData('sensor-001', [
  {sensorId: 'temp', value: 23.5, unit: 'C'},
  {sensorId: 'humid', value: 45.2, unit: '%'}
]));
