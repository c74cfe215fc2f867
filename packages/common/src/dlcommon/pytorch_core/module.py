"""A module system of our own: what `torch.nn.Module` does for a network, in one class.

A module's parameters, buffers and children are its attributes; whatever is asked of the whole tree (all parameters,
its state, its mode, its type) is one walk over attributes. torch sorts attributes into three dictionaries as they are
assigned (`Module.__setattr__`) and looks them up there; the names that result are the same. The mark of a parameter
is torch's: `nn.Parameter` is a tensor that requires a gradient, under a class of its own to be told by.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import torch
from torch.nn import Parameter

PreHook = Callable[["Module", tuple[Any, ...]], tuple[Any, ...] | None]
Hook = Callable[["Module", tuple[Any, ...], Any], Any]


class Mismatch(NamedTuple):
    """Names that a loaded state and a module do not share."""

    missing: list[str]
    """The module has them, the state does not."""
    unexpected: list[str]
    """The state has them, the module does not."""


class HookHandle:
    """Takes a hook away again: by `remove`, or at the end of a `with` block."""

    def __init__(self, hooks: dict[int, Any], key: int) -> None:
        self.hooks, self.key = hooks, key

    def remove(self) -> None:
        self.hooks.pop(self.key, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Module:
    """A node of a network. A subclass assigns its parts in `__init__` and defines `forward`."""

    _keys = itertools.count()

    def __init__(self) -> None:
        self.training = True
        self._buffers: dict[str, bool] = {}  # name to whether it is part of the state
        self._pre_hooks: dict[int, PreHook] = {}
        self._hooks: dict[int, Hook] = {}

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError

    def __call__(self, *inputs: Any) -> Any:
        """`forward`, with the hooks before and after it; each may replace what it is shown by returning something."""
        for pre_hook in list(self._pre_hooks.values()):
            replaced = pre_hook(self, inputs)
            inputs = inputs if replaced is None else replaced
        output = self.forward(*inputs)
        for hook in list(self._hooks.values()):
            replaced = hook(self, inputs, output)
            output = output if replaced is None else replaced
        return output

    def register_forward_pre_hook(self, hook: PreHook) -> HookHandle:
        """Calls hook(module, inputs) before each `forward`."""
        self._pre_hooks[key := next(self._keys)] = hook
        return HookHandle(self._pre_hooks, key)

    def register_forward_hook(self, hook: Hook) -> HookHandle:
        """Calls hook(module, inputs, output) after each `forward`."""
        self._hooks[key := next(self._keys)] = hook
        return HookHandle(self._hooks, key)

    def register_buffer(self, name: str, tensor: torch.Tensor, persistent: bool = True) -> None:
        """Adds a tensor that is not trained but goes where the module goes, such as batch norm's running mean.

        Args:
            persistent: whether it is part of the state; not if it can be computed again.
        """
        setattr(self, name, tensor)
        self._buffers[name] = persistent

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """This module, called `prefix`, and all below it, parents before children; a shared one comes again."""
        yield prefix, self
        for name, child in vars(self).items():
            if isinstance(child, Module):
                yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def _named_tensors(self) -> Iterator[tuple[str, "Module", str, torch.Tensor]]:
        """Full name, owner, name within the owner, tensor: of each module its parameters, then its buffers."""
        for path, module in self.named_modules():
            parameters = [name for name, value in vars(module).items() if isinstance(value, Parameter)]
            for name in [*parameters, *module._buffers]:
                yield f"{path}.{name}" if path else name, module, name, getattr(module, name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Each once, under its first name, also where two modules share it."""
        seen: set[int] = set()
        for name, _, _, tensor in self._named_tensors():
            if isinstance(tensor, Parameter) and id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, tensor

    def parameters(self) -> Iterator[Parameter]:
        for _, parameter in self.named_parameters():
            yield parameter

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Name to tensor of all that must be kept. The tensors share memory with the module's: copy what must last."""
        return {
            name: tensor.detach()
            for name, module, local, tensor in self._named_tensors()
            if module._buffers.get(local, True)
        }

    def load_state_dict(self, state: Mapping[str, torch.Tensor], strict: bool = True) -> Mismatch:
        """Copies the values into the module's own tensors.

        Raises:
            ValueError: a shape differs, or with `strict` a name; nothing has been copied then. (torch's raises
                after it has copied what fits.)
        """
        own = self.state_dict()
        mismatch = Mismatch([name for name in own if name not in state], [name for name in state if name not in own])
        shared = [name for name in own if name in state]
        problems = [
            f"{name} is {list(state[name].shape)} in the state and {list(own[name].shape)} in the module"
            for name in shared
            if state[name].shape != own[name].shape
        ]
        if strict:
            problems += [f"{name} is missing" for name in mismatch.missing]
            problems += [f"{name} is not the module's" for name in mismatch.unexpected]
        if problems:
            raise ValueError(f"the state does not fit {type(self).__name__}: {'; '.join(problems)}")
        for name in shared:
            own[name].copy_(state[name])
        return mismatch

    def train(self, mode: bool = True) -> Self:
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        return self.train(False)

    def to(self, target: torch.device | torch.dtype | str) -> Self:
        """Moves to a device, or changes the floating-point type. Parameters stay the same objects, so that an
        optimizer made before goes on training them."""
        for _, module, name, tensor in list(self._named_tensors()):
            if isinstance(target, torch.dtype) and not tensor.is_floating_point():
                continue
            if isinstance(tensor, Parameter):
                tensor.data = tensor.data.to(target)
            else:
                setattr(module, name, tensor.to(target))
        return self

    def zero_grad(self) -> None:
        for parameter in self.parameters():
            parameter.grad = None


class Sequential(Module):
    """Modules one after the other, called 0, 1, …"""

    def __init__(self, *modules: Module) -> None:
        super().__init__()
        for number, module in enumerate(modules):
            setattr(self, str(number), module)
        self.length = len(modules)

    def forward(self, x: Any) -> Any:
        for number in range(self.length):
            x = getattr(self, str(number))(x)
        return x


class Linear(Module):
    """x Wᵀ + b, both drawn evenly from ±1/√inputs, as torch does."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        limit = inputs**-0.5
        self.weight = Parameter(torch.empty(outputs, inputs).uniform_(-limit, limit, generator=generator))
        self.bias = Parameter(torch.empty(outputs).uniform_(-limit, limit, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[…, inputs] to […, outputs]."""
        return x @ self.weight.T + self.bias
