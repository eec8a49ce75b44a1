"""Turns blocks of each language into bash."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from zlib import crc32

import yaml

from tests.interop.node import STRICT

FILE = re.compile(r"(?:#|//|<!--) ([\w./-]+\.\w+)(?: -->)?\n+")
SERVER = re.compile(r"^(?!#)(.*\bserves?\b.*)$", re.M)


class NotRun(Exception):
    """A block that nothing runs."""


PRELUDE = """\
serve() { servers="$servers $!"; grep -qE 'Serving at|Uvicorn running' < <(tail -n +1 -f --pid=$! "$1") || exit 1; }
stop() { for pid in $servers; do kill $pid; wait $pid || true; done; servers=; }
"""
"""``serve`` waits until the newest server says that it serves. ``stop`` ends all servers."""

NGINX = """\
pid nginx.pid; events {}
http { upstream apex { server 127.0.0.1:3030; } server { listen 8080;
%s}}
"""


def command_of(lang: str, text: str) -> str:
    """Return the command that runs a block, or that writes its file."""
    named = FILE.match(text)
    return file(named[1], text[named.end() :]) if named else LANGUAGES[lang](text)


def file(path: str, text: str) -> str:
    # The folder of a page has links to files of the checkout, which a page must not write to.
    return f"mkdir -p $(dirname {path})\nrm -f {path}\n{fed(f'cat > {path}')(text)}"


def fed(command: str) -> Callable[[str], str]:
    """Return a function that gives a block to a command as its stdin."""
    return lambda text: f"{command} <<'END-OF-BLOCK'\n{text}END-OF-BLOCK"


def bash(text: str) -> str:
    """Return commands with their servers in the background. ``make test``, which would run this test, only prints."""
    return SERVER.sub(lambda line: serving(line[1]), text.replace("make test", "make --dry-run test"))


def serving(line: str) -> str:
    command = re.sub(r"\s+#.*", "", line)
    before = "" if command.endswith("&") else "stop; "
    log = f"server-{crc32(line.encode())}.log"
    # The log is emptied first, as the line may have started a server before, which has said there that it serves.
    return f"{before}> {log}; >> {log} 2>&1 {command.rstrip('& ')} &\nserve {log}"


def javascript(text: str) -> str:
    """Return the command of a program that stops at its end, even if a socket is open."""
    return fed("node --input-type=module -")(f"{text}\nprocess.exit()\n")


def typescript(text: str) -> str:
    """Return the commands that compile a program strictly, next to the files of the page, and run it."""
    compiled = f"node node_modules/typescript/bin/tsc {' '.join(STRICT)} block.mts"
    return f"{file('block.mts', text)}\n{compiled}\necho 'process.exit()' >> block.mjs\nnode block.mjs"


def yaml_paths(text: str) -> str:
    """Return the commands that request the paths of a block. Raises NotRun if it has none."""
    paths = list(values(list(yaml.safe_load_all(text)), "path"))
    if not paths:
        raise NotRun(f"there is no path to ask for in {text}")
    return "\n".join(f"curl -o /dev/null 'http://localhost:3030{path}'" for path in paths)


def values(value: object, key: str) -> Iterator[str]:
    """Yield the values of a key at any depth."""
    if isinstance(value, dict):
        yield from [str(value[key])] if key in value else []
        value = list(value.values())
    if isinstance(value, list):
        for child in value:
            yield from values(child, key)


def nginx(text: str) -> str:
    return f"{file('block.conf', NGINX % text)}\nnginx -t -q -p . -c block.conf"


def unnamed(text: str) -> str:
    """Raise NotRun, as a block of settings or of a component must begin with the name of its file."""
    raise NotRun(f"no file is named in {text}")


LANGUAGES: dict[str, Callable[[str], str]] = {
    "bash": bash,
    "python": fed("python -W error -"),
    "js": javascript,
    "javascript": javascript,
    "ts": typescript,
    "yaml": yaml_paths,
    "nginx": nginx,
    "jsx": unnamed,
    "toml": unnamed,
    "html": unnamed,
}
