"""Related records beside an id, fetched for a whole page at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from apex import Context


def join(
    name: str, *, service: str, key: str, fields: Sequence[str], when: str
) -> Callable[[Context], Awaitable[None]]:
    """After find, when the query's filter ``when`` is true: each row gets under ``name`` the record that its ``key``
    refers to, cut to ``fields``, or None.
    """

    async def join(context: Context) -> None:
        if not context.params.query.get(when):
            return
        found = context.result
        rows = [row for row in (found["data"] if isinstance(found, dict) else found) if key in row]
        ids = sorted({row[key] for row in rows if row[key] is not None})
        query = {"id": {"$in": ids}, "$select": list(fields)}
        joined = await context.app.service(service).find({"query": query, "paginate": False}) if ids else []
        by_id = {record["id"]: {field: record[field] for field in fields} for record in joined}
        for row in rows:
            row[name] = by_id.get(row[key])

    return join
