"""The Socket.IO transport."""
