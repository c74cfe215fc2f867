"""SGD, RMSprop, Adam and AdamW, each update rule as its paper writes it.

Everything else comes from `torch.optim.Optimizer`: parameter groups, state, saving and loading. Arguments and state
have torch's names, so that these optimizers can resume a run that torch's began.

Symbols: w a parameter, g its gradient, η the learning rate `lr`, λ the weight decay.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

Params = Iterable[torch.Tensor] | Iterable[dict[str, Any]]


def check_range(name: str, value: float, below: float = math.inf) -> None:
    """Raises ValueError, naming the option, unless 0 ≤ value < below."""
    if not 0 <= value < below:
        limit = "finite" if below == math.inf else f"below {below:g}"
        raise ValueError(f"{name} must be at least 0 and {limit}, not {value}")


class UpdateRule(torch.optim.Optimizer):
    """Updates each parameter independently, by the rule that a subclass defines in `update`."""

    def update(self, w: torch.Tensor, g: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Updates w in place and leaves g unchanged; `state` is the parameter's own, initially empty."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates every parameter that has a gradient, and returns the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    self.update(w, w.grad, self.state[w], group)
        return loss


class SGD(UpdateRule):
    """Updates w ← w − η·v with v ← μ·v + g (Polyak 1964), or w ← w − η·(g + μ·v) (Nesterov 1983).

    The form of Sutskever et al. 2013 scales the velocity by η when it is stored; here, as in torch, it is scaled when
    it is used, so that a changed learning rate acts on all of it at once.

    Args:
        params: tensors, or groups of them as torch's optimizers take.
        lr: η.
        momentum: μ; 0 gives plain gradient descent.
        nesterov: looks ahead: adds the gradient again to the velocity that already contains it.
        weight_decay: λ; adds λ·w, the gradient of λ/2·‖w‖², to g.
        dampening: τ; every gradient after the first enters v as (1 − τ)·g.

    Raises:
        ValueError: a value is out of range, or `nesterov` is set without momentum or with dampening.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
    ) -> None:
        check_range("lr", lr)
        check_range("momentum", momentum, below=1)
        check_range("weight_decay", weight_decay)
        check_range("dampening", dampening)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError("nesterov needs a momentum above 0 and no dampening")
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "dampening": dampening})

    def update(self, w: torch.Tensor, g: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Moves w in place and leaves g as it is; with momentum, `state` keeps v as `momentum_buffer`."""
        g = g + group["weight_decay"] * w
        if group["momentum"]:
            if not state:
                state["momentum_buffer"] = g.clone()
            else:
                state["momentum_buffer"].mul_(group["momentum"]).add_((1 - group["dampening"]) * g)
            v = state["momentum_buffer"]
            # Not in place: g is the parameter's gradient, which the caller may still need.
            g = g + group["momentum"] * v if group["nesterov"] else v
        w.sub_(group["lr"] * g)


class RMSprop(UpdateRule):
    """Updates w ← w − η·g / (√s + ε) with s ← α·s + (1 − α)·g² (Tieleman & Hinton 2012, lecture 6e).

    Args:
        params: tensors, or groups of them.
        lr: η.
        alpha: α, the decay of the mean square s per step.
        eps: ε, added to the root.
        weight_decay: λ; adds λ·w to g.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        check_range("lr", lr)
        check_range("alpha", alpha, below=1)
        check_range("eps", eps)
        check_range("weight_decay", weight_decay)
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay})

    def update(self, w: torch.Tensor, g: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Moves w in place and leaves g as it is; `state` keeps s as `square_avg`."""
        g = g + group["weight_decay"] * w
        if not state:
            state["square_avg"] = torch.zeros_like(w)
        s = state["square_avg"].mul_(group["alpha"]).add_((1 - group["alpha"]) * g.square())
        w.sub_(group["lr"] * g / (s.sqrt() + group["eps"]))


class Adam(UpdateRule):
    """Updates w ← w − η·m̂ / (√v̂ + ε) (Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1).

    m and v are running means of g and g². Both start at 0, which biases them; dividing by 1 − βᵗ gives the unbiased m̂
    and v̂.

    Args:
        params: tensors, or groups of them.
        lr: η.
        betas: β₁ and β₂, the decay of m and v per step.
        eps: ε, added to the root.
        weight_decay: λ; adds λ·w to g, so that v̂ divides it as well. See AdamW.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        check_range("lr", lr)
        for beta in betas:
            check_range("betas", beta, below=1)
        check_range("eps", eps)
        check_range("weight_decay", weight_decay)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def update(self, w: torch.Tensor, g: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        self._adam_step(w, g + group["weight_decay"] * w, state, group)

    def _adam_step(self, w: torch.Tensor, g: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Moves w in place by Adam's step; `state` keeps t, m and v as `step`, `exp_avg` and `exp_avg_sq`."""
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(w), exp_avg_sq=torch.zeros_like(w))
        beta1, beta2 = group["betas"]
        state["step"] = step = int(state["step"]) + 1
        m = state["exp_avg"].mul_(beta1).add_((1 - beta1) * g)
        v = state["exp_avg_sq"].mul_(beta2).add_((1 - beta2) * g.square())
        # Σ (1 − β) βⁱ over t steps is 1 − βᵗ: the weight that the means have gathered so far.
        unbiased_m, unbiased_v = m / (1 - beta1**step), v / (1 - beta2**step)
        w.sub_(group["lr"] * unbiased_m / (unbiased_v.sqrt() + group["eps"]))


class AdamW(Adam):
    """Decays the weights themselves, w ← (1 − η·λ)·w, before Adam's step ("decoupled" weight decay).

    Loshchilov & Hutter 2019 (https://arxiv.org/abs/1711.05101, algorithm 2). In Adam, weights with large gradients
    decay less; here all decay at the same rate. Arguments are those of `Adam`.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, w: torch.Tensor, g: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Decays w, then moves it by Adam's step; g stays as it is."""
        w.mul_(1 - group["lr"] * group["weight_decay"])
        self._adam_step(w, g, state, group)
