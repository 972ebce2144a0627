"""The public names in Sphinx's Python domain, as Markdown: signatures from the sources, texts from the docstrings."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import lucet

SOURCE: Final = Path(lucet.__file__).parent
KINDS: Final = ("function", "class", "exception", "data")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def names(module: str, kind: str) -> list[str]:
    """The names of the module's __all__ that are of the kind."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is none of {KINDS}")
    home = importlib.import_module(module)
    return [name for name in home.__all__ if kind_of(getattr(home, name)) == kind]


def kind_of(value: object) -> str:
    if isinstance(value, type):
        return "exception" if issubclass(value, Exception) else "class"
    return "function" if callable(value) and not hasattr(value, "__metadata__") else "data"


def api(module: str, kind: str) -> str:
    """Every public name of the kind in the module, described."""
    home = importlib.import_module(module)
    return "\n".join(described(module, name, getattr(home, name)) for name in names(module, kind))


def described(module: str, name: str, value: Any) -> str:
    """One name, as a directive."""
    head, kind = f":module: {module}\n", kind_of(value)
    if name == "compile":  # the package is callable: what it calls is the function
        value = importlib.import_module("lucet.compile.driver").compile
    if kind == "function":
        node = definition(value)
        assert isinstance(node, Function), name
        fill_defaults(node.args, inspect.signature(value))
        return block(kind, name + signature(node), head, [inspect.getdoc(value) or ""])
    if kind == "data":
        origin = value.__origin__
        shown = origin.__name__ if isinstance(origin, type) else str(origin).replace("typing.", "")
        return block(kind, name, head, [f"For annotations of host functions: `{shown}` in Python."])
    called = constructor(value) if kind == "class" else ""
    return block(kind, name + called, head, [text_of(value), *members(value)], fence="::::")


def block(kind: str, signature: str, options: str, parts: list[str], fence: str = ":::") -> str:
    body = "\n\n".join(part.strip("\n") for part in parts if part.strip())
    return f"{fence}{{py:{kind}}} {' '.join(signature.split())}\n{options}\n{body}\n{fence}\n"


# ---- where something is defined


@cache
def parsed(module: str) -> ast.Module:
    """The source of a module, or its stub if it is in C."""
    path = SOURCE.joinpath(*module.split(".")[1:])
    files = [path.with_suffix(".py"), path / "__init__.py", path.with_suffix(".pyi")]
    return ast.parse(next(file for file in files if file.exists()).read_text(encoding="utf-8"))


def definition(value: Any) -> ast.stmt:
    """Of a class or a function of the package."""
    return find(value.__module__, value.__name__)


def find(module: str, name: str) -> ast.stmt:
    return next(node for node in parsed(module).body if getattr(node, "name", None) == name)


def body(cls: type) -> list[ast.stmt]:
    """What stands in the class, after what stands in the classes of the package that it extends."""
    ours = [base for base in reversed(cls.__mro__) if base.__module__.split(".")[0] == "lucet"]
    return [one for base in ours for one in body_of(definition(base), base.__module__)]


def body_of(node: ast.stmt, module: str) -> list[ast.stmt]:
    """With that of classes which exist in a stub only; their names begin with an underscore."""
    assert isinstance(node, ast.ClassDef)
    shared = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id.startswith("_")]
    return [one for base in shared for one in body_of(find(module, base), module)] + node.body


# ---- signatures and texts


def signature(node: Function, *, bound: bool = False) -> str:
    """Parameters, without the first if bound, and the result."""
    given = ast.parse(f"def f({ast.unparse(node.args)}): ...").body[0]
    assert isinstance(given, ast.FunctionDef)
    if bound:
        del (given.args.posonlyargs or given.args.args)[0]
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(given.args)}){result}"


def fill_defaults(args: ast.arguments, real: inspect.Signature) -> None:
    """In place of expressions such as `DEFAULT.workers`, what they stand for."""
    for one, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        if isinstance(default, ast.Attribute) and not callable(real.parameters[one.arg].default):
            value = real.parameters[one.arg].default
            args.kw_defaults[args.kwonlyargs.index(one)] = ast.parse(repr(value), mode="eval").body


def constructor(cls: type) -> str:
    """What the class is called with; nothing for one that users do not call."""
    for one in reversed(body(cls)):
        if isinstance(one, ast.FunctionDef) and one.name in ("__init__", "__new__"):
            return signature(one, bound=True).partition(" -> ")[0]
    if hasattr(cls, "__dataclass_fields__"):
        return f"({', '.join(ast.unparse(one) for one in body(cls) if isinstance(one, ast.AnnAssign))})"
    return ""


def text_of(value: object) -> str:
    """The docstring; of a function in C without the line that says its signature, which the stub says better."""
    text = inspect.cleandoc(getattr(value, "__doc__", None) or "")
    return re.sub(r"\A(?:await )?\w+\(.*?(?:\n\n|\Z)", "", text, flags=re.DOTALL)


def members(cls: type) -> Iterator[str]:
    """Methods, properties and fields that are public, in their order."""
    statements = body(cls)
    shown = {name: one for one in statements if (name := name_of(one)) and not name.startswith("_")}
    for name, one in shown.items():
        text = text_of(inspect.getattr_static(cls, name, None))
        if isinstance(one, Function):
            yield method(one, text)
        else:
            assert isinstance(one, ast.AnnAssign)
            following = statements[statements.index(one) + 1 :][:1]
            below = [ast.literal_eval(each.value) for each in following if isinstance(each, ast.Expr)]
            yield block("attribute", name, f":type: {ast.unparse(one.annotation)}\n", below)


def name_of(statement: ast.stmt) -> str:
    """Of a method, or of an attribute with its type; of a setter there is none, as its property has been there."""
    if isinstance(statement, Function):
        is_setter = any(ast.unparse(one).endswith(".setter") for one in statement.decorator_list)
        return "" if is_setter else statement.name
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    return ""


def method(node: Function, text: str) -> str:
    decorators = {ast.unparse(one) for one in node.decorator_list}
    if decorators & {"property", "cached_property"}:
        result = ast.unparse(node.returns) if node.returns else ""
        return block("property", node.name, f":type: {result}\n", [text])
    options = ":classmethod:\n" if "classmethod" in decorators else ""
    options += ":async:\n" if isinstance(node, ast.AsyncFunctionDef) else ""
    return block("method", node.name + signature(node, bound=True), options, [text])
