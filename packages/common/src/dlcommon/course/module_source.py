"""The source of a function, method or class, read from its module's file without importing it."""

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from dlcommon.runtime.errors import UserError

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class ModuleSource:
    """Parses a module's file and finds definitions in it."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def place(self) -> str:
        """The path for display, such as `dlcommon/rnn/cells.py`."""
        return "/".join([*self.name.split(".")[:-1], self.path.name])

    def find(self, qualified_name: str) -> Definition:
        """Finds the definition of a qualified name, such as `LSTM` or `LSTM.forward`.

        Raises:
            UserError: the module has no such definition.
        """
        found: Definition | None = None
        body = self.tree.body
        for part in qualified_name.split("."):
            definitions = (node for node in body if isinstance(node, Definition))
            found = next((node for node in definitions if node.name == part), None)
            if found is None:
                raise UserError(f"{self.path} defines no {qualified_name}")
            body = found.body
        assert found is not None
        return found

    def lines_of(self, node: Definition) -> tuple[int, int]:
        """Returns the numbers of a definition's first line, decorators included, and its last."""
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        return first, node.end_lineno or node.lineno

    def source(self, qualified_name: str) -> str:
        """Returns the source of a definition, moved to the left margin."""
        first, last = self.lines_of(node := self.find(qualified_name))
        lines = self.text.split("\n")[first - 1 : last]
        return "\n".join(line[node.col_offset :] for line in lines)


def module_source(module: str) -> ModuleSource:
    """Reads and parses the file of a module.

    Raises:
        UserError: there is no such module, or it has no file.
    """
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None or not spec.has_location:
        raise UserError(f"there is no module {module}")
    text = Path(spec.origin).read_text(encoding="utf-8")
    return ModuleSource(module, Path(spec.origin), text, ast.parse(text))
