"""A module system from scratch: what `torch.nn.Module` does for a network, in one class.

A module's parameters, buffers and children are its attributes, so that every operation on the whole tree (listing
parameters, the state dict, changing mode or dtype) walks over attributes. torch sorts attributes into three
dictionaries as they are assigned (`Module.__setattr__`) and looks them up there; the names are the same.
Parameters are torch's: `nn.Parameter` is a tensor that requires a gradient, told apart by its class.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import torch
from torch.nn import Parameter

PreHook = Callable[["Module", tuple[Any, ...]], tuple[Any, ...] | None]
Hook = Callable[["Module", tuple[Any, ...], Any], Any]


class IncompatibleKeys(NamedTuple):
    """Lists the names that a loaded state dict and a module do not share."""

    missing_keys: list[str]
    """In the module, but not in the state dict."""
    unexpected_keys: list[str]
    """In the state dict, but not in the module."""


class RemovableHandle:
    """Removes a hook: by `remove`, or at the end of a `with` block."""

    def __init__(self, hooks: dict[int, Any], key: int) -> None:
        self.hooks, self.key = hooks, key

    def remove(self) -> None:
        """Removes the hook; does nothing if it is gone already."""
        self.hooks.pop(self.key, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Module:
    """Represents a node of a network: a subclass assigns its parts in `__init__` and defines `forward`."""

    _keys = itertools.count()

    def __init__(self) -> None:
        self.training = True
        self._buffers: dict[str, bool] = {}  # name to whether it is part of the state dict
        self._pre_hooks: dict[int, PreHook] = {}
        self._hooks: dict[int, Hook] = {}

    def forward(self, *inputs: Any) -> Any:
        """Computes the output; defined by the subclass."""
        raise NotImplementedError

    def __call__(self, *inputs: Any) -> Any:
        """Calls the pre-hooks, `forward` and the hooks; a hook that returns a value replaces what it was given."""
        for pre_hook in list(self._pre_hooks.values()):
            replaced = pre_hook(self, inputs)
            inputs = inputs if replaced is None else replaced
        output = self.forward(*inputs)
        for hook in list(self._hooks.values()):
            replaced = hook(self, inputs, output)
            output = output if replaced is None else replaced
        return output

    def register_forward_pre_hook(self, hook: PreHook) -> RemovableHandle:
        """Registers hook(module, inputs), called before each `forward`."""
        self._pre_hooks[key := next(self._keys)] = hook
        return RemovableHandle(self._pre_hooks, key)

    def register_forward_hook(self, hook: Hook) -> RemovableHandle:
        """Registers hook(module, inputs, output), called after each `forward`."""
        self._hooks[key := next(self._keys)] = hook
        return RemovableHandle(self._hooks, key)

    def register_buffer(self, name: str, tensor: torch.Tensor, persistent: bool = True) -> None:
        """Adds a tensor that is not trained but goes where the module goes, such as batch norm's running mean.

        Args:
            name: of the attribute.
            tensor: the buffer.
            persistent: makes it part of the state dict; False if it can be recomputed.
        """
        setattr(self, name, tensor)
        self._buffers[name] = persistent

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """Yields this module, named `prefix`, and all below it, parents before children; shared ones repeatedly."""
        yield prefix, self
        for name, child in vars(self).items():
            if isinstance(child, Module):
                yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def _named_tensors(self) -> Iterator[tuple[str, "Module", str, torch.Tensor]]:
        """Yields full name, owner, name within the owner, and tensor: of each module parameters, then buffers."""
        for path, module in self.named_modules():
            parameters = [name for name, value in vars(module).items() if isinstance(value, Parameter)]
            for name in [*parameters, *module._buffers]:
                yield f"{path}.{name}" if path else name, module, name, getattr(module, name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yields every parameter once, under its first name, even where two modules share it."""
        seen: set[int] = set()
        for name, _, _, tensor in self._named_tensors():
            if isinstance(tensor, Parameter) and id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, tensor

    def parameters(self) -> Iterator[Parameter]:
        """Yields every parameter once."""
        for _, parameter in self.named_parameters():
            yield parameter

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns parameters and persistent buffers by name, sharing memory with the module: copy what must last."""
        return {
            name: tensor.detach()
            for name, module, local, tensor in self._named_tensors()
            if module._buffers.get(local, True)
        }

    def load_state_dict(self, state: Mapping[str, torch.Tensor], strict: bool = True) -> IncompatibleKeys:
        """Copies the values of a state dict into the module's own tensors.

        Raises:
            ValueError: a shape differs, or a name if `strict`; nothing is copied then, whereas torch raises after
                copying what fits.
        """
        own = self.state_dict()
        missing, unexpected = [name for name in own if name not in state], [name for name in state if name not in own]
        shared = [name for name in own if name in state]
        problems = [
            f"{name} is {list(state[name].shape)} in the state and {list(own[name].shape)} in the module"
            for name in shared
            if state[name].shape != own[name].shape
        ]
        if strict:
            problems += [f"{name} is missing" for name in missing]
            problems += [f"{name} is not the module's" for name in unexpected]
        if problems:
            raise ValueError(f"the state dict does not fit {type(self).__name__}: {'; '.join(problems)}")
        for name in shared:
            own[name].copy_(state[name])
        return IncompatibleKeys(missing, unexpected)

    def train(self, mode: bool = True) -> Self:
        """Sets training mode in the whole tree, or evaluation mode if `mode` is False."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Sets evaluation mode in the whole tree."""
        return self.train(False)

    def to(self, target: torch.device | torch.dtype | str) -> Self:
        """Moves the module to a device, or changes its floating-point type.

        Parameters stay the same objects, so that an optimizer made before continues to train them.
        """
        for _, module, name, tensor in list(self._named_tensors()):
            if isinstance(target, torch.dtype) and not tensor.is_floating_point():
                continue
            if isinstance(tensor, Parameter):
                tensor.data = tensor.data.to(target)
            else:
                setattr(module, name, tensor.to(target))
        return self

    def zero_grad(self) -> None:
        """Removes the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None


class Sequential(Module):
    """Applies modules one after the other; their names are 0, 1, …"""

    def __init__(self, *modules: Module) -> None:
        super().__init__()
        for number, module in enumerate(modules):
            setattr(self, str(number), module)
        self.length = len(modules)

    def forward(self, x: Any) -> Any:
        """Feeds each module's output to the next."""
        for number in range(self.length):
            x = getattr(self, str(number))(x)
        return x


class Linear(Module):
    """Computes x Wᵀ + b; both are drawn uniformly from ±1/√in_features, as in torch."""

    def __init__(self, in_features: int, out_features: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        bound = in_features**-0.5
        self.weight = Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound, generator=generator))
        self.bias = Parameter(torch.empty(out_features).uniform_(-bound, bound, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps […, in_features] to […, out_features]."""
        return x @ self.weight.T + self.bias
