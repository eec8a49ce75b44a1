"""Services: what may be one, what callers may use of it, custom methods and events."""

from __future__ import annotations

from typing import Any

import pytest

from apex.adapters.memory import MemoryService
from apex.app import Apex
from apex.context import Context, Params
from apex.errors import BadRequest
from apex.service import Call, Service


class Notes(Service):
    """The six standard methods, and one of its own."""

    limit = 7

    async def find(self, params: Params) -> Any:
        return params.query

    async def get(self, id: Any, params: Params) -> Any:
        return {"id": id}

    async def create(self, data: Any, params: Params) -> Any:
        return data

    async def update(self, id: Any, data: Any, params: Params) -> Any:
        return [id, data]

    async def patch(self, id: Any, data: Any, params: Params) -> Any:
        return data

    async def remove(self, id: Any, params: Params) -> Any:
        return {"id": id}

    async def archive(self, data: Any, params: Params) -> Any:
        return {"archived": data, "by": params.provider}

    async def unlisted(self, data: Any, params: Params) -> Any:
        return "unlisted"


def app(**options: Any) -> Apex:
    return Apex().use("notes", Notes(), **options)


async def test_every_method_takes_its_arguments() -> None:
    notes = app().service("notes")
    assert await notes.find({"query": {"a": 1}}) == {"a": 1}
    assert await notes.get(1) == await notes.remove(1) == {"id": 1}
    assert await notes.create({"a": 1}) == await notes.patch(None, {"a": 1}) == {"a": 1}
    assert await notes.update(1, {"a": 1}) == [1, {"a": 1}]


async def test_params_are_never_missing() -> None:
    for params in (None, {}, {"query": None}, {"scope": None}):
        assert await app().service("notes").find(params) == {}


async def test_the_methods_that_are_exposed_are_the_standard_ones_that_are_there() -> None:
    class Small:
        async def get(self, id: Any, params: Params) -> Any: ...

        async def extra(self, data: Any, params: Params) -> Any: ...

    assert Apex().use("small", Small()).service("small")._options.methods == ("get",)
    assert len(app().service("notes")._options.methods) == 6


def test_listed_methods_replace_the_standard_ones() -> None:
    assert app(methods=["find", "archive"]).service("notes")._options.methods == ("find", "archive")
    assert app(methods=[]).service("notes")._options.methods == ()


def test_a_class_lists_its_methods_and_events() -> None:
    class Listed(Notes):
        methods = ("get", "archive")
        events = ("shouted",)

    options = Apex().use("notes", Listed()).service("notes")._options
    assert (options.methods, options.events) == (("get", "archive"), ("shouted",))


async def test_calls_from_inside_are_never_restricted() -> None:
    assert await app(methods=["find"]).service("notes").get(1) == {"id": 1}


async def test_a_custom_method_takes_data_and_runs_with_hooks() -> None:
    seen: list[Any] = []
    notes = app(methods=["archive"], hooks={"before": {"archive": [lambda context: seen.append(context.method)]}})
    result = await notes.service("notes").archive({"id": 1}, {"provider": "rest"})
    assert (result, seen) == ({"archived": {"id": 1}, "by": "rest"}, ["archive"])


async def test_a_custom_method_can_listen_and_be_taken_away() -> None:
    notes = app(methods=["archive"]).service("notes")
    notes.on("created", notes.archive)
    notes.off("created", notes.archive)
    assert (notes.listens("created"), notes.archive == notes.archive) == (False, True)


async def test_a_method_that_is_not_listed_has_no_hooks() -> None:
    notes = app().service("notes")
    assert await notes.unlisted({}, Params()) == "unlisted"
    with pytest.raises(AttributeError, match="Method unlisted of 'notes' is not hooked"):
        await notes._run("unlisted")
    with pytest.raises(AttributeError, match="nothing"):
        await notes.nothing({})


async def test_a_method_that_is_not_there_cannot_be_called() -> None:
    class Small:
        async def get(self, id: Any, params: Params) -> Any: ...

    with pytest.raises(AttributeError, match="Method create of 'small' is not hooked"):
        await Apex().use("small", Small()).service("small").create({})


def test_attributes_of_the_service_are_reached() -> None:
    notes = app().service("notes")
    assert (notes.limit, notes._path, isinstance(notes.service, Notes)) == (7, "notes", True)


def test_an_object_without_methods_is_no_service() -> None:
    for empty in (object(), None, 5):
        with pytest.raises(ValueError, match="Invalid service object passed for path `empty`"):
            Apex().use("empty", empty)


def test_a_service_may_have_setup_alone() -> None:
    class Worker:
        async def setup(self, app: Apex, path: str) -> None: ...

    assert Apex().use("worker", Worker()).service("worker")._options.methods == ()


@pytest.mark.parametrize(
    "name", ["on", "emit", "hooks", "all", "around", "before", "after", "error", "setup", "teardown", "publish",
             "service", "once", "_private", "__init__"],
)  # fmt: skip
def test_protected_names_are_no_methods(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' on service 'notes' is not allowed as a custom method name"):
        app(methods=[name])


@pytest.mark.parametrize(
    "name", ["call", "run", "compose", "options", "events", "methods", "store", "chains", "app", "path", "hookable",
             "publishers", "fields", "id", "query", "params"],
)  # fmt: skip
async def test_a_custom_method_may_have_any_other_name(name: str) -> None:
    async def custom(self: Any, data: Any, params: Params) -> Any:
        return [name, data]

    async def get(self: Any, id: Any, params: Params) -> Any:
        return await getattr(self, name)(id, params)

    ran: list[str] = []
    named = type("Named", (Service,), {name: custom, "get": get})()
    registered = Apex().use("named", named, methods=["get", name], events=["moved"], hooks=[tracing(ran)])
    bound = registered.service("named")
    assert await getattr(bound, name)(1) == await bound.get(1) == [name, 1]
    assert (ran, bound.publish("moved", lambda data, context: None) is bound) == ([name, "get"], True)


def tracing(ran: list[str]) -> Any:
    async def trace(context: Context, next: Any) -> None:
        ran.append(context.method)
        await next()

    return trace


async def test_attributes_of_a_service_may_have_any_other_name() -> None:
    class Files(Notes):
        path, options, store = "/data", {"a": 1}, ["kept"]

    files = Apex().use("files", Files()).service("files")
    assert (files.path, files.options, files.store) == ("/data", {"a": 1}, ["kept"])


def test_a_custom_method_with_a_name_that_an_adapter_uses_is_refused() -> None:
    async def custom(self: Any, data: Any, params: Params) -> Any: ...

    for name in ("store", "syntax", "fields", "cursors", "pagination"):
        with pytest.raises(ValueError, match=f"'{name}' of service 'rows' is a name that its base class uses: rename"):
            Apex().use("rows", type("Rows", (MemoryService,), {name: custom})(), methods=[name])


def test_methods_must_be_there_and_asynchronous() -> None:
    class Plain:
        def get(self, id: Any, params: Params) -> Any: ...

    with pytest.raises(ValueError, match="Service 'notes' has no method 'missing'"):
        app(methods=["missing"])
    with pytest.raises(TypeError, match="Method 'get' of service 'plain' must be declared with 'async def'"):
        Apex().use("plain", Plain())


@pytest.mark.parametrize(
    ("method", "arguments", "event"),
    [("create", [{"a": 1}], "created"), ("patch", [1, {"a": 1}], "patched"), ("remove", [1], "removed")],
)
async def test_a_change_is_told_after_all_hooks(method: str, arguments: list[Any], event: str) -> None:
    heard: list[Any] = []
    notes = app(hooks={"after": [lambda context: {"result": {"changed": True}}]}).service("notes")
    notes.on(event, lambda item, context: heard.append((item, context.method)))
    await getattr(notes, method)(*arguments)
    assert heard == [({"changed": True}, method)]


async def test_a_list_is_told_item_by_item() -> None:
    heard: list[Any] = []
    notes = Apex().use("notes", Notes(), multi=True).service("notes")
    notes.on("created", lambda item, context: heard.append(item))
    await notes.create([{"a": 1}, {"a": 2}])
    await notes.create([])
    assert heard == [{"a": 1}, {"a": 2}]


async def test_reads_and_custom_methods_tell_nothing() -> None:
    heard: list[Any] = []
    notes = app(methods=["find", "get", "archive"]).service("notes")
    for event in ("found", "got", "archive", "archived", "created", "None"):
        notes.on(event, lambda *args: heard.append(args))
    for call in (notes.find(), notes.get(1), notes.archive({})):
        await call
    assert heard == []


async def test_a_call_that_fails_tells_nothing() -> None:
    heard: list[Any] = []

    def fail(context: Context) -> None:
        raise BadRequest("no")

    notes = app(hooks={"after": fail}).service("notes")
    notes.on("created", lambda *args: heard.append(args))
    with pytest.raises(BadRequest):
        await notes.create({})
    assert heard == []


async def test_an_event_of_none_tells_nothing_and_another_name_tells_that() -> None:
    heard: list[str] = []
    notes = app(hooks={"before": {"create": [lambda context: {"event": context.data["event"]}]}}).service("notes")
    for event in ("created", "imported"):
        notes.on(event, lambda item, context, event=event: heard.append(event))
    await notes.create({"event": None})
    await notes.create({"event": "imported"})
    assert heard == ["imported"]


async def test_a_standard_event_in_the_list_is_left_to_the_service() -> None:
    heard: list[Any] = []
    notes = app(events=["created"]).service("notes")
    notes.on("created", lambda *args: heard.append(args))
    await notes.create({})
    notes.emit("created", {"by": "hand"})
    assert heard == [({"by": "hand"},)]


async def test_listeners_come_and_go() -> None:
    heard: list[str] = []

    def always(*args: Any) -> None:
        heard.append("always")

    notes = app().service("notes")
    notes.on("created", always)
    notes.once("created", lambda *args: heard.append("once"))
    await notes.create({})
    notes.off("created", always)
    notes.off("created", always)
    await notes.create({})
    assert heard == ["always", "once"]


async def test_a_listener_that_fails_does_not_fail_the_call(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []

    def fail(*args: Any) -> None:
        raise ValueError("listener")

    notes = app().service("notes")
    notes.on("created", fail)
    notes.on("created", lambda item, context: heard.append(item))
    assert await notes.create({"a": 1}) == {"a": 1}
    assert heard == [{"a": 1}]
    assert "A listener of 'created' failed" in caplog.text


async def test_a_transports_call_gives_the_context() -> None:
    application = app()
    call = Call(application.service("notes"), "get", id=5, params=Params({"provider": "rest"}))
    context = await application.call(call)
    assert (context.result, context.path, context.method, context.http) == ({"id": 5}, "notes", "get", {})


async def test_http_is_for_rest_alone() -> None:
    context = await app().service("notes")._run("get", id=1)
    assert context.http is None


async def test_a_call_made_with_anothers_params_has_its_own_scope() -> None:
    async def ask(context: Context) -> None:
        await context.app.service("others").find(context.params)
        assert (context.params.scope, context.params.user) == ({"tenant": 1}, None)

    application = app(hooks={"before": [ask]}).use("others", Notes())
    application.service("others").hooks({"before": lambda c: c.params.scope.update(deleted=None)})
    application.service("others").hooks({"before": lambda c: c.params.update(user=1)})
    await application.service("notes").find({"scope": {"tenant": 1}})


def test_params_are_a_dict_with_attributes() -> None:
    params = Params({"query": {"a": 1}, "user": {"id": 1}})
    params.provider = "rest"
    assert (params.user, params["provider"], params.missing) == ({"id": 1}, "rest", None)
    assert params == {"query": {"a": 1}, "user": {"id": 1}, "scope": {}, "provider": "rest"}


async def test_a_context_describes_itself_for_logs() -> None:
    context = await app().service("notes")._run("get", id=1)
    assert context.to_dict() == {
        "path": "notes", "method": "get", "type": "around", "id": 1, "data": None,
        "params": {"query": {}, "scope": {}}, "result": {"id": 1}, "error": None, "event": None,
    }  # fmt: skip


async def test_dispatch_replaces_the_result_outside() -> None:
    notes = app(hooks={"after": lambda context: {"dispatch": {"safe": True}}}).service("notes")
    context = await notes._run("get", id=1)
    assert (context.result, context.external) == ({"id": 1}, {"safe": True})


def test_an_option_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="Unknown option 'method'"):
        Apex().use("people", MemoryService(), method=("find",))  # type: ignore[call-arg]
