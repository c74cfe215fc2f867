# %% [markdown]
# # Automatic differentiation · 自动求导
#
# While tensors that require a gradient are computed with, torch notes each operation in a graph. `backward` walks the
# graph once, from the loss to the leaves, and multiplies by each operation's derivative: the chain rule, in reverse.
# (An engine of our own, for arrays, is lesson 02/04.)
#
# This lesson looks into the graph, at what accumulates and what is freed, at ways to leave parts of it out, writes an
# operation with a derivative of its own and has it checked numerically, takes derivatives of derivatives, and uses a
# hook to see gradients vanish on their way through a deep network.
#
# 只要参与计算的张量需要梯度，torch 就会把每个运算记录到一张图里。backward 从损失出发反向走一遍这张图，
# 依次乘上各运算的导数，这就是反向的链式法则。（面向数组的自制引擎见 02/04 课。）
#
# 本课查看这张图：哪些东西会累加，哪些会释放，怎样让一部分不参与求导；然后编写一个自带导数的运算并做数值检验，
# 求导数的导数，最后用钩子观察梯度在深层网络中如何逐层消失。

# %%
import math

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, show, table
from torch import nn

# %% [markdown]
# ## The graph · 计算图
#
# Each result knows the operation that made it (`grad_fn`), and that one the operations before it. Leaves get `.grad`.
# 每个结果都记得产生它的运算；只有叶子张量得到 .grad。

# %%
x = torch.tensor([1.0, 2.0], requires_grad=True)
w = torch.tensor([0.5, -1.0], requires_grad=True)
loss = (w * x).sin().sum()
node, chain = loss.grad_fn, []
while node is not None:
    chain.append(type(node).__name__)
    node = node.next_functions[0][0] if node.next_functions else None
print("  from the loss to the first leaf:", " → ".join(chain))
loss.backward()
gradient_of_w, by_hand = w.grad.clone(), (w * x).cos() * x
print("  d loss / d w:", gradient_of_w.tolist(), "by hand:", by_hand.tolist())

# %% [markdown]
# ## Gradients add up · 梯度会累加
#
# A second `backward` adds to `.grad`. That is what a tensor used twice needs, and what makes several small batches
# worth one large one; it is also why every training step begins with `zero_grad`. 累加既是特性，也是必须清零的原因。

# %%
model = nn.Linear(6, 3)
generator = torch.Generator().manual_seed(0)
inputs, targets = torch.randn(32, 6, generator=generator), torch.randint(3, (32,), generator=generator)
nn.functional.cross_entropy(model(inputs), targets).backward()
whole = model.weight.grad.clone()
model.zero_grad()
for part in range(4):  # four quarters: each mean is divided by their number
    rows = slice(8 * part, 8 * part + 8)
    (nn.functional.cross_entropy(model(inputs[rows]), targets[rows]) / 4).backward()
accumulated = model.weight.grad.clone()

shared = torch.tensor(3.0, requires_grad=True)
(shared * shared + shared).backward()  # used three times: 2·3 + 1

# %% [markdown]
# ## Leaving the graph · 离开计算图
#
# `detach` gives the same values as a constant; `no_grad` records nothing for a while (evaluation, updates of weights);
# `inference_mode` also forbids to use its results in a graph later. A graph is freed by `backward`: a second one over
# the same graph fails, rather than use overwritten values. 图在 backward 后释放；被就地改写的值会被发现。

# %%
with torch.no_grad():
    silent = w * x
detached = (w * x).detach()


def refusal(action) -> str:
    """What torch says when it refuses; empty if it does not."""
    try:
        action()
    except RuntimeError as error:
        return str(error).split(".")[0].split("\n")[0][:95]
    return ""


used = (w * x).sin().sum()
used.backward()
overwritten = w.exp()
graph_over_it = overwritten.sum()
with torch.no_grad():
    overwritten.mul_(2)  # exp's derivative is its result, which is no longer there
refusals = {
    "backward twice": refusal(used.backward),
    "result of exp overwritten": refusal(graph_over_it.backward),
    "leaf written to in the graph": refusal(lambda: w.add_(1)),
}
table(["what", "torch says"], refusals.items())

# %% [markdown]
# ## An operation with its own derivative · 自定义运算
#
# log(1 + eˣ) overflows for x > 88 in float32, and autograd's derivative of it becomes 0 · ∞. We know a safe form of
# both. A `Function` states the value and the vector-Jacobian product; written with operations that are
# differentiable themselves, it can be differentiated again. `gradcheck` compares it, in float64, with
# (f(x + h) − f(x − h)) / 2h, and finds a wrong one. gradcheck 用数值差分检验手写的导数。


# %%
class Softplus(torch.autograd.Function):
    """log(1 + eˣ) for any x; its derivative is the sigmoid."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp_min(0) + (-x.abs()).exp().log1p()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x.sigmoid()


class WrongSoftplus(Softplus):
    """Takes tanh for the derivative, as a slip of the pen would."""

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x.tanh()


points = torch.linspace(-3, 3, 8, dtype=torch.float64, requires_grad=True)
right = torch.autograd.gradcheck(Softplus.apply, points)
right_twice = torch.autograd.gradgradcheck(Softplus.apply, points)
wrong = torch.autograd.gradcheck(WrongSoftplus.apply, points, raise_exception=False)

large = torch.tensor([-200.0, 0.0, 200.0], requires_grad=True)
(naive_gradient,) = torch.autograd.grad(large.exp().log1p().sum(), large)
(our_gradient,) = torch.autograd.grad(Softplus.apply(large).sum(), large)
print("  gradient of log(1 + eˣ) at −200, 0, 200: plain", naive_gradient.tolist(), "ours", our_gradient.tolist())

# %% [markdown]
# ## Derivatives of derivatives · 高阶导数
#
# `create_graph=True` records the backward pass too, so that it can be differentiated. A Hessian times a vector takes
# two passes and never the Hessian: v ↦ ∂/∂x (∇f · v). 海森矩阵与向量之积无需形成矩阵。

# %%
t = torch.linspace(-math.pi, math.pi, 200, dtype=torch.float64, requires_grad=True)
derivatives = [t.sin()]
for _ in range(4):
    derivatives.append(torch.autograd.grad(derivatives[-1].sum(), t, create_graph=True)[0])


def rosenbrock(p: torch.Tensor) -> torch.Tensor:
    return (1 - p[:-1]).square().sum() + 100 * (p[1:] - p[:-1].square()).square().sum()


point = torch.tensor([0.5, -0.3, 1.2, 0.8], dtype=torch.float64, requires_grad=True)
direction = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.float64)
(gradient,) = torch.autograd.grad(rosenbrock(point), point, create_graph=True)
(hessian_times_direction,) = torch.autograd.grad(gradient @ direction, point)
hessian = torch.autograd.functional.hessian(rosenbrock, point.detach())

# %% [markdown]
# ## Hooks: watching gradients on their way · 钩子：观察梯度
#
# A hook on a tensor is called with its gradient as it passes, and may change it. Here: the size of the gradient at
# each of 20 layers, with sigmoids and with ReLUs between them. Why it vanishes, and what initialization does about
# it, is lesson 04/09. 每层梯度的大小：Sigmoid 消失，ReLU 则不会那么快。


# %%
def gradient_sizes(activation, gain: float) -> list[float]:
    """Root mean square of the loss's gradient at the output of each layer, first layer first."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(64, 100, generator=generator, requires_grad=True)
    sizes: dict[int, float] = {}
    for layer in range(20):
        h = activation(h @ (gain * torch.randn(100, 100, generator=generator) / 10))
        h.register_hook(lambda g, n=layer: sizes.update({n: g.square().mean().sqrt().item()}))
    h.sum().backward()
    return [sizes[layer] for layer in range(20)]


paths = {"sigmoid": gradient_sizes(torch.sigmoid, 1.0), "ReLU, He's scale": gradient_sizes(torch.relu, math.sqrt(2))}
figure, (left, right_axis) = plt.subplots(1, 2, figsize=(11, 4))
for order, values in enumerate(derivatives):
    left.plot(
        t.detach(),
        values.detach(),
        label=f"order {order}",
        linestyle="--" if order == 4 else "-",
        linewidth=3 if order == 0 else 1.5,
    )
left.set(xlabel="x", ylabel="value", title="sin and its derivatives: the fourth is sin again")
left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=5, fontsize=8)
for name, sizes in paths.items():
    right_axis.semilogy(range(1, 21), sizes, "o-", markersize=4, label=name)
shrink = paths["sigmoid"][-1] / paths["sigmoid"][0]
right_axis.set(
    xlabel="layer",
    ylabel="gradient at its output (rms)",
    title=f"Sigmoids: {shrink:.0e} times smaller after 19 layers",
    xticks=range(2, 21, 3),
)
right_axis.legend()
figure.tight_layout()
show(figure, "derivatives-and-vanishing")

clipped = torch.tensor([3.0, -4.0], requires_grad=True)
clipped.register_hook(lambda g: g.clamp(-1, 1))
(clipped.square()).sum().backward()

# %% [markdown]
# ## What holds · 结论

# %%
check_close("backward gives the derivative found by hand", gradient_of_w, by_hand)
check_close("four quarters accumulate to the gradient of the whole batch", accumulated, whole)
check("a tensor used three times gets the sum: 2·3 + 1", shared.grad.item() == 7)
check("no_grad and detach leave the graph", not (silent.requires_grad or detached.requires_grad))
check("a second backward, an overwritten value and a written leaf are refused", all(refusals.values()))
check("our derivative is right, and so is its derivative; the wrong one is found", right and right_twice and not wrong)
check("at 200 the plain gradient is not a number, ours is 1", naive_gradient[2].isnan() and our_gradient[2] == 1)
check_close("the fourth derivative of sin is sin", derivatives[4], derivatives[0])
check_close("a Hessian-vector product needs no Hessian", hessian_times_direction, hessian @ direction)
relu = paths["ReLU, He's scale"]
check(
    "the gradient vanishes in sigmoids, and stays in ReLUs of He's scale",
    shrink > 1e6 and 0.1 < relu[-1] / relu[0] < 10,
)
check("a hook may change the gradient that passes", clipped.grad.tolist() == [1.0, -1.0])
