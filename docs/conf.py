"""How Sphinx builds these pages: `just docs`."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for docs.extension

project = "Lucet for Python"
author = "the Lucet for Python authors"
project_copyright = author
release = re.findall(r"^    version: '(.*)'", (ROOT / "meson.build").read_text(), re.MULTILINE)[0]
extensions = ["myst_parser", "docs.extension"]
exclude_patterns = ["extension"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
python_maximum_signature_line_length = 100
highlight_language = "text"
smartquotes = False
html_theme = "furo"
html_title = f"Lucet for Python {release}"
html_static_path = ["_static"]
html_css_files = ["lucet.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_last_updated_fmt = None
