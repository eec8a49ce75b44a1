"""The server's WebSockets: uvicorn's, which also take a frame that was built once for many of them."""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from apex.wire import FRAMES


class FrameProtocol(WebSocketsSansIOProtocol):
    """For ``ws`` of ``uvicorn.Config``. An app finds ``write`` in the extensions of its scope."""

    async def run_asgi(self) -> None:
        self.scope["extensions"][FRAMES] = {"write": self.write}
        await super().run_asgi()

    def write(self, frame: bytes) -> bool:
        """Writes a whole frame, after all that was sent before; False where it would have to wait, or nobody reads."""
        if self.conn.state is not State.OPEN or not self.writable.is_set() or self.transport.is_closing():
            return False
        self.transport.write(frame)
        return True
