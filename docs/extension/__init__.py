"""The Sphinx extension of these pages: `{lucet} NAME` puts in what is made of the sources when the pages are built."""

from __future__ import annotations

from typing import Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from pygments.lexers.webassembly import WatLexer
from pygments.token import Keyword
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from docs.extension import api, drawings, tables


class Made(SphinxDirective):
    """`{lucet} traps`: a table of docs.extension.tables; `{lucet} api lucet class`; `{lucet} drawing slot`."""

    required_arguments = 1
    optional_arguments = 2
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[nodes.Node]:
        what, *arguments = self.arguments
        self.env.note_reread()  # the sources may have changed, where the page has not
        if what == "drawing":
            return [nodes.raw("", getattr(drawings, arguments[0])(), format="html")]
        text: str = api.api(*arguments) if what == "api" else getattr(tables, what)()
        holder = nodes.Element()
        self.state.nested_parse(StringList(text.splitlines(), source=f"{{lucet}} {what}"), 0, holder)
        return holder.children


class Wat(WatLexer):
    """Pygments' lexer, which does not know of every instruction."""

    tokens: ClassVar[dict[str, Any]] = {
        **WatLexer.tokens,
        "root": [*WatLexer.tokens["root"], (r"[a-z][a-z0-9_.]*", Keyword)],
    }


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("lucet", Made)
    app.add_lexer("wat", Wat)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
