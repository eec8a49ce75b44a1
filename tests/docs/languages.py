"""What runs a block: for each language, the bash that it becomes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from zlib import crc32

import yaml

from tests.interop.node import STRICT

FILE = re.compile(r"(?:#|//) ([\w./-]+\.\w+)\n+")
SERVER = re.compile(r"^(?!#)(.*\bserves?\b.*)$", re.M)


class NotRun(Exception):
    """A block that nothing runs."""


PRELUDE = """\
serve() { servers="$servers $!"; grep -qE 'Serving at|Uvicorn running' < <(tail -n +1 -f --pid=$! "$1") || exit 1; }
stop() { for pid in $servers; do kill $pid; wait $pid || true; done; servers=; }
"""
"""Waits for the server that was started last to say that it serves; ends all."""

NGINX = """\
pid nginx.pid; events {}
http { upstream apex { server 127.0.0.1:3030; } server { listen 8080;
%s}}
"""


def command_of(lang: str, text: str) -> str:
    """What runs a block, or writes it where it is a file."""
    named = FILE.match(text)
    return file(named[1], text[named.end() :]) if named else LANGUAGES[lang](text)


def file(path: str, text: str) -> str:
    return f"mkdir -p $(dirname {path})\n{fed(f'cat > {path}')(text)}"


def fed(command: str) -> Callable[[str], str]:
    """A command that takes a block as its stdin."""
    return lambda text: f"{command} <<'END-OF-BLOCK'\n{text}END-OF-BLOCK"


def bash(text: str) -> str:
    """Commands, with the servers among them in the background. These tests are what ``make test`` would run."""
    return SERVER.sub(lambda line: serving(line[1]), text.replace("make test", "make --dry-run test"))


def serving(line: str) -> str:
    command = re.sub(r"\s+#.*", "", line)
    before = "" if command.endswith("&") else "stop; "
    log = f"server-{crc32(line.encode())}.log"
    return f"{before}touch {log}; > {log} 2>&1 {command.rstrip('& ')} &\nserve {log}"


def javascript(text: str) -> str:
    """A program that stops at its end, also where a socket is open still."""
    return fed("node --input-type=module -")(f"{text}\nprocess.exit()\n")


def typescript(text: str) -> str:
    """Compiled strictly, beside the files that the page has written, and run."""
    compiled = f"node node_modules/typescript/bin/tsc {' '.join(STRICT)} block.mts"
    return f"{file('block.mts', text)}\n{compiled}\necho 'process.exit()' >> block.mjs\nnode block.mjs"


def yaml_paths(text: str) -> str:
    """Asks for the paths that are in it. Raises NotRun where there are none."""
    paths = list(values(list(yaml.safe_load_all(text)), "path"))
    if not paths:
        raise NotRun(f"there is no path to ask for in {text}")
    return "\n".join(f"curl -o /dev/null 'http://localhost:3030{path}'" for path in paths)


def values(value: object, key: str) -> Iterator[str]:
    """What stands under a key, wherever it is."""
    if isinstance(value, dict):
        yield from [str(value[key])] if key in value else []
        value = list(value.values())
    if isinstance(value, list):
        for child in value:
            yield from values(child, key)


def nginx(text: str) -> str:
    return f"{file('block.conf', NGINX % text)}\nnginx -t -q -p . -c block.conf"


LANGUAGES: dict[str, Callable[[str], str]] = {
    "bash": bash,
    "python": fed("python -W error -"),
    "js": javascript,
    "javascript": javascript,
    "ts": typescript,
    "yaml": yaml_paths,
    "nginx": nginx,
}
