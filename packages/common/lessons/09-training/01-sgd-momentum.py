# %% [markdown]
# # SGD and momentum · SGD 与动量

# %% [markdown] lang="en"
# After this lesson you can compute the best learning rate and momentum for a known curvature, predict how many steps they
# save, say when heavy ball, Nesterov's form and dampening differ, and predict at which loss SGD with a constant rate stops
# improving. You need SGD and momentum as update rules (03/06), gradient descent on valleys (02/05) and eigenvalues (02/02).

# %% [markdown] lang="zh"
# 学完本课，你能由已知的曲率算出最佳学习率和动量，预测它们能省多少步，能说出重球法、Nesterov 形式和 dampening 何时不同，
# 并能预测学习率恒定的 SGD 会停在怎样的损失上。先修：SGD 与动量的更新规则（03/06）、山谷中的梯度下降（02/05）、特征值（02/02）。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.mathematics.descent import optimal_lr, optimal_momentum
from dlcommon.pytorch_core.optimizers import SGD
from dlcommon.training.momentum import convergence_factor, noise_floor, optimal_nesterov
from sklearn.datasets import load_diabetes
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# You have two numbers to set, the learning rate and the momentum, and you set them by habit: 0.1 and 0.9. Training then
# does two things that habit does not explain. At first it is slow, although the gradients are exact enough. Later it does
# not get any better, although the gradients are not zero. A colleague says "lower the rate", and the loss falls
# again, by more than in the whole hour before.
#
# Two different limits are at work. The first is curvature: the steepest direction bounds the rate, the flattest one
# needs it large. The second is noise: a minibatch is a sample, and its gradient is not zero even at the minimum. On
# quadratics both can be computed exactly; so we can check whether the numbers come out.

# %% [markdown] lang="zh"
# 要设的数有两个：学习率和动量。你按习惯设成 0.1 和 0.9，训练却出现两件习惯解释不了的事。
# 起初很慢，尽管梯度足够准确；后来不再变好，尽管梯度并不为零。同事说“把学习率调低”，损失又降下来，比之前整整一小时降得还多。
#
# 起作用的是两种不同的限制。第一是曲率：最陡的方向限制了学习率，最平的方向却需要它大。
# 第二是噪声：小批次只是抽样，即使在最小值处，它的梯度也不为零。在二次函数上两者都能精确算出，所以可以检验数字对不对得上。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# $f(x) = \frac{1}{2} h x^2$ in two directions, with curvatures $h = 1$ and $h = 9$. The gradient is $h x$. Both start at
# $x = 1$.
#
# *Plain descent* multiplies $x$ by $1 - \eta h$. The best rate makes both directions equally fast: $\eta = 2/(1 + 9) = 0.2$
# gives $1 - 0.2 = 0.8$ and $1 - 1.8 = -0.8$. After 10 steps $0.8^{10} = 0.107$ is left.
#
# *Heavy ball* with $\eta = 0.25$ and $\mu = 0.25$. Flat direction: $v = 1$, $x = 0.75$; $v = 0.25 + 0.75 = 1$, $x = 0.5$;
# $v = 0.25 + 0.5 = 0.75$, $x = 0.3125$. Steep direction: $v = 9$, $x = -1.25$, further away than at the start;
# $v = 2.25 - 11.25 = -9$, $x = 1$; $v = -2.25 + 9 = 6.75$, $x = -0.6875$. In the long run both halve with each step:
# about a hundredth is left after 10.
#
# *Noise*: let the gradient be $x$ plus or minus 1 by a coin, and $\eta = 0.2$. At the minimum itself the next step is
# $\pm 0.2$. Each step multiplies the variance by $0.8^2 = 0.64$ and adds $0.2^2 = 0.04$; it stays where
# $0.64\,V + 0.04 = V$, at $V = 0.111$. The loss is $V/2 = 0.056$ on average, for ever.

# %% [markdown] lang="zh"
# $f(x) = \frac{1}{2} h x^2$，两个方向，曲率 $h = 1$ 和 $h = 9$，梯度是 $h x$，都从 $x = 1$ 出发。
#
# *普通下降*每步把 $x$ 乘以 $1 - \eta h$。最佳学习率让两个方向一样快：$\eta = 2/(1 + 9) = 0.2$，
# 得到 $1 - 0.2 = 0.8$ 和 $1 - 1.8 = -0.8$。10 步之后剩下 $0.8^{10} = 0.107$。
#
# *重球法*取 $\eta = 0.25$、$\mu = 0.25$。平的方向：$v = 1$，$x = 0.75$；$v = 0.25 + 0.75 = 1$，$x = 0.5$；
# $v = 0.25 + 0.5 = 0.75$，$x = 0.3125$。陡的方向：$v = 9$，$x = -1.25$，比出发时还远；
# $v = 2.25 - 11.25 = -9$，$x = 1$；$v = -2.25 + 9 = 6.75$，$x = -0.6875$。长远来看两者每步减半：10 步之后约剩百分之一。
#
# *噪声*：设梯度是 $x$ 加上由抛硬币决定的正负 1，$\eta = 0.2$。就算在最小值处，下一步也会走 $\pm 0.2$。
# 每一步把方差乘以 $0.8^2 = 0.64$ 再加上 $0.2^2 = 0.04$；它停在 $0.64\,V + 0.04 = V$ 处，即 $V = 0.111$。
# 损失平均为 $V/2 = 0.056$，永远如此。


# %%
def descend(curvature: torch.Tensor, steps: int, **options) -> torch.Tensor:
    """Distances [steps + 1, directions] of our SGD from the minimum, from 1 in each direction."""
    x = torch.ones_like(curvature).requires_grad_()
    optimizer, visited = SGD([x], **options), [x.detach().clone()]
    for _ in range(steps):
        x.grad = curvature * x.detach()
        optimizer.step()
        visited.append(x.detach().clone())
    return torch.stack(visited)


small = torch.tensor([1.0, 9.0], dtype=torch.float64)
plain, heavy = descend(small, 10, lr=0.2), descend(small, 10, lr=0.25, momentum=0.25)
table(
    ["step", "plain, flat", "plain, steep", "heavy ball, flat", "heavy ball, steep"],
    [(step, *plain[step].tolist(), *heavy[step].tolist()) for step in (0, 1, 2, 3, 10)],
)
coin_floor = noise_floor(torch.ones(1), torch.ones(1), lr=0.2).item()
print(f"  the coin at rate 0.2: loss {coin_floor:.3f} on average")

# %% [markdown]
# ## Formula · 公式
#
# $$v_t = \mu v_{t-1} + (1 - \tau) g_t, \quad v_1 = g_1, \qquad w_t = w_{t-1} - \eta v_t \quad \text{or (Nesterov)} \quad w_t = w_{t-1} - \eta (g_t + \mu v_t)$$
#
# $$x_{t+1} = b\,x_t - c\,x_{t-1}, \qquad z^2 - b z + c = 0, \qquad \rho = \max_h \max |z|$$
#
# $$\text{heavy ball:} \quad b = 1 + \mu - \eta h, \quad c = \mu \qquad\qquad \text{Nesterov:} \quad b = (1 + \mu)(1 - \eta h), \quad c = \mu (1 - \eta h)$$
#
# $$\text{plain:} \quad \eta^* = \frac{2}{\lambda_{\min} + \lambda_{\max}}, \qquad \rho^* = \frac{\kappa - 1}{\kappa + 1}$$
#
# $$\text{heavy ball:} \quad \eta^* = \frac{4}{(\sqrt{\lambda_{\max}} + \sqrt{\lambda_{\min}})^2}, \quad \mu^* = \left(\frac{\sqrt\kappa - 1}{\sqrt\kappa + 1}\right)^2, \qquad \rho^* = \frac{\sqrt\kappa - 1}{\sqrt\kappa + 1}$$
#
# $$\text{Nesterov:} \quad \eta^* = \frac{4}{3\lambda_{\max} + \lambda_{\min}}, \quad \mu^* = \frac{\sqrt{3\kappa + 1} - 2}{\sqrt{3\kappa + 1} + 2}, \qquad \rho^* = 1 - \frac{2}{\sqrt{3\kappa + 1}}$$
#
# $$\mathbb{E}[L] - L^* = \sum_i \frac{\eta\,\sigma_i^2\,(1 + \mu)}{2 (1 - \mu)(2 (1 + \mu) - \eta h_i)} \approx \frac{\eta}{1 - \mu} \cdot \frac{1}{4} \sum_i \sigma_i^2, \qquad \sigma_i^2 = \frac{s_i^2}{B}$$

# %% [markdown] lang="en"
# - $w_t$: the weights after step $t$, a tensor of any shape; $g_t$: the gradient at $w_{t-1}$; $v_t$: the velocity.
# - $\eta$: the learning rate `lr`; $\mu$: `momentum`; $\tau$: `dampening`, 0 unless said otherwise.
# - $x_t$: the distance from the minimum along one eigenvector of the Hessian; $h$: the curvature there, its eigenvalue.
#   The eigenvectors do not influence each other, so that each is a sequence of numbers.
# - $z$: the two roots; $x_t$ is a sum of $z_1^t$ and $z_2^t$. $\rho$: the factor per step in the long run.
# - $\lambda_{\min}, \lambda_{\max}$: the least and the largest curvature; $\kappa = \lambda_{\max} / \lambda_{\min}$: the
#   condition number.
# - $s_i^2$: the variance of one sample's gradient along eigenvector $i$; $B$: the batch size; $\sigma_i^2$: the variance of
#   the minibatch gradient, if samples are drawn independently.
#
# The heavy ball is Polyak 1964; its roots are complex, and thus $\sqrt\mu$ in absolute value, wherever
# $(1 - \sqrt{\eta h})^2 < \mu$. The best $\mu$ is the smallest that makes this hold at both ends. Nesterov's constants
# are those of Lessard, Recht & Packard 2016, who compare all three methods on quadratics. The last line is the variance of
# an autoregressive process of order two with noise $\eta\sigma_i$; to first order it counts only the *effective rate*
# $\eta / (1 - \mu)$ and the batch size, not the curvature.

# %% [markdown] lang="zh"
# - $w_t$：第 $t$ 步之后的权重，任意形状的张量；$g_t$：$w_{t-1}$ 处的梯度；$v_t$：速度。
# - $\eta$：学习率 `lr`；$\mu$：`momentum`；$\tau$：`dampening`，不特别说明时为 0。
# - $x_t$：沿 Hessian 的一个特征向量到最小值的距离；$h$：那里的曲率，即特征值。各特征向量互不影响，所以每个方向就是一个数列。
# - $z$：两个根；$x_t$ 是 $z_1^t$ 与 $z_2^t$ 的组合。$\rho$：长远来看每步缩小的倍数。
# - $\lambda_{\min}, \lambda_{\max}$：最小和最大的曲率；$\kappa = \lambda_{\max} / \lambda_{\min}$：条件数。
# - $s_i^2$：单个样本的梯度沿特征向量 $i$ 的方差；$B$：批次大小；$\sigma_i^2$：样本独立抽取时，小批次梯度的方差。
#
# 重球法出自 Polyak 1964；凡是 $(1 - \sqrt{\eta h})^2 < \mu$ 的地方，根是复数，绝对值为 $\sqrt\mu$。最佳的 $\mu$ 就是让两端都满足的最小值。
# Nesterov 的常数出自 Lessard、Recht 与 Packard 2016，他们在二次函数上比较了这三种方法。
# 最后一行是二阶自回归过程在噪声 $\eta\sigma_i$ 下的方差；一阶近似下它只取决于*有效学习率* $\eta / (1 - \mu)$ 和批次大小，与曲率无关。

# %% [markdown]
# ## Code · 代码

# %%
source(SGD.update)
source(convergence_factor)
source(noise_floor)

# %% [markdown] lang="en"
# `SGD.update` is 03/06's, and what trains here. The first gradient becomes the velocity as it is, even with dampening; `v`
# has the shape of `w`.
#
# `convergence_factor` broadcasts: curvatures `[directions]` against rates `[rates, 1, 1]` and momenta `[momenta, 1]` give a
# whole map. Where the discriminant is negative the roots are a complex pair and $|z| = \sqrt c$; elsewhere the larger one
# is $(|b| + \sqrt{b^2 - 4c})/2$. `noise_floor` sums over directions; a direction in which the rate diverges makes it
# infinite.

# %% [markdown] lang="zh"
# `SGD.update` 就是 03/06 里的，这里用它训练。第一个梯度原样成为速度，即使有 dampening；`v` 与 `w` 形状相同。
#
# `convergence_factor` 利用广播：曲率 `[directions]` 与学习率 `[rates, 1, 1]`、动量 `[momenta, 1]` 一起给出整张图。
# 判别式为负时，根是一对共轭复数，$|z| = \sqrt c$；否则较大的根是 $(|b| + \sqrt{b^2 - 4c})/2$。
# `noise_floor` 对各方向求和；某个方向发散时，结果就是无穷大。

# %% [markdown]
# ## Experiment: theory against measurement · 实验：理论与实测

# %% [markdown] lang="en"
# Quadratics in ten directions, their curvatures spread evenly on a logarithmic scale from 1 to $\kappa$. Each method gets
# the constants of its formula. The factor is measured over the second half of the run; the steps are counted until the
# whole distance has fallen to a thousandth.

# %% [markdown] lang="zh"
# 十个方向的二次函数，曲率在 1 到 $\kappa$ 之间按对数均匀分布。每种方法使用各自公式的常数。
# 倍数在后半程测量；步数数到总距离降至千分之一为止。

# %%
quiz(
    "heavy steps",
    en="κ = 1000. Plain descent needs about 3,000 steps to a thousandth. And the heavy ball?",
    zh="κ = 1000。普通下降约需 3,000 步降到千分之一。重球法呢？",
    choices={"1700": "about 1,700 · 约 1,700", "700": "about 700 · 约 700", "180": "about 180 · 约 180", "30": "30"},
)

# %%
settings = {}  # by κ and method: options, factor of the theory
for kappa in (10.0, 100.0, 1000.0):
    rate, factor = optimal_lr(1.0, kappa)
    settings[kappa, "plain"] = ({"lr": rate}, factor)
    rate, momentum, factor = optimal_momentum(1.0, kappa)
    settings[kappa, "heavy ball"] = ({"lr": rate, "momentum": momentum}, factor)
    rate, momentum, factor = optimal_nesterov(1.0, kappa)
    settings[kappa, "Nesterov"] = ({"lr": rate, "momentum": momentum, "nesterov": True}, factor)
distances, measured, steps_needed = {}, {}, {}
for (kappa, method), (options, _) in settings.items():
    curvature = torch.logspace(0, torch.tensor(kappa).log10().item(), 10, dtype=torch.float64)
    steps = int(4 * kappa) + 20 if method == "plain" else int(40 * kappa**0.5)
    distance = descend(curvature, steps, **options).norm(dim=1)
    distances[kappa, method] = distance
    measured[kappa, method] = ((distance[-1] / distance[steps // 2]) ** (1 / (steps - steps // 2))).item()
    steps_needed[kappa, method] = int((distance > distance[0] / 1000).sum())
table(
    ["κ", "method", "lr", "momentum", "factor, theory", "measured", "steps to a thousandth"],
    [
        (f"{kappa:g}", method, options["lr"], options.get("momentum", 0.0), factor, measured[kappa, method],
         steps_needed[kappa, method])
        for (kappa, method), (options, factor) in settings.items()
    ],
)  # fmt: skip
choices = ("1700", "700", "180", "30")
settle("heavy steps", min(choices, key=lambda n: abs(int(n) - steps_needed[1000.0, "heavy ball"])))

# %% [markdown] lang="en"
# The measured factors are the theory's to about a percent. (The heavy ball's is a little above, because at its optimum two roots
# coincide and $x_t$ is $t\,\rho^t$: it also moves away before it comes closer.) A condition number a hundred times as large
# costs plain descent a hundred times the steps, both forms of momentum ten times.
#
# The map shows what the formula hides: how much a mistake costs. Below, the factor for $\kappa = 100$ at every rate and
# momentum; in the white area training diverges.

# %% [markdown] lang="zh"
# 实测倍数与理论相差不到百分之一左右。（重球法略高，因为最优处两个根重合，$x_t$ 是 $t\,\rho^t$：它会先远离、再靠近。）
# 条件数变为一百倍，普通下降的步数也变为一百倍，两种动量只变为十倍。
#
# 这张图说明了公式没有说的：设错了代价有多大。下面是 $\kappa = 100$ 时每个学习率和动量对应的倍数；白色区域内训练发散。

# %%
ends = torch.tensor([1.0, 100.0], dtype=torch.float64)
rates = torch.logspace(-3.2, -1.2, 160, dtype=torch.float64)  # [160]
momenta = torch.linspace(0, 0.99, 100, dtype=torch.float64)  # [100]
maps = {
    name: convergence_factor(ends, rates[:, None, None], momenta[:, None], nesterov).amax(dim=2)  # [rates, momenta]
    for name, nesterov in (("heavy ball", False), ("Nesterov", True))
}
figure, axes = plt.subplots(1, 3, figsize=(16, 4.4), layout="constrained")
for axis, (name, factors) in zip(axes, maps.items(), strict=False):
    picture = axis.contourf(rates, momenta, factors.T.clamp(max=1.05), levels=torch.linspace(0.8, 1.05, 26).tolist())
    axis.contour(rates, momenta, factors.T, levels=[1.0], colors="white")
    options, factor = settings[100.0, name]
    axis.plot(options["lr"], options["momentum"], "r*", markersize=13, label=f"optimum, ρ = {factor:.3f}")
    axis.set(xscale="log", xlabel="learning rate", ylabel="momentum", title=f"{name}, κ = 100: factor per step")
    axis.legend(loc="lower left", fontsize=8)
figure.colorbar(picture, ax=axes[1])
for method, style in (("plain", "-"), ("heavy ball", "--"), ("Nesterov", "-.")):
    axes[2].semilogy(distances[100.0, method][:400], style, label=method)
axes[2].set(xlabel="step", ylabel="distance", title="κ = 100, each at its optimum", ylim=(1e-9, 30))
axes[2].legend()
show(figure, "rates-and-momenta")

# %% [markdown] lang="en"
# The best point lies beside the cliff. Too little momentum costs little by little; a rate slightly too large
# costs everything. And the heavy ball tolerates a larger rate than plain descent ($\eta h < 2(1 + \mu)$ instead of 2),
# Nesterov's form a smaller one ($\eta h < 2(1 + \mu)/(1 + 2\mu)$).

# %% [markdown] lang="zh"
# 最优点就在悬崖边上。动量偏小，代价是渐渐增加的；学习率稍大一点，就前功尽弃。
# 重球法容许的学习率比普通下降大（$\eta h < 2(1 + \mu)$，而不是 2），Nesterov 形式容许的则更小（$\eta h < 2(1 + \mu)/(1 + 2\mu)$）。

# %% [markdown]
# ## Experiment: the noise floor, predicted · 实验：预测噪声底

# %% [markdown] lang="en"
# Real data: linear regression of the progress of diabetes in 442 patients on ten measurements (Efron et al. 2004), both
# standardized. Its loss is a quadratic, so that the minimum, the curvatures $h_i$ and the variances $s_i^2$ of the
# patients' gradients can be computed. We start *at the minimum* and run SGD with minibatches, 96 times in
# parallel, in three groups. Nothing could be gained; how much is lost?

# %% [markdown] lang="zh"
# 真实数据：用十项测量值对 442 名糖尿病患者的病情进展做线性回归（Efron 等 2004），两者都已标准化。
# 损失是二次函数，所以最小值、曲率 $h_i$ 以及各患者梯度的方差 $s_i^2$ 都能算出。
# 我们*从最小值处*出发，用小批次跑 SGD，并行 96 次，分成三组。本来已经没有什么可改进的了，会损失多少？

# %%
quiz(
    "four and four",
    en="The rate is multiplied by 4, and so is the batch size. What happens to the floor?",
    zh="学习率乘以 4，批次大小也乘以 4。噪声底会怎样？",
    choices={
        "same": "it stays about the same · 大致不变",
        "quarter": "a quarter · 变为四分之一",
        "four": "four times · 变为四倍",
        "sixteen": "sixteen times · 变为十六倍",
    },
)

# %%
patients = load_diabetes()
features = torch.from_numpy(patients.data).double()
features = (features - features.mean(0)) / features.std(0, correction=0)  # [442, 10]
progress = torch.from_numpy(patients.target).double()
progress = (progress - progress.mean()) / progress.std(correction=0)  # [442]
best_weights = torch.linalg.lstsq(features, progress[:, None]).solution.squeeze(1)  # [10]
residuals = features @ best_weights - progress
least_loss = residuals.square().mean().item() / 2
curvatures, directions = torch.linalg.eigh(features.T @ features / len(features))  # [10], [10, 10]
sample_variances = ((features * residuals[:, None]) @ directions).square().mean(dim=0)  # [10]; the mean is 0


def measure_floor(lr: float, batch_size: int, momentum: float = 0.0) -> list[float]:
    """Mean loss above the minimum in each of three groups of 32 runs, after 300 steps of warm-up."""
    draw = torch.Generator().manual_seed(batch_size)
    weights = best_weights.repeat(96, 1).requires_grad_()  # [runs, 10]
    optimizer, excess = SGD([weights], lr=lr, momentum=momentum), torch.zeros(96, dtype=torch.float64)
    for step in range(900):
        rows = torch.randint(len(features), (96, batch_size), generator=draw)
        chosen = features[rows]  # [runs, batch, 10]
        errors = torch.einsum("rbf,rf->rb", chosen, weights.detach()) - progress[rows]
        weights.grad = torch.einsum("rb,rbf->rf", errors, chosen) / batch_size
        optimizer.step()
        if step >= 300:
            moved = (weights.detach() - best_weights) @ directions
            excess += (moved.square() * curvatures).sum(dim=1) / 2 / 600
    return excess.view(3, 32).mean(dim=1).tolist()


floor_settings = {
    "lr 0.02, batch 8": (0.02, 8, 0.0),
    "lr 0.02, batch 32": (0.02, 32, 0.0),
    "lr 0.08, batch 32": (0.08, 32, 0.0),
    "lr 0.002, batch 8, momentum 0.9": (0.002, 8, 0.9),
}
floors = {name: measure_floor(*setting) for name, setting in floor_settings.items()}
predicted = {
    name: noise_floor(curvatures, sample_variances / batch_size, lr, momentum).item()
    for name, (lr, batch_size, momentum) in floor_settings.items()
}
table(
    ["setting", "predicted", "measured, three groups", "", "", "of the least loss"],
    [(name, predicted[name], *floors[name], f"{predicted[name] / least_loss:.2%}") for name in floors],
)
ratio = sum(floors["lr 0.08, batch 32"]) / sum(floors["lr 0.02, batch 8"])
settle(
    "four and four",
    min((("same", 1.0), ("quarter", 0.25), ("four", 4.0), ("sixteen", 16.0)), key=lambda pair: abs(pair[1] - ratio))[0],
)

# %% [markdown] lang="en"
# The formula holds within a few percent, for every group. Four times the batch is a quarter of the floor; four times the rate
# makes up for it, which is the "linear scaling rule" of large batches. And momentum 0.9 at a tenth of the rate has
# the floor of plain SGD: it averages the noise of ten gradients, and then takes a step ten times as long. Momentum is
# an answer to curvature, not to noise.

# %% [markdown] lang="zh"
# 每一组里，公式与实测都只差百分之几。
# 批次乘以四，噪声底变为四分之一；学习率再乘以四就抵消了，这就是大批次的“线性缩放规则”。
# 动量 0.9 配十分之一的学习率，噪声底与普通 SGD 一样：它把十个梯度的噪声平均掉，却又把步子迈大十倍。动量对付的是曲率，不是噪声。

# %% [markdown]
# ## Experiment: digits, and a lower rate · 实验：数字，以及更低的学习率

# %% [markdown] lang="en"
# No quadratic now: logistic regression on 4,000 handwritten digits, each averaged to 7 × 7 pixels. We find the minimum with
# L-BFGS, start there with batches of 8 and 64 at two rates, three seeds, and after 400 steps divide the rate by ten.

# %% [markdown] lang="zh"
# 这次不是二次函数：对 4,000 个手写数字做逻辑回归，每张图平均到 7 × 7 像素。
# 先用 L-BFGS 找到最小值，从那里出发，批次 8 和 64、两个学习率、三个种子；400 步之后把学习率除以十。

# %%
quiz(
    "after the drop",
    en="Batch 8, rate 0.4. After the rate is divided by ten for 200 steps, which share of the excess loss is left?",
    zh="批次 8，学习率 0.4。学习率除以十、再走 200 步之后，多余的损失还剩多大比例？",
    choices={"0.9": "about 90 % · 约 90 %", "0.5": "about a half · 约一半", "0.15": "about a seventh · 约七分之一"},
)

# %%
digits = data("mnist", "mnist-sample")
pixels = F.avg_pool2d(torch.from_numpy(digits.train_images[:4000]).float().view(-1, 1, 28, 28) / 255, 4).flatten(
    1
)  # [4000, 49]
pixels = (pixels - pixels.mean(0)) / (pixels.std(0) + 0.1)
labels = torch.from_numpy(digits.train_labels[:4000])
minimum = torch.zeros(50, 10, requires_grad=True)  # 49 pixels and the bias
inputs = torch.cat([pixels, torch.ones(len(pixels), 1)], dim=1)  # [4000, 50]
solver = torch.optim.LBFGS([minimum], max_iter=150, line_search_fn="strong_wolfe")


def whole_loss() -> torch.Tensor:
    solver.zero_grad()
    loss = F.cross_entropy(inputs @ minimum, labels) + 1e-3 * minimum.square().sum()
    loss.backward()
    return loss


solver.step(whole_loss)
least = whole_loss().item()


def excess_losses(lr: float, batch_size: int) -> torch.Tensor:
    """Loss above the minimum every 20 steps for three seeds, [31, 3]; from step 400 on at a tenth of the rate."""
    draws = [torch.Generator().manual_seed(seed) for seed in range(3)]
    weights = minimum.detach().repeat(3, 1, 1).requires_grad_()  # [seeds, 50, 10]
    optimizer, curve = SGD([weights], lr=lr), []
    for step in range(601):
        if step % 20 == 0:
            with torch.no_grad():
                logits = inputs @ weights  # [seeds, 4000, 10]
                losses = F.cross_entropy(logits.transpose(1, 2), labels.repeat(3, 1), reduction="none").mean(dim=1)
                curve.append(losses + 1e-3 * weights.square().sum(dim=(1, 2)) - least)
        if step == 400:
            optimizer.param_groups[0]["lr"] = lr / 10
        rows = torch.stack([torch.randint(len(inputs), (batch_size,), generator=draw) for draw in draws])
        logits = inputs[rows] @ weights  # [seeds, batch, 10]
        optimizer.zero_grad()
        # A sum over seeds: each has its own weights, so each gets its own gradient.
        loss = F.cross_entropy(logits.flatten(0, 1), labels[rows].flatten()) * 3 + 1e-3 * weights.square().sum()
        loss.backward()
        optimizer.step()
    return torch.stack(curve)


excess = {
    (lr, batch_size): excess_losses(lr, batch_size) for lr, batch_size in ((0.1, 8), (0.4, 8), (0.1, 64), (0.4, 64))
}
before = {setting: curve[10:21].mean(dim=0) for setting, curve in excess.items()}  # steps 200 to 400, [seeds]
after = {setting: curve[28:].mean(dim=0) for setting, curve in excess.items()}  # steps 560 to 600
table(
    ["lr", "batch", "excess loss at this rate, three seeds", "", "", "at a tenth of it", "", ""],
    [(*setting, *before[setting].tolist(), *after[setting].tolist()) for setting in excess],
)
left = (after[0.4, 8].sum() / before[0.4, 8].sum()).item()
settle("after the drop", min(("0.9", "0.5", "0.15"), key=lambda share: abs(float(share) - left)))

figure, axes = plt.subplots(1, 2, figsize=(13, 4.2), layout="constrained")
for number, (name, values) in enumerate(floors.items()):
    axes[0].plot([number] * 3, values, "o", color="tab:blue", label="measured, three groups" if number == 0 else None)
    axes[0].plot(number, predicted[name], "k_", markersize=22, label="predicted" if number == 0 else None)
axes[0].set(
    xticks=range(4), xticklabels=[name.replace(", ", "\n") for name in floors], ylabel="loss above the minimum",
    title="Diabetes: the noise floor", ylim=(0, None),
)  # fmt: skip
for (lr, batch_size), style in zip(excess, ("-", "-", "--", "--"), strict=True):
    axes[1].semilogy(
        range(20, 601, 20), excess[lr, batch_size].mean(dim=1)[1:], style, label=f"lr {lr}, batch {batch_size}"
    )
axes[1].axvline(400, color="grey", linestyle=":")
axes[1].set(xlabel="step", ylabel="loss above the minimum, mean of three seeds", title="Digits: the rate ÷ 10 at 400")
for axis in axes:
    axis.legend(fontsize=8)
show(figure, "noise-floor")

# %% [markdown] lang="en"
# SGD cannot even stay where nothing is left to learn. The larger rate has the higher floor, the larger batch the lower. After
# the drop the excess falls by about two fifths within 200 steps; what is left lies along flat directions, where the small
# rate needs $1/(\eta h)$ steps. This is why schedules end at small rates (09/03), and come down gradually: a large
# rate is fast, a small one is exact. Averaging the weights (EMA) is the other way.

# %% [markdown] lang="zh"
# 即使已经没有什么可学，SGD 也待不住。学习率大，噪声底就高；批次大，噪声底就低。
# 降低学习率之后，多余的损失在 200 步之内减少约五分之二；剩下的在平坦方向上，小学习率在那里需要 $1/(\eta h)$ 步。
# 所以学习率调度都以小学习率收尾，而且逐渐降下来（09/03）：大的求快，小的求准。另一种办法是对权重取平均（EMA）。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# `torch.optim.SGD` in five settings: one network, the same 150 batches, all weights after every step, in float64. Each
# gradient depends on all steps before it, so that an error would grow. And dampening: with $\tau = \mu$ the velocity
# becomes a running mean, a tenth of the sum for $\mu = 0.9$. At ten times the rate the path is the old one, but for the
# first gradient, which torch does not dampen: it counts ten times. We feed both the same gradients, the first of them
# zero, and then once more with a first one that is not.

# %% [markdown] lang="zh"
# 与 `torch.optim.SGD` 对照五种设置：同一个网络、同样的 150 个批次、float64，比较每一步之后的全部权重。
# 每个梯度都取决于之前所有的步，有错就会越滚越大。再看 dampening：取 $\tau = \mu$ 时速度变成滑动平均，$\mu = 0.9$ 时是总和的十分之一。
# 学习率放大十倍，路径就与原来一样，只差第一个梯度：torch 不对它做 dampening，它就算了十倍。
# 我们给两者同样的梯度，先让第一个为零，再来一次让第一个不为零。


# %%
def path(rule, **options) -> torch.Tensor:
    """All weights of a small network after each of 150 steps, [150, weights]."""
    draw = torch.Generator().manual_seed(3)
    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.4, generator=draw)
    optimizer, visited = rule(network.parameters(), **options), []
    for _ in range(150):
        batch = torch.randn(16, 6, generator=draw, dtype=torch.float64)
        optimizer.zero_grad()
        F.cross_entropy(network(batch), torch.randint(3, (16,), generator=draw)).backward()
        optimizer.step()
        visited.append(nn.utils.parameters_to_vector(network.parameters()).detach().clone())
    return torch.stack(visited)


variants = {
    "plain": {"lr": 0.1},
    "weight decay": {"lr": 0.1, "weight_decay": 0.05},
    "heavy ball": {"lr": 0.05, "momentum": 0.9},
    "Nesterov": {"lr": 0.05, "momentum": 0.9, "nesterov": True},
    "dampening": {"lr": 0.3, "momentum": 0.9, "dampening": 0.9},
}
paths = {name: (path(SGD, **options), path(torch.optim.SGD, **options)) for name, options in variants.items()}
table(
    ["setting", "moved", "largest difference in 150 steps"],
    [(name, (a[-1] - a[0]).norm().item(), (a - b).abs().max().item()) for name, (a, b) in paths.items()],
)


def fed(gradients: list[float], **options) -> float:
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = SGD([w], momentum=0.9, **options)
    for gradient in gradients:
        w.grad = torch.full_like(w, gradient)
        optimizer.step()
    return w.item()


late = [fed([0.0, 1.0, -2.0, 0.5], lr=0.1), fed([0.0, 1.0, -2.0, 0.5], lr=1.0, dampening=0.9)]
first = [fed([1.0, 0.0, 0.0, 0.0], lr=0.1), fed([1.0, 0.0, 0.0, 0.0], lr=1.0, dampening=0.9)]
table(
    ["gradients", "lr 0.1", "lr 1, dampening 0.9"],
    [("the first is zero", *late), ("only the first is not", *first)],
)

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: plain descent leaves 0.8¹⁰ in both directions", plain[10].abs(), [0.8**10] * 2, 1e-9)
check_close("by hand: the heavy ball's first steps", heavy[1:4], [[0.75, -1.25], [0.5, 1.0], [0.3125, -0.6875]], 1e-9)
check_close("by hand: the coin's loss 0.056", coin_floor, 0.02 / 0.36, 1e-6)
check_close(
    "150 steps of all five settings are torch's", *(torch.stack(side) for side in zip(*paths.values(), strict=True)),
    1e-10,
)  # fmt: skip
check(
    "measured factors are the theory's, within 1.5 percent",
    all(abs(measured[key] / factor - 1) < 0.015 for key, (_, factor) in settings.items()),
)
check(
    "from κ = 10 to κ = 1000, plain descent takes some hundred times the steps, momentum some ten times",
    60 < steps_needed[1000.0, "plain"] / steps_needed[10.0, "plain"] < 140
    and 7 < steps_needed[1000.0, "heavy ball"] / steps_needed[10.0, "heavy ball"] < 15
    and 7 < steps_needed[1000.0, "Nesterov"] / steps_needed[10.0, "Nesterov"] < 15,
)
check(
    "no point of the map is faster than the optimum",
    all(maps[name].min() >= settings[100.0, name][1] - 1e-9 for name in maps),
)
for name, bound in (("heavy ball", 2 * 1.9), ("Nesterov", 2 * 1.9 / 2.8)):
    around = convergence_factor(torch.tensor([0.999 * bound, 1.001 * bound]), 1.0, 0.9, name == "Nesterov")
    check(f"{name}, momentum 0.9: stable up to ηh = {bound:.3g}, and no further", around[0] < 1 < around[1])
check(
    "every group's noise floor is the predicted one, within 15 percent",
    all(abs(value / predicted[name] - 1) < 0.15 for name in floors for value in floors[name]),
)
check("rate and batch times four: the same floor, within 15 percent", abs(ratio - 1) < 0.15)
check(
    "digits: with every seed, the larger rate and the smaller batch lose more",
    all((before[0.4, size] > 2 * before[0.1, size]).all() for size in (8, 64))
    and all((before[lr, 8] > 3 * before[lr, 64]).all() for lr in (0.1, 0.4)),
)
check(
    "digits: with every seed, batch 8 at rate 0.4 loses at least three tenths of its excess after the drop",
    (after[0.4, 8] < 0.7 * before[0.4, 8]).all(),
)
check_close("dampening equal to momentum is a tenth of the rate", *late, 1e-12)
check_close("but the first gradient counts ten times", first[1], 10 * first[0], 1e-12)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `cifar10-resnet` trains its last layer, norms and biases with Nesterov momentum, and its kernels with Muon
# (09/02), whose momentum is this lesson's: `uv run --package cifar10-resnet train --max-minutes 2`.
#
# Papers: [Polyak 1964](https://doi.org/10.1016/0041-5553(64)90137-5), the heavy ball; [Sutskever et al.
# 2013](https://proceedings.mlr.press/v28/sutskever13.html), Nesterov's form in deep learning; [Lessard, Recht & Packard
# 2016](https://arxiv.org/abs/1408.3595), all three on quadratics and beyond; [Goyal et al.
# 2017](https://arxiv.org/abs/1706.02677), the linear scaling rule. Next: a rate for each weight, 09/02.

# %% [markdown] lang="zh"
# 实战项目 `cifar10-resnet` 用 Nesterov 动量训练最后一层、归一化层和偏置，用 Muon（09/02）训练卷积核，Muon 的动量就是本课的动量：
# `uv run --package cifar10-resnet train --max-minutes 2`。
#
# 论文：[Polyak 1964](https://doi.org/10.1016/0041-5553(64)90137-5)，重球法；
# [Sutskever 等 2013](https://proceedings.mlr.press/v28/sutskever13.html)，深度学习中的 Nesterov 形式；
# [Lessard、Recht 与 Packard 2016](https://arxiv.org/abs/1408.3595)，三种方法在二次函数及更一般情形下的比较；
# [Goyal 等 2017](https://arxiv.org/abs/1706.02677)，线性缩放规则。下一课：每个权重有自己的步长，09/02。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `convergence_factor`, `optimal_nesterov` and `noise_floor`. `uv run lesson exercise 09/01` makes a file with their
# signatures, `uv run lesson check 09/01` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `convergence_factor`、`optimal_nesterov` 和 `noise_floor`。
# `uv run lesson exercise 09/01` 生成带有签名的文件，`uv run lesson check 09/01` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Compute $b$ and $c$ as tensors of the broadcast shape first; $c$ of the heavy ball does not depend on the curvature, so
#    it must be stretched (`torch.ones_like`).
# 2. `torch.where` computes both sides: clamp what goes under a root to at least 0, or the other side is `nan`.
# 3. The larger root in absolute value is $(|b| + \sqrt{b^2 - 4c})/2$, whatever the sign of $b$.
# 4. The floor is a sum over directions. If $2(1 + \mu) - \eta h \le 0$ anywhere, the result is `torch.inf`.

# %% [markdown] lang="zh"
# 1. 先把 $b$ 和 $c$ 算成广播之后形状的张量；重球法的 $c$ 与曲率无关，要撑开到同样的形状（`torch.ones_like`）。
# 2. `torch.where` 两边都会算：开方的东西要先限制到不小于 0，否则另一边会是 `nan`。
# 3. 绝对值较大的根是 $(|b| + \sqrt{b^2 - 4c})/2$，不论 $b$ 的符号。
# 4. 噪声底是对各方向求和。只要有一处 $2(1 + \mu) - \eta h \le 0$，结果就是 `torch.inf`。


# %%
@exercise(convergence_factor, optimal_nesterov, noise_floor)
def judge(yours, reference):
    curvature = torch.tensor([0.1, 1.0, 3.0, 9.0, 19.0, 25.0, 39.0], dtype=torch.float64)
    for momentum, nesterov in ((0.0, False), (0.9, False), (0.3, False), (0.9, True), (0.3, True)):
        named = f"momentum {momentum}, nesterov={nesterov}"
        mine, theirs = (each.convergence_factor(curvature, 0.1, momentum, nesterov) for each in (yours, reference))
        check(f"convergence_factor has one factor for each curvature: {named}", mine.shape == curvature.shape)
        check_close(f"convergence_factor: {named}", mine, theirs, 1e-9)
    lrs = torch.tensor([[0.01], [0.1]], dtype=torch.float64)
    mine, theirs = (each.convergence_factor(curvature, lrs, 0.5) for each in (yours, reference))
    check_close("convergence_factor of several rates at once", mine, theirs, 1e-9)
    for smallest, largest in ((1.0, 100.0), (0.5, 3.0)):
        mine, theirs = (each.optimal_nesterov(smallest, largest) for each in (yours, reference))
        for part, a, b in zip(("rate", "momentum", "factor"), mine, theirs, strict=True):
            check_close(f"optimal_nesterov for {smallest} … {largest}: the {part}", a, b, 1e-9)
    variance = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0], dtype=torch.float64)
    for lr, momentum in ((0.01, 0.0), (0.05, 0.0), (0.05, 0.9)):
        mine, theirs = (each.noise_floor(curvature[:5], variance, lr, momentum) for each in (yours, reference))
        check_close(f"noise_floor at rate {lr}, momentum {momentum}", mine, theirs, 1e-9)
    diverging = yours.noise_floor(curvature, torch.ones(7, dtype=torch.float64), 0.1)
    check("noise_floor is infinite where a direction diverges", diverging == torch.inf)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why does momentum speed up descent, and by how much? · 动量为什么能加速下降？能加速多少？

# %% [markdown] lang="en"
# The steepest direction bounds the rate, and the flattest one then advances only $1/\kappa$ per step. Momentum adds up the
# gradients that agree, and those of the steep direction, which alternate in sign, cancel. With the best constants the
# number of steps grows with $\sqrt\kappa$ instead of $\kappa$. On quadratics no method that uses gradients only does
# better in that order.

# %% [markdown] lang="zh"
# 最陡的方向限制了学习率，最平的方向于是每步只前进 $1/\kappa$。动量把方向一致的梯度累加起来，而陡的方向上梯度正负交替，互相抵消。
# 取最佳常数时，步数由随 $\kappa$ 增长变成随 $\sqrt\kappa$ 增长。只用梯度的方法，在二次函数上的量级不可能更好。

# %%
for kappa in (10.0, 100.0, 1000.0):
    print(
        f"  κ = {kappa:g}: " + ", ".join(f"{m} {steps_needed[kappa, m]}" for m in ("plain", "heavy ball", "Nesterov"))
    )

# %% [markdown]
# ### What is the difference between heavy ball and Nesterov momentum? · 重球法与 Nesterov 动量有什么区别？

# %% [markdown] lang="en"
# The heavy ball adds the velocity to the gradient at the present point; Nesterov's form takes the gradient after the
# velocity has acted, which in torch's variables is the step $g + \mu v$. In a steep direction it brakes earlier: its
# roots have absolute value $\sqrt{\mu(1 - \eta h)}$ instead of $\sqrt\mu$. On quadratics the heavy ball is a little
# faster at its optimum; on other convex functions it may cycle with the same constants, while Nesterov's form keeps a
# guarantee (Lessard et al. 2016). Nesterov's stability bound for the rate is the smaller one.

# %% [markdown] lang="zh"
# 重球法把速度加到当前点的梯度上；Nesterov 形式在速度先作用之后再取梯度，用 torch 的变量写就是走 $g + \mu v$。
# 在陡的方向上它刹车更早：根的绝对值是 $\sqrt{\mu(1 - \eta h)}$，而不是 $\sqrt\mu$。
# 在二次函数上，重球法在最优处略快；但在其他凸函数上，同样的常数可能使它陷入循环，而 Nesterov 形式仍有保证（Lessard 等 2016）。
# Nesterov 对学习率的稳定上限更小。

# %%
for h in (0.1, 0.5, 0.9):
    of = [convergence_factor(torch.tensor(h), 1.0, 0.9, nesterov).item() for nesterov in (False, True)]
    print(f"  ηh = {h}, momentum 0.9: heavy ball {of[0]:.3f}, Nesterov {of[1]:.3f} per step")

# %% [markdown]
# ### You add momentum 0.9 to a tuned SGD. What happens to the learning rate? · 给调好的 SGD 加上动量 0.9，学习率该怎么变？

# %% [markdown] lang="en"
# A gradient that stays the same now adds up to $1/(1 - \mu) = 10$ times itself, so the same behavior needs about a tenth
# of the rate; noise floor and speed along flat directions are then as before. What momentum makes possible is a larger
# effective rate, since steep directions no longer forbid it: tune again, starting from a tenth and going up.

# %% [markdown] lang="zh"
# 保持不变的梯度会累加到 $1/(1 - \mu) = 10$ 倍，所以要得到同样的行为，学习率大约取十分之一；噪声底和平坦方向的速度就与原来一样。
# 动量带来的好处是可以用更大的有效学习率，因为陡的方向不再妨碍：从十分之一开始往上重新调。

# %%
for name in ("lr 0.02, batch 8", "lr 0.002, batch 8, momentum 0.9"):
    print(f"  {name}: floor {sum(floors[name]) / 3:.4f}")

# %% [markdown]
# ### Why 0.9? · 为什么是 0.9？

# %% [markdown] lang="en"
# On a quadratic the best momentum is $((\sqrt\kappa - 1)/(\sqrt\kappa + 1))^2$, which is 0.9 for a condition number of
# about 1,440: a typical badly conditioned problem. It is also a memory of ten steps. 0.99 is for much worse conditioning or
# very little noise, 0.5 for well-conditioned problems. The price of too much momentum is that errors ring on for
# $1/(1 - \mu)$ steps, for example after a bad batch.

# %% [markdown] lang="zh"
# 在二次函数上最佳动量是 $((\sqrt\kappa - 1)/(\sqrt\kappa + 1))^2$，等于 0.9 时条件数约为 1,440，正是典型的病态问题。
# 它也相当于十步的记忆。0.99 适合病态得多或噪声很小的问题，0.5 适合条件好的问题。
# 动量过大的代价是误差会回荡 $1/(1 - \mu)$ 步，例如在一个坏批次之后。

# %%
for kappa in (10.0, 100.0, 1442.0, 40_000.0):
    print(f"  κ = {kappa:g}: best momentum {optimal_momentum(1.0, kappa)[1]:.3f}")

# %% [markdown]
# ### What is dampening, and why is it rarely used? · dampening 是什么？为什么很少用？

# %% [markdown] lang="en"
# It weighs each new gradient by $1 - \tau$. With $\tau = \mu$ the velocity is a running mean instead of a sum, as in Adam.
# That is the same method at $1/(1 - \tau)$ times the rate, so it adds no ability; it makes the rate keep its meaning when
# the momentum is changed. Mind the first step: torch starts the buffer with the whole gradient, not dampened, which here
# counts ten times as much.

# %% [markdown] lang="zh"
# 它给每个新梯度乘以 $1 - \tau$。取 $\tau = \mu$ 时速度是滑动平均而不是累加和，与 Adam 一样。
# 这与学习率乘以 $1/(1 - \tau)$ 是同一种方法，并没有新的能力；好处是改动量时学习率的含义不变。
# 注意第一步：torch 用未经 dampening 的完整梯度作为起始速度，在这里相当于它的十倍。

# %%
print(f"  the first gradient moves w to {first[0]:.3f} without and {first[1]:.3f} with dampening, at the matching rate")

# %% [markdown]
# ### Training is flat, and dropping the learning rate makes the loss fall again. Why? · 训练停滞，降低学习率后损失又下降，为什么？

# %% [markdown] lang="en"
# The loss was at its noise floor: each step adds as much variance as the pull to the minimum takes away. The floor is
# about $\eta \sum s_i^2 / 4B$, proportional to the rate. With a smaller rate the same pull wins within
# $1/(\eta h)$ steps. But flat directions now advance more slowly, so a drop too early is paid for: the loss looks better
# and the training is further from its end.

# %% [markdown] lang="zh"
# 损失到了噪声底：每步加进来的方差，正好等于向最小值的拉力消除的方差。噪声底约为 $\eta \sum s_i^2 / 4B$，与学习率成正比。
# 学习率变小，同样的拉力在 $1/(\eta h)$ 步之内就占上风。但平坦方向也前进得更慢，所以降得太早要付代价：损失好看了，训练却离终点更远。

# %%
for setting in excess:
    kept = (after[setting].sum() / before[setting].sum()).item()
    print(f"  digits, lr {setting[0]}, batch {setting[1]}: {kept:.0%} of the excess is left after the drop")

# %% [markdown]
# ### The batch size is multiplied by k. How should the learning rate change, and when does the rule fail? · 批次大小乘以 k，学习率怎么改？规则何时失效？

# %% [markdown] lang="en"
# By $k$ as well: one step with the large batch then replaces $k$ small ones, and the noise floor stays. It fails when
# $\eta$ reaches the curvature's bound, $2/\lambda_{\max}$ for plain SGD: from there on a larger batch lowers only the
# noise, and no longer the number of steps. It also fails at the start, when the curvature is largest, which is why
# large batches are trained with a warm-up. For Adam the rule of thumb is $\sqrt k$.

# %% [markdown] lang="zh"
# 也乘以 $k$：这样一步大批次就顶替 $k$ 步小批次，噪声底不变。当 $\eta$ 碰到曲率的上限（普通 SGD 是 $2/\lambda_{\max}$）时规则失效：
# 再往上，大批次只降低噪声，不再减少步数。训练初期曲率最大，规则也会失效，所以大批次要预热。Adam 的经验规则是 $\sqrt k$。

# %%
print(f"  diabetes: rate and batch times 4 change the floor by the factor {ratio:.2f}")
print(f"  its curvature allows rates up to {2 / curvatures.max().item():.2f}")
