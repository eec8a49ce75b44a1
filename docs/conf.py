"""How the documentation is built: ``make docs``."""

import gc
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import toctree
from sphinx.application import Sphinx

# Garbage collections would look at the trees of all pages again and again, for a third of the time.
gc.disable()

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from apex import load_config  # noqa: E402
from apex.openapi import document_of  # noqa: E402
from apex.openapi.markdown import write_pages  # noqa: E402
from services.app import CONFIG, create_app  # noqa: E402

# The pages of the services come from their OpenAPI document.
write_pages(document_of(create_app(load_config(CONFIG, {"APEX_ENV": "test", "PORT": "3030"}))), HERE / "services")

project = "apex"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "apex"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["apex.css"]
html_js_files = ["copy.js"]
myst_heading_anchors = 4
# Some links lead to files outside this folder, such as the changelog. tests/docs/test_pages.py checks all links.
suppress_warnings = ["myst.xref_missing", "ref.python"]
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True}
autodoc_typehints_format = "short"
ALIASES = "AnyHook AnyHooks AnyPublisher Chain Fields HookMap Id Listener Predicate Publisher Reader Row Values"
autodoc_type_aliases = {name: name for name in ALIASES.split()}
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80

NO_PROSE = ("- ", "* ", "..", ":")
"""The beginnings of lists, directives and fields. An indented block below them is no code."""


def setup(app: Sphinx) -> None:
    """Connect the functions below."""
    app.connect("doctree-read", keep_summary)
    app.connect("build-finished", write_llms)
    app.connect("autodoc-process-docstring", mark_code)
    app.connect("autodoc-process-signature", name_aliases)


def name_aliases(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Show the names of type aliases. In a union Sphinx shows the class that stands for the name."""
    short = [text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text) for text in (signature, returned)]
    return short[0], short[1]


def mark_code(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Mark indented blocks of a docstring as code, as readers of the source see them."""
    marked: list[str] = []
    paragraph = indent = ""
    in_code = False
    for line in lines:
        begins = line and marked and not marked[-1]
        if line.startswith("    "):
            if begins and not paragraph.endswith("::") and not paragraph.startswith(NO_PROSE):
                marked += ["::", ""]
                paragraph = "::"  # The rest of the block is code, too.
            in_code = paragraph.endswith("::")
        elif begins and paragraph.endswith("::") and not in_code:
            indent = "    "  # Code that ends a docstring has lost its indent.
        elif line:
            paragraph, in_code = line, False
        marked.append(indent + line if line else line)
    lines[:] = marked


def keep_summary(app: Sphinx, page: nodes.document) -> None:
    """Keep the summary of a page for ``llms.txt``: loading the trees of all pages again takes seconds."""
    app.env.metadata[app.env.current_document.docname]["summary"] = summary_of(page)


def write_llms(app: Sphinx, error: Exception | None) -> None:
    """Write ``llms.txt``, the list of all pages for language models (https://llmstxt.org), beside the built pages."""
    if error is None and app.builder.name == "html":
        (app.outdir / "llms.txt").write_text("\n".join(lines_of(app)) + "\n", encoding="utf-8")


def lines_of(app: Sphinx) -> Iterator[str]:
    """Yield the lines of ``llms.txt``: each group of the table of contents with its pages, in their order."""
    root = app.env.get_doctree(app.config.root_doc)
    yield f"# {project}\n\n> {app.env.metadata[app.config.root_doc]['summary']}"
    for group in root.findall(toctree):
        yield f"\n## {group['caption']}\n"
        for page in group["includefiles"]:
            yield from entries_of(app, page)


def entries_of(app: Sphinx, page: str) -> Iterator[str]:
    """Yield the line of a page and those of the pages below it. They link to its Markdown."""
    title = app.env.titles[page].astext()
    yield f"- [{title}](_sources/{page}.md.txt): {app.env.metadata[page]['summary']}"
    for inner in app.env.toctree_includes.get(page, ()):
        yield from entries_of(app, inner)


def summary_of(page: nodes.document) -> str:
    """Return the first sentence of a page."""
    first = next(iter(page.findall(nodes.paragraph)), nodes.paragraph())
    text = " ".join(first.astext().split()).partition(". ")[0]
    return text.rstrip(".:") + "."
