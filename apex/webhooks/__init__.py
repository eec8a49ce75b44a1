"""Webhooks: the events of an app are posted to URLs that its users register, in order for each record and signed."""

from typing import TYPE_CHECKING

from apex._lazy import lazy_names

if TYPE_CHECKING:
    from apex.webhooks.service import Deliveries, Webhooks, WebhookSchema
    from apex.webhooks.tables import deliveries_table, webhooks_table

__all__ = ["Deliveries", "WebhookSchema", "Webhooks", "deliveries_table", "webhooks_table"]

__getattr__ = lazy_names(
    __name__,
    {
        "service": ["Deliveries", "WebhookSchema", "Webhooks"],
        "tables": ["deliveries_table", "webhooks_table"],
    },
)
