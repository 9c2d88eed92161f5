{
        type: 'mqtt',
        topic,
        payload: message.toString()
      }