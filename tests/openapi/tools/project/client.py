"""A day's work with the messages of a new project, by a client of openapi-python-client."""

import json
import os

from generated import AuthenticatedClient
from generated.api.messages import messages_create, messages_find, messages_get, messages_patch, messages_remove
from generated.models import MessagesCreate, MessagesFindSelectItem, MessagesPatch

client = AuthenticatedClient(os.environ["URL"], token=os.environ["TOKEN"])
id = messages_create.sync(client=client, body=MessagesCreate(text="Python")).id
asked = json.dumps([{"text": "Python", "id": {"$gte": id}}])
page = messages_find.sync(
    client=client, and_=asked, sort="-created_at,id", select=[MessagesFindSelectItem.ID, MessagesFindSelectItem.TEXT]
)
assert [one.to_dict() for one in page.data] == [{"id": id, "text": "Python"}]
assert messages_patch.sync(id, client=client, body=MessagesPatch(text="Pythons")).text == "Pythons"
assert messages_remove.sync(id, client=client).id == id
error = messages_get.sync(id, client=client)
assert (error.code, error.name) == (404, "NotFound")
