"""What moves: the application, its connections, the hub that ties them, the outbox of each."""
