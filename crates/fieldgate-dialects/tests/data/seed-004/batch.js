{
        type: 'batch',
        data: batchToSend
      }