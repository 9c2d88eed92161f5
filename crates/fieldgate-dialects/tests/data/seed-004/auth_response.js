{
          type: 'auth_response',
          status: 'success',
          timestamp: Date.now()
        }