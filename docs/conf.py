"""How the documentation is built: ``make docs``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

project = "apex"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "apex"
myst_heading_anchors = 4
# Links to files beside this folder, such as the changelog. That all links lead somewhere is held by tests/test_docs.py.
suppress_warnings = ["myst.xref_missing"]
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True}
