"""A day's work with the contacts of the CRM, by a client of openapi-python-client."""

import json
import os
from uuid import uuid4

from generated import AuthenticatedClient
from generated.api.contacts import (
    contacts_create,
    contacts_find,
    contacts_get,
    contacts_patch,
    contacts_remove,
    contacts_search,
)
from generated.api.events import events_find
from generated.api.webhooks import webhooks_create, webhooks_find, webhooks_rotate
from generated.models import (
    ContactCreate,
    ContactPatch,
    ContactSearch,
    ContactSearchSearchIn,
    ContactsFindSelectItem,
    IntegerOperators,
    WebhookCreate,
    WebhookRotate,
)

client = AuthenticatedClient(os.environ["URL"], token=os.environ["TOKEN"])


def found(**query):
    page = contacts_find.sync(client=client, organization_id=456, **query)
    return [contact.id for contact in page.data]


body = ContactCreate(organization_id=456, first_name="Pia")
id = contacts_create.sync(client=client, body=body, idempotency_key=str(uuid4())).id
assert found(first_name="Pia") == [id]
assert found(and_=json.dumps([{"id": {"$gt": 100, "$in": [123, id]}}]), sort="-id") == [id, 123]
assert found(or_=json.dumps([{"first_name": "Pia"}, {"id": {"$lt": 124}}]), sort="id") == [123, id]
assert id in found(company_id="null")
assert 123 not in found(company_id="null")
page = contacts_find.sync(client=client, organization_id=456, id=id, select=[ContactsFindSelectItem.FIRST_NAME])
assert page.data[0].to_dict() == {"first_name": "Pia", "id": id}

# This generator writes an object of operators as text. The server says so, and how to ask.
refused = contacts_find.sync(client=client, organization_id=456, first_name="Pia", id=IntegerOperators(gt=100))
assert refused.message.endswith('or use $and=[{"id":{"$gt":5}}]')

before = contacts_find.sync(client=client, organization_id=456, limit=1, position=True).position
assert contacts_patch.sync(id, client=client, body=ContactPatch(first_name="Pía")).first_name == "Pía"
events = events_find.sync(client=client, organization_id=456, after=before, wait=5, record_id=str(id), event="patched")
assert [(event.event, event.organization_id) for event in events.data] == [("patched", 456)]
gone = events_find.sync(client=client, organization_id=456, after="0.zz.1")
assert (gone.code, gone.name) == (410, "Gone")
made = WebhookCreate(organization_id=456, url="https://webhooks.example/crm", events=["contacts *"])
webhook = webhooks_create.sync(client=client, body=made)
rotated = webhooks_rotate.sync(client=client, body=WebhookRotate(id=webhook.id, organization_id=456))
assert webhook.secret != rotated.secret
assert webhook.id in [one.id for one in webhooks_find.sync(client=client, organization_id=456).data]
term = ContactSearch(organization_id=456, search_term="pia", search_in=ContactSearchSearchIn.NAME)
assert [one.id for one in contacts_search.sync(client=client, body=term).data] == [id]
assert contacts_remove.sync(id, client=client).deleted_at is not None
error = contacts_get.sync(id, client=client)
assert (error.code, error.name) == (404, "NotFound")
