"""An exercise: a function of a module that the learner writes again, and a judge that compares the two.

It is declared in a cell of its own, which uses nothing of the lesson but the first code cell's imports, so that it can
be judged without running the lesson. What the learner is given is cut from the module's own source: text and module
cannot drift.
"""

import ast
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from dlcommon.course.cells import Cell
from dlcommon.course.module_source import Definition, ModuleSource, module_source
from dlcommon.course.session import record_passed_exercise

Judge = Callable[[Any, Any], None]
WRITE_THIS = "write this · 请实现"
PLACEHOLDER = f'raise NotImplementedError("{WRITE_THIS}")'
"""Stands for each body that the learner writes."""


@dataclass(frozen=True)
class Exercise:
    module: str
    targets: tuple[str, ...]
    """Qualified names within the module: `fit`, `LSTM.forward`."""
    judge: Judge

    @property
    def names(self) -> tuple[str, ...]:
        """What the learner's file defines: functions, and the classes of methods."""
        return tuple(dict.fromkeys(target.split(".")[0] for target in self.targets))

    def __call__(self, **definitions: Any) -> None:
        """Judges definitions made in a notebook: `judge(fit=fit)`.

        Raises:
            TypeError: the names are not those that the exercise asks for.
            CheckFailedError: a definition differs from the module's.
        """
        if set(definitions) != set(self.names):
            raise TypeError(f"judge takes {', '.join(f'{name}=…' for name in self.names)}")
        reference = sys.modules[self.module]
        self.judge(SimpleNamespace(**{**vars(reference), **definitions}), reference)
        record_passed_exercise()

    def file(self, heading: str) -> str:
        """Builds the learner's file: the heading, the imports, and the definitions with their bodies cut out."""
        module = module_source(self.module)
        nodes = [module.find(name) for name in self.names]
        parts = [_cut(module, node, self.targets) for node in nodes]
        return "\n\n\n".join([f'"""{heading}"""\n\n{_imports(module, nodes)}'.rstrip(), *parts]) + "\n"

    def solution(self) -> str:
        """Returns the module's source of the exercise's targets."""
        module = module_source(self.module)
        return "\n\n\n".join(module.source(target) for target in self.targets)


def exercise(*targets: Any) -> Callable[[Judge], Exercise]:
    """Declares functions, methods or classes of one module as the lesson's exercise; decorates its judge.

    The judge takes two namespaces, the learner's and the module's, and compares them with `check` and `check_close`.
    The learner reads their claims, so these name the shape or the term, not the answer.

    Raises:
        ValueError: the targets come from several modules.
    """
    modules = {target.__module__ for target in targets}
    if len(modules) != 1:
        raise ValueError(f"an exercise is cut from one module, not {sorted(modules)}")

    def declare(judge: Judge) -> Exercise:
        return Exercise(modules.pop(), tuple(target.__qualname__ for target in targets), judge)

    return declare


def has_exercise(cells: list[Cell]) -> bool:
    return any(_declares(cell) for cell in cells)


def _declares(cell: Cell) -> bool:
    return cell.kind == "code" and f"\n{cell.text}".find("\n@exercise(") >= 0


def load_exercise(cells: list[Cell], path: Path) -> Exercise:
    """Runs only the lesson's first code cell, which holds the imports, and the cell that declares the exercise."""
    code = [cell for cell in cells if cell.kind == "code"]
    namespace = ModuleType("__exercise__").__dict__
    for cell in (code[0], next(cell for cell in code if _declares(cell))):
        exec(compile("\n" * (cell.line - 1) + cell.text, str(path), "exec"), namespace)
    return next(value for value in namespace.values() if isinstance(value, Exercise))


def _cut(module: ModuleSource, node: Definition, targets: tuple[str, ...]) -> str:
    """Returns the source of a definition with the bodies of the targets replaced; docstrings stay."""
    first, last = module.lines_of(node)
    lines = module.text.split("\n")[first - 1 : last]
    methods = (
        [part for part in node.body if isinstance(part, ast.FunctionDef)] if isinstance(node, ast.ClassDef) else []
    )
    cut: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
    if not isinstance(node, ast.ClassDef):
        cut = [node]
    elif node.name in targets:
        cut = [method for method in methods if method.name != "__init__"]
    else:
        cut = [method for method in methods if f"{node.name}.{method.name}" in targets]
    for function in reversed(cut):
        body = function.body
        documented = ast.get_docstring(function, clean=False) is not None
        begins = (body[0].end_lineno or 0) + 1 if documented else body[0].lineno
        placeholder = " " * body[0].col_offset + PLACEHOLDER
        lines[begins - first : (function.end_lineno or 0) - first + 1] = [placeholder]
    return "\n".join(lines)


def _imports(module: ModuleSource, nodes: list[Definition]) -> str:
    """Builds the import statements for the names that the definitions take from their module."""
    used = {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)}
    used -= {node.name for node in nodes}
    statements, own = [], []
    for statement in module.tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            kept = [name for name in statement.names if (name.asname or name.name.split(".")[0]) in used]
            if kept:
                statement = type(statement)(**{**dict(ast.iter_fields(statement)), "names": kept})
                statements.append(ast.unparse(statement))
        elif isinstance(statement, Definition):
            own += [statement.name] if statement.name in used else []
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            own += [name for name in names if name in used]
    if own:
        statements.append(f"from {module.name} import {', '.join(sorted(own))}")
    return "\n".join(statements)
