"""NAdam, AMSGrad and Lion, beside the Adam and AdamW of `dlcommon.pytorch_core.optimizers` and the Muon of `muon`.

Arguments and state have torch's names. Symbols: w a parameter, g its gradient, η the learning rate `lr`, λ the weight
decay, m and v the running means of g and g², t the step, counted from 1.
"""

from typing import Any

import torch

from dlcommon.pytorch_core.optimizers import Adam, Params, UpdateRule, check_range


def update_moments(g: torch.Tensor, state: dict[str, Any], betas: tuple[float, float]) -> int:
    """Updates Adam's running means: m ← β₁m + (1 − β₁)g as `exp_avg`, v ← β₂v + (1 − β₂)g² as `exp_avg_sq`.

    Returns:
        t, the number of gradients that they hold.
    """
    if not state:
        state.update(step=0, exp_avg=torch.zeros_like(g), exp_avg_sq=torch.zeros_like(g))
    state["exp_avg"].lerp_(g, 1 - betas[0])
    state["exp_avg_sq"].lerp_(g.square(), 1 - betas[1])
    state["step"] = step = int(state["step"]) + 1
    return step


class NAdam(Adam):
    """Updates w as Adam does, but with Nesterov's look-ahead in place of m̂ (Dozat 2016).

    With μ_t = β₁(1 − ½·0.96^{tψ}), m̂ becomes μ_{t+1}·m / (1 − μ₁⋯μ_{t+1}) + (1 − μ_t)·g / (1 − μ₁⋯μ_t): what momentum
    will add at the next step is added now.

    Args:
        params: tensors, or groups of them.
        lr: η.
        betas: β₁ and β₂.
        eps: ε, added to the root.
        weight_decay: λ; adds λ·w to g.
        momentum_decay: ψ; how soon μ_t rises from β₁/2 to β₁.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
    ) -> None:
        check_range("momentum_decay", momentum_decay)
        super().__init__(params, lr, betas, eps, weight_decay)
        self.defaults["momentum_decay"] = momentum_decay
        for group in self.param_groups:
            group.setdefault("momentum_decay", momentum_decay)

    def update(self, w: torch.Tensor, g: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Moves w in place and leaves g unchanged; `state` also keeps μ₁⋯μ_t as `mu_product`."""
        g = g + group["weight_decay"] * w
        step = update_moments(g, state, group["betas"])
        beta1, beta2 = group["betas"]
        mu, next_mu = (beta1 * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (step, step + 1))
        state["mu_product"] = product = float(state.get("mu_product", 1.0)) * mu
        ahead = next_mu * state["exp_avg"] / (1 - product * next_mu) + (1 - mu) * g / (1 - product)
        unbiased_v = state["exp_avg_sq"] / (1 - beta2**step)
        w.sub_(group["lr"] * ahead / (unbiased_v.sqrt() + group["eps"]))


class AMSGrad(Adam):
    """Updates w as Adam does, but divides by the largest v so far (Reddi et al. 2018, algorithm 2).

    So a large gradient is not forgotten. As torch's, it corrects the bias of m and v, which the paper leaves out.
    Arguments are those of `Adam`.
    """

    def update(self, w: torch.Tensor, g: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Moves w in place and leaves g unchanged; `state` also keeps the largest v as `max_exp_avg_sq`."""
        g = g + group["weight_decay"] * w
        step = update_moments(g, state, group["betas"])
        beta1, beta2 = group["betas"]
        largest = torch.maximum(state.get("max_exp_avg_sq", state["exp_avg_sq"]), state["exp_avg_sq"])
        state["max_exp_avg_sq"] = largest
        unbiased_m, unbiased_v = state["exp_avg"] / (1 - beta1**step), largest / (1 - beta2**step)
        w.sub_(group["lr"] * unbiased_m / (unbiased_v.sqrt() + group["eps"]))


class Lion(UpdateRule):
    """Updates w ← (1 − ηλ)·w − η·sign(β₁m + (1 − β₁)g), then m ← β₂m + (1 − β₂)g.

    Chen et al. 2023 (https://arxiv.org/abs/2302.06675). Every weight moves by η at every step, so that η is
    three to ten times smaller than Adam's, and λ as many times larger.

    Args:
        params: tensors, or groups of them.
        lr: η.
        betas: β₁, the share of m in the direction, and β₂, the decay of m per step.
        weight_decay: λ, decoupled.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        check_range("lr", lr)
        for beta in betas:
            check_range("betas", beta, below=1)
        check_range("weight_decay", weight_decay)
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def update(self, w: torch.Tensor, g: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Moves w in place and leaves g unchanged; `state` keeps m as `exp_avg`."""
        if not state:
            state["exp_avg"] = torch.zeros_like(w)
        m, (beta1, beta2) = state["exp_avg"], group["betas"]
        w.mul_(1 - group["lr"] * group["weight_decay"])
        w.sub_(group["lr"] * (beta1 * m + (1 - beta1) * g).sign())
        m.lerp_(g, 1 - beta2)
