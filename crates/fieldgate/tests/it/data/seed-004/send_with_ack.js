// Device-side QoS 1 Implementation
function sendWithAck(ws, message) {
  return new Promise((resolve, reject) => {
    const msgId = generateUUID();
    const timedMessage = {
      ...message,
      msgid: msgId
    };

    const timeout = setTimeout(() => {
      reject(new Error('ACK timeout'));
    }, 5000); // 5-second timeout

    const ackHandler = (response) => {
      if (response.msgid === msgId) {
        clearTimeout(timeout);
        ws.off('message', ackHandler);
        resolve(response);
      }
    };

    ws.on('message', ackHandler);
    ws.send(JSON.stringify(timedMessage));
  });
}
