"""Real-time: the channels of connections, and the bus between the processes of an app."""
