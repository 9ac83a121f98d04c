"""The edges: accepted sockets, request heads, WebSocket, the HTTP application's protocol."""
