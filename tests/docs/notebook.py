"""The Python of a page: its blocks run one after the other in one namespace, as in a notebook.

`await` may stand outside of functions. A statement with a comment `# -> text` behind it is an expression whose `repr`
has to be that text.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import io
import tokenize
from collections.abc import Mapping
from types import TracebackType
from typing import Any

SHOWN = "# -> "


class Enough(Exception):
    """Raised by a prelude's function to leave a block that has no end."""


class Notebook:
    """replaced: what is written in the blocks, and what stands for it here. Use as a context."""

    def __init__(self, replaced: Mapping[str, str]) -> None:
        self._replaced = replaced
        self._runner = asyncio.Runner()
        self.namespace: dict[str, Any] = {"__name__": "__page__", "Enough": Enough, "_shown": _shown}

    def __enter__(self) -> Notebook:
        self._runner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.__exit__(kind, error, trace)

    def run(self, source: str, name: str, line: int = 1) -> None:
        """Run the source. name, line: where it stands, for a traceback."""
        for written, here in self._replaced.items():
            source = source.replace(written, here)
        tree = _Shows(source).visit(ast.parse(source))
        ast.increment_lineno(tree, line - 1)
        code = compile(ast.fix_missing_locations(tree), name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        try:
            if code.co_flags & inspect.CO_COROUTINE:
                self._runner.run(_awaited(eval(code, self.namespace)))
            else:
                exec(code, self.namespace)
        except Enough:
            pass


async def _awaited(coroutine: Any) -> None:
    await coroutine


def _shown(value: object, text: str) -> None:
    assert repr(value) == text


class _Shows(ast.NodeTransformer):
    """Has each expression compared with what the comment behind it shows."""

    def __init__(self, source: str) -> None:
        self._texts = {
            token.start[0]: token.string.removeprefix(SHOWN).strip()
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT and token.string.startswith(SHOWN)
        }

    def visit_Module(self, node: ast.Module) -> ast.AST:
        result = self.generic_visit(node)
        assert not self._texts, f"{SHOWN} stands behind what is no expression: {self._texts}"
        return result

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        text = self._texts.pop(node.end_lineno or 0, None)
        if text is None:
            return node
        call = ast.Call(ast.Name("_shown", ast.Load()), [node.value, ast.Constant(text)], [])
        return ast.copy_location(ast.Expr(ast.copy_location(call, node)), node)
