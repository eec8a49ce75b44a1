"""How the documentation is built: ``make docs``."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from apex import load_config  # noqa: E402
from apex.openapi import document_of  # noqa: E402
from apex.openapi.markdown import write_pages  # noqa: E402
from services.app import CONFIG, create_app  # noqa: E402

# The pages of the services, made of their OpenAPI document.
write_pages(document_of(create_app(load_config(CONFIG, {"APEX_ENV": "test", "PORT": "3030"}))), HERE / "services")

project = "apex"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "apex"
myst_heading_anchors = 4
# Links to files beside this folder, such as the changelog; tests/docs/test_pages.py holds that all lead somewhere.
suppress_warnings = ["myst.xref_missing"]
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True}
