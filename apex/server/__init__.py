"""The server: uvicorn in front of an app, in one process or several."""

from apex.server.uvicorn import serve_app

__all__ = ["serve_app"]
