"""Transports: HTTP and Socket.IO build calls, and write what comes back."""
