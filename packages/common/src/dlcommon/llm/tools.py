"""Functions that a language model may call: what they are called, which arguments they take, and what they return.

A model writes a call as JSON, `{"name": …, "arguments": {…}}`; the program, not the model, decides whether it runs.
The Model Context Protocol (https://modelcontextprotocol.io) lists and calls tools of other processes in the same form:
a name, a description and a JSON Schema of the arguments.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema

from dlcommon.llm.json_schema_decoding import Schema


class ToolError(Exception):
    """Says why a call was not carried out; its message goes to the model, which may try again."""


@dataclass(frozen=True)
class Tool:
    """Describes a function to the model and to the program."""

    name: str
    description: str
    parameters: Schema
    """JSON Schema of the arguments, an object."""
    function: Callable[..., object]
    """Called with the arguments by name; raises ToolError, or ValueError, where it cannot answer."""
    needs_confirmation: bool = False
    """Whether a person is asked before each call, as for what cannot be undone or leaves the machine."""


@dataclass(frozen=True)
class ToolCall:
    name: str
    arguments: Mapping[str, Any]

    def to_json(self) -> str:
        return json.dumps({"name": self.name, "arguments": dict(self.arguments)}, ensure_ascii=False)


def parse_tool_call(text: str) -> ToolCall:
    """Reads a call that a model has written.

    Raises:
        ToolError: it is no JSON object with a name and arguments.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ToolError(f"the call is no JSON: {error}") from None
    if not isinstance(content, dict) or set(content) != {"name", "arguments"}:
        raise ToolError('a call is {"name": …, "arguments": {…}}')
    if not isinstance(content["name"], str) or not isinstance(content["arguments"], dict):
        raise ToolError("the name of a call is a string, its arguments are an object")
    return ToolCall(content["name"], content["arguments"])


class Toolbox:
    """Carries out calls, after it has checked them.

    Args:
        tools: what may be called.
        confirm: asks a person whether a call of a tool that needs it may run; refuses unless told otherwise.

    Raises:
        ValueError: two tools have the same name.
    """

    def __init__(self, tools: Iterable[Tool], confirm: Callable[[ToolCall], bool] = lambda call: False) -> None:
        self.tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.name in self.tools:
                raise ValueError(f"two tools are called {tool.name}")
            self.tools[tool.name] = tool
        self.confirm = confirm

    def only(self, names: Iterable[str]) -> "Toolbox":
        """Returns a toolbox with these tools alone: the allow-list of a task.

        Raises:
            ValueError: a tool does not exist.
        """
        names = list(names)
        if missing := [name for name in names if name not in self.tools]:
            raise ValueError(f"there is no tool {', '.join(missing)}")
        return Toolbox([self.tools[name] for name in names], self.confirm)

    def call_schema(self) -> Schema:
        """Returns the JSON Schema of a call of any of the tools."""
        return {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"name": {"const": tool.name}, "arguments": tool.parameters},
                    "required": ["name", "arguments"],
                    "additionalProperties": False,
                }
                for tool in self.tools.values()
            ]
        }

    def call(self, call: ToolCall) -> str:
        """Carries out a call and returns the result as text.

        Raises:
            ToolError: the tool does not exist, an argument is wrong, a person refused, or the tool failed.
        """
        if call.name not in self.tools:
            raise ToolError(f"there is no tool {call.name!r}; there are {', '.join(self.tools) or 'none'}")
        tool = self.tools[call.name]
        error = jsonschema.exceptions.best_match(
            jsonschema.Draft202012Validator(tool.parameters).iter_errors(dict(call.arguments))
        )
        if error is not None:
            place = ".".join(map(str, error.absolute_path))
            raise ToolError(f"{call.name}: {place + ': ' if place else ''}{error.message}")
        if tool.needs_confirmation and not self.confirm(call):
            raise ToolError(f"{call.name}: refused by the user")
        try:
            return str(tool.function(**call.arguments))
        except (ToolError, ValueError, ArithmeticError) as failure:
            raise ToolError(f"{call.name}: {failure}") from failure
