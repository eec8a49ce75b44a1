"""Events: what a service tells its listeners, and the connections that publishers choose."""

from apex.events.events import Announcement, Events, keys_of
from apex.events.log import Entries, EventLog
from apex.events.messages import EVENTS, MOVED_TO, call_of, context_of, records_of, sent_by, sent_part
from apex.events.publishers import AnyPublisher, Delivery, Publishers

__all__ = [
    "EVENTS", "MOVED_TO", "Announcement", "AnyPublisher", "Delivery", "Entries", "EventLog", "Events", "Publishers",
    "call_of", "context_of", "keys_of", "records_of", "sent_by", "sent_part",
]  # fmt: skip
