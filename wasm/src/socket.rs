//! The WebSocket, which JavaScript holds.
