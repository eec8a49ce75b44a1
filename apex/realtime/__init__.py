"""Real-time: the channels of connections, and the bus between the processes of an app."""

from apex.realtime.bus import Bus, bus
from apex.realtime.channels import Channel, Channels, Connection, NamedChannel

__all__ = ["Bus", "Channel", "Channels", "Connection", "NamedChannel", "bus"]
