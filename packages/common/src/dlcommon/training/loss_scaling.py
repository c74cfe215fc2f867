"""Loss scaling for training in fp16 (Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740, section 3.2).

Gradients of 2^−25 and less become 0 in fp16. A loss that is multiplied by S gives gradients S times as large, all of
them, by the chain rule; the optimizer gets them divided by S again, in fp32. Dynamic scaling finds S while training:
halve it when a gradient overflows, and skip that step; double it after many steps without one.
"""

from typing import Any

import torch


class LossScaler:
    """Scales losses, unscales gradients, skips steps whose gradients overflowed, and adapts the scale.

    The rule of growth and backoff is that of `torch.amp.GradScaler`, for one optimizer.

    Args:
        scale: the first scale, or the only one.
        dynamic: adapts the scale; otherwise steps that overflow are skipped, but the scale stays.
        growth_factor: multiplies the scale after `growth_interval` steps without overflow.
        backoff_factor: multiplies the scale after an overflow.
        growth_interval: number of steps in a row.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        scale: float = 2.0**16,
        dynamic: bool = True,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        if not scale > 0 or growth_factor <= 1 or not 0 < backoff_factor < 1 or growth_interval < 1:
            raise ValueError(
                "scale must be positive, growth_factor above 1, backoff_factor within (0, 1), growth_interval at least "
                f"1, not {scale}, {growth_factor}, {backoff_factor} and {growth_interval}"
            )
        self.scale, self.dynamic = scale, dynamic
        self.growth_factor, self.backoff_factor, self.growth_interval = growth_factor, backoff_factor, growth_interval
        self.good_steps = 0
        """Steps without overflow since the scale last changed."""
        self._finite: bool | None = None

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """Returns loss · scale, whose backward pass gives scaled gradients."""
        return loss * self.scale

    @torch.no_grad()
    def unscale(self, optimizer: torch.optim.Optimizer) -> bool:
        """Divides the gradients by the scale and returns whether all are finite; clip after it, before `step`.

        Raises:
            RuntimeError: they have been unscaled since the last `step`.
        """
        if self._finite is not None:
            raise RuntimeError("the gradients are unscaled already; call unscale once for each step")
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for gradient in gradients:
            gradient.mul_(1 / self.scale)
        self._finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
        return self._finite

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Takes the optimizer's step if all gradients are finite, adapts the scale, and returns whether it took it."""
        finite = self.unscale(optimizer) if self._finite is None else self._finite
        if finite:
            optimizer.step()
        self._finite = None
        if self.dynamic:
            self._adapt(finite)
        return finite

    def _adapt(self, finite: bool) -> None:
        if not finite:
            self.scale *= self.backoff_factor
            self.good_steps = 0
            return
        self.good_steps += 1
        if self.good_steps == self.growth_interval:
            grown = self.scale * self.growth_factor
            if grown <= torch.finfo(torch.float32).max:
                self.scale = grown
            self.good_steps = 0

    def state_dict(self) -> dict[str, Any]:
        """Returns the scale and the number of steps since it changed."""
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.scale, self.good_steps = state["scale"], state["good_steps"]
