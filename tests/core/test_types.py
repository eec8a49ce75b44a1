"""What users of apex write, as a strict type checker sees it: apart from this project, by what the package says."""

from __future__ import annotations

import re
import subprocess
import sys
from textwrap import dedent
from typing import NamedTuple

import pytest

from tests.docs.blocks import Block, blocks_of
from tests.docs.languages import FILE
from tests.docs.test_pages import PAGES
from tests.process.commands import ROOT

OF_A_PROJECT = re.compile(r"^from (?:services|hooks|migrations|tests)\b", re.M)


class Error(NamedTuple):
    line: int
    code: str
    message: str


LOOSE = "# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, check-untyped-defs\n"
"""The pages leave types out where they say nothing."""

RIGHT = {
    "records": """
        from typing import TypedDict
        from apex import Apex
        from apex.service import BoundService
        from apex.types import Page

        class Message(TypedDict):
            id: int
            text: str

        async def read(app: Apex) -> list[str]:
            messages: BoundService[Message, Page[Message]] = app.service("messages")
            page = await messages.find({"query": {"$limit": 5}})
            first: Message = await messages.get(page["data"][0]["id"])
            made = await messages.create([{"text": "Hello"}, {"text": first["text"]}])
            return [message["text"] for message in made]
    """,
    "hooks": """
        from collections.abc import Mapping
        from typing import Any, TypedDict
        from apex import Apex, Around, Context, Hook, HookMap, MemoryService, Next, authenticate, validate_query
        from apex.common import iff, is_provider, keep
        from apex.hooks import run_before

        class Draft(TypedDict):
            text: str

        class Message(Draft):
            id: int

        def sign(context: Context[Draft]) -> None:
            context.data["text"] += " (signed)"
            query: Mapping[str, Any] = context.params.query
            context.params.query = {**query, "$limit": 1}

        async def look(context: Context[Draft, Message]) -> None:
            id: int = context.result["id"]
            context.result = {"id": id, "text": context.data["text"]}
            user: Any = context.params.user
            await context.service.get(user["id"])
            await context.app.service("messages").find({"query": {"id": id}})

        def laid_over(context: Context) -> dict[str, Any]:
            return {"result": context.data}

        async def timed(context: Context, next: Next) -> None:
            await next()
            context.http = {"headers": {"X-Id": str(context.id)}}

        def explain(context: Context) -> None:
            if isinstance(context.error, LookupError) and context.original is not None:
                context.error = KeyError(context.original.path)

        def refuse(word: str) -> Hook:
            def refuse(context: Context[Draft]) -> None:
                if word in context.data["text"]:
                    raise ValueError(word)
            return refuse

        class Limit:
            async def __call__(self, context: Context, next: Next) -> None:
                await next()

        around: Around = timed
        hooks: HookMap = {
            "around": {"all": [run_before(authenticate("jwt")), Limit(), around]},
            "before": {"all": [validate_query], "create": [sign, refuse("x"), iff(is_provider("rest"), keep("text"))]},
            "after": {"get": look, "find": [laid_over]},
            "error": [explain],
        }
        app = Apex().use("messages", MemoryService(), hooks=hooks)
        app.hooks({"before": {"all": [validate_query]}, "error": {"all": [explain]}})
        app.hooks([timed])
        app.hooks({"setup": [timed]})
        checked = {"all": [validate_query, authenticate("jwt")], "create": [sign, look], "get": iff(True, keep("text"))}
        app.use("drafts", MemoryService(), hooks={"before": checked, "after": {"get": look}})
        whole = {"around": {"all": [timed, authenticate("jwt")]}, "before": checked, "error": explain}
        app.use("others", MemoryService(), hooks=whole)
        app.hooks(whole)
        app.service("drafts").hooks({"before": checked})
        app.service("messages").hooks({"get": [timed]}).hooks({"after": {"create": [lambda context: None]}})
    """,
    "services": """
        from collections.abc import Mapping
        from typing import Any, TypedDict
        from sqlalchemy import Column, Integer, MetaData, Table
        from apex import Apex, MemoryService, Params, Schema, Service, SQLService, database, load_config, rest, sockets
        from apex import Connection, Context, batch, bus, validate_data
        from apex.query.coercion import integer, text
        from apex.describe import describe
        from apex.schema.validation import Text, fields
        from apex.types import Id

        class Draft(TypedDict):
            text: str

        class Message(Draft):
            id: int

        class MessageSchema(Schema):
            text = Text(required=True, max=100)
            size = fields.Integer(allow_none=True)

        class Messages(MemoryService):
            paginate = {"default": 10, "max": 50}
            methods = ("find", "get", "create", "shout")

            async def get(self, id: Id, params: Params) -> Message:
                found: Message = await super().get(id, params)
                return found

            async def create(self, data: Draft, params: Params) -> Message:
                stored = await super().create({**data, "size": len(data["text"])}, params)
                return {"id": stored["id"], "text": data["text"]}

            @describe(result="record", errors=(422,))
            async def shout(self, data: Draft, params: Params) -> Message:
                return await self.create({"text": data["text"].upper()}, params)

        class Notes(SQLService):
            table = Table("notes", MetaData(), Column("id", Integer, primary_key=True))
            multi = True
            private = ("secret",)

            async def setup(self, app: Apex, path: str) -> None:
                await super().setup(app, path)
                await self.database.create_all(self.table.metadata)

        class Clock(Service):
            events = ("tick",)

            async def find(self, params: Params) -> list[dict[str, int]]:
                return [{"hour": int(params.query.get("hour", 0))}]

        class Plain:
            async def get(self, id: Id, params: Params) -> str:
                return f"{id} {params.provider} {params.headers['x-id']}"

        def to_everyone(data: Message, context: Context) -> Any:
            return app.channel("everyone").filter(lambda connection: connection.user is not None)

        def enter(connection: Connection) -> None:
            app.channel("everyone").join(connection)

        config: Mapping[str, Any] = load_config("config")
        app = Apex(config).configure(database("sqlite:///notes.db")).configure(rest).configure(sockets)
        app.configure(batch).configure(bus).set("limit", 3)
        checked = validate_data({"create": MessageSchema, "shout": MessageSchema})
        messages = Messages(fields={"id": integer, "text": text}, store={1: {"id": 1}}, multi=["create"])
        app.use("messages", messages, hooks={"before": {"all": [checked]}}, methods=["get", "shout"])
        app.use("notes", Notes(paginate=False, operators=["$like"])).use("clock", Clock()).use("plain", Plain())
        app.on("connection", enter)
        app.on("connection", lambda connection: app.channel("everyone").join(connection))
        app.publish(lambda data, context: app.channel("everyone")).publish("created", to_everyone)
        app.publish(lambda data: app.channel("everyone")).publish("created", lambda data: None)
        app.service("messages").publish("created", to_everyone).on("created", lambda data, context: None)

        async def use() -> None:
            service = app.service("messages")
            page = await service.find({"query": {"$limit": 1}})
            made = await service.create({"text": "hello"}, {"provider": None})
            loud = await service.shout({"text": made["text"]})
            print(page["data"], loud, (await service._run("get", id=1)).result)  # pyright: ignore[reportPrivateUsage]
            message: Message = await messages.shout({"text": "a"}, Params())
            service.emit("created", message)
    """,
}


def readme() -> str:
    """Return the example of the README with the types that its readers add."""
    (service,) = [block.text for block in blocks_of(ROOT / "README.md") if block.lang == "python"]
    for plain, typed in {
        "from apex import Apex, ": "from apex import Apex, Context, ",
        "def shout(context):": "def shout(context: Context) -> None:",
    }.items():
        assert plain in service, plain
        service = service.replace(plain, typed)
    return service


RIGHT["readme"] = readme()

WRONG = """
    from typing import TypedDict
    from apex import Apex, Context, Hook, HookMap, MemoryService, Next, Params, SQLService, validate_data

    class Draft(TypedDict):
        text: str

    def no_context() -> None: ...
    def of_text(context: str) -> None: ...
    async def no_next(context: Context, next: str) -> None: ...

    app = Apex()
    first: HookMap = {"before": {"all": [no_context]}}  # list-item: "Callable[[], None]"; expected "Hook | Around"
    second: HookMap = {"before": {"all": [of_text]}}  # list-item: "Callable[[str], None]"; expected "Hook | Around"
    app.hooks([no_next])  # list-item: expected "Hook | Around"
    hook: Hook = of_text  # assignment: variable has type "Hook"
    hooks: HookMap = {"after": 1}  # dict-item: "str": "int"

    def sign(context: Context[Draft]) -> None:
        context.data["txt"] = ""  # typeddict-unknown-key: has no key "txt"
        context.data = {"text": 1}  # typeddict-item: "text" has type "str"
        context.reslt = None  # attr-defined: has no attribute "reslt"; maybe "result"

    def read(context: Context[Draft, int]) -> str:
        context.params.query["text"] = ""  # index: indexed assignment
        return context.result  # return-value: got "int", expected "str"

    async def forgets(context: Context, next: Next) -> None:
        next()  # unused-coroutine: must be used

    class Messages(MemoryService):
        paginate = "all"  # assignment: defined the type as "Mapping[str, int] | Literal[False]"
        async def get(self, id: int) -> None: ...  # override: Signature of "get" incompatible with supertype

    MemoryService(pagination={})  # call-arg: did you mean "paginate"?
    SQLService(multi=1)  # arg-type: expected "bool | Sequence[str]"
    app.use("messages", MemoryService(), method=["find"])  # call-arg: did you mean "methods"?
    app.use(1, MemoryService())  # arg-type: expected "str"
    app.publish(1)  # arg-type: expected "str | Callable[[Any, Context[Any, Any]], Any] | Callable[[Any], Any]
    app.servise("messages")  # attr-defined: maybe "service" or "services"?
    validate_data(Draft)  # arg-type: expected "type[Schema] | Mapping[str, type[Schema]]"

    async def use(params: Params) -> None:
        await app.service("messages").get()  # call-arg: Missing positional argument "id"
"""


EXPECTED = re.compile("  # (.+?): (.+)$")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Error]]:
    """What mypy says of each file that there is something to say of."""
    folder = tmp_path_factory.mktemp("users")
    for name, text in {**RIGHT, "wrong": WRONG, **pages()}.items():
        (folder / f"{name}.py").write_text(dedent(text), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--hide-error-context", "."]
    printed = subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout
    assert f"checked {len(RIGHT) + len(pages()) + 1} source files" in printed, printed
    found: dict[str, list[Error]] = {}
    for name, line, message, code in re.findall(r"^(\w+)\.py:(\d+): error: (.*)  \[([\w-]+)\]$", printed, re.M):
        found.setdefault(name, []).append(Error(int(line), code, message))
    return found


def pages() -> dict[str, str]:
    """The Python of the documentation, block by block, but that of a project, whose modules are not there."""
    return {
        module_of(block, blocks): LOOSE + FILE.sub("", block.text, count=1)
        for page in PAGES
        for blocks in [blocks_of(page)]
        for block in blocks
        if block.lang == "python" and not OF_A_PROJECT.search(block.text)
    }


def module_of(block: Block, blocks: list[Block]) -> str:
    """Return a name for a block: that of its file, if another block of the page imports it."""
    file = FILE.match(block.text)
    module = file[1].removesuffix(".py") if file else ""
    if module and any(f"from {module} import" in other.text for other in blocks):
        return module
    return re.sub(r"\W", "_", f"{block.page.relative_to(ROOT)}_{block.line}")


@pytest.mark.parametrize("name", [*RIGHT, *pages()])
def test_what_is_right_has_no_errors(name: str, said: dict[str, list[Error]]) -> None:
    assert said.get(name, []) == []


def test_what_is_wrong_is_told_where_it_is(said: dict[str, list[Error]]) -> None:
    lines = enumerate(dedent(WRONG).splitlines(), start=1)
    expected = [Error(number, *found.groups()) for number, line in lines if (found := EXPECTED.search(line))]
    assert [error[:2] for error in said["wrong"]] == [error[:2] for error in expected]
    for error, (_, _, words) in zip(said["wrong"], expected, strict=True):
        assert words in error.message
