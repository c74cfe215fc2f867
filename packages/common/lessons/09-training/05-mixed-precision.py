# %% [markdown]
# # Mixed precision · 混合精度

# %% [markdown] lang="en"
# After this lesson you can read fp32, tf32, fp16, bf16 and fp8 bit by bit, show where gradients underflow, write loss
# scaling (static and dynamic) and fp32 master weights, and say what autocast keeps in fp32 and why bf16 needs no
# scaling. You need the training loop (03/09) and Adam (09/02).

# %% [markdown] lang="zh"
# 学完本课，你能逐位读懂 fp32、tf32、fp16、bf16 和 fp8，能指出梯度在哪里下溢，能写出损失缩放（静态与动态）和 fp32 主权重，
# 并说清 autocast 把什么留在 fp32、bf16 为什么不需要缩放。先修：训练循环（03/09）与 Adam（09/02）。

# %%
import contextlib
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, seconds, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.runtime.hardware import computes_in_bf16
from dlcommon.training.activation_memory import saved_bytes
from dlcommon.training.float_formats import BF16, E4M3, E5M2, FP16, FP32, TF32, bits_of, round_to
from dlcommon.training.loss_scaling import LossScaler
from dlcommon.training.master_weights import MasterWeights
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A number of 16 bits takes half the memory of one of 32, and processors with units for it multiply several times as
# fast. So you switch a training to fp16, and the loss does not move. No error, no NaN: the gradients are simply 0. Or
# it trains for an hour and becomes NaN. Or you store the weights in 16 bits and the end is a little worse, every time.
#
# Three different faults, and each has a known remedy. To see which is which you have to know what the bits mean.

# %% [markdown] lang="zh"
# 16 位的数只占 32 位一半的内存，有专门单元的处理器做乘法快好几倍。于是你把训练换成 fp16，损失却一动不动。
# 没有报错，没有 NaN：梯度就是 0。或者训练一小时后变成 NaN。或者把权重存成 16 位，结果每次都差一点。
#
# 这是三种不同的毛病，各有已知的办法。要分清是哪一种，得先知道每一位的含义。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# 0.1 in fp16: the largest power of two below it is $2^{-4} = 0.0625$, and $0.1 / 0.0625 = 1.6$. The exponent field is
# $-4 + 15 = 11$, in bits `01011`. Of the fraction 0.6 we can keep 10 bits: $0.6 \cdot 1024 = 614.4$, rounded 614, in
# bits `1001100110`. Stored is $2^{-4} (1 + 614/1024) = 0.09998$. bf16 has 7 bits for the fraction:
# $0.6 \cdot 128 = 76.8$, rounded 77: $2^{-4} (1 + 77/128) = 0.10010$.
#
# *Too small*: below $2^{-14}$ the exponent field is 0 and the numbers are $2^{-24} = 6 \cdot 10^{-8}$ apart. A gradient
# of $2 \cdot 10^{-8}$ is nearer to 0 than to $6 \cdot 10^{-8}$: it becomes 0. Multiplied by 1024 first, it is
# $2.05 \cdot 10^{-5}$, which fp16 holds to three digits.
#
# *Too large*: 65,504 is the last number of fp16; 70,000 becomes infinity.
#
# *Too near*: after 1 comes $1 + 2^{-10} = 1.000977$. An update of 0.0004 is less than half of that distance:
# $1 + 0.0004$ is 1 again. In bf16 the next number after 1 is 1.0078.

# %% [markdown] lang="zh"
# 0.1 在 fp16 中：不超过它的最大的 2 的幂是 $2^{-4} = 0.0625$，$0.1 / 0.0625 = 1.6$。
# 指数域是 $-4 + 15 = 11$，即 `01011`。小数部分 0.6 只能留 10 位：$0.6 \cdot 1024 = 614.4$，取 614，即 `1001100110`。
# 存下的是 $2^{-4} (1 + 614/1024) = 0.09998$。
# bf16 的尾数有 7 位：$0.6 \cdot 128 = 76.8$，取 77：$2^{-4} (1 + 77/128) = 0.10010$。
#
# *太小*：小于 $2^{-14}$ 时指数域为 0，相邻的数相距 $2^{-24} = 6 \cdot 10^{-8}$。
# $2 \cdot 10^{-8}$ 的梯度离 0 比离 $6 \cdot 10^{-8}$ 近：变成 0。先乘以 1024 就是 $2.05 \cdot 10^{-5}$，fp16 能保留三位有效数字。
#
# *太大*：65,504 是 fp16 的最后一个数；70,000 变成无穷大。
#
# *太近*：1 之后的下一个数是 $1 + 2^{-10} = 1.000977$。0.0004 的更新不到这个间距的一半：$1 + 0.0004$ 还是 1。
# 在 bf16 中，1 之后是 1.0078。

# %%
FORMATS = (FP32, TF32, FP16, BF16, E5M2, E4M3)
table(
    ["format", "bits", "0.1 is stored as", "which is", "smallest normal", "smallest", "after 1", "largest"],
    [
        (
            f.name,
            1 + f.exponent_bits + f.mantissa_bits,
            bits_of(0.1, f) if f is not FP32 else "0 01111011 1001…",
            f"{round_to(torch.tensor(0.1, dtype=torch.float64), f).item():.6f}",
            f.smallest_normal,
            f.smallest_subnormal,
            f"{1 + f.epsilon:.7g}",
            f.largest,
        )
        for f in FORMATS
    ],
)
tiny = torch.tensor(2e-8)
rescued = (tiny * 1024).half().float() / 1024
print(f"  2e-8 in fp16: {tiny.half().item()}; times 1024, in fp16, divided in fp32: {rescued.item():.4g}")
print(
    f"  70,000 in fp16: {torch.tensor(7e4).half().item()}; 1 + 0.0004 in fp16: {(torch.tensor(1.0).half() + 4e-4).item()}"
)

figure, axis = plt.subplots(figsize=(11, 3), layout="constrained")
for row, f in enumerate(reversed(FORMATS)):
    low, normal, high = (math.log2(v) for v in (f.smallest_subnormal, f.smallest_normal, f.largest))
    axis.barh(row, high - normal, left=normal, color="tab:blue", label="all bits of precision" if row == 0 else None)
    axis.barh(row, normal - low, left=low, color="tab:orange", label="subnormal: fewer" if row == 0 else None)
axis.set_yticks(range(len(FORMATS)), [f"{f.name}: {f.exponent_bits} + {f.mantissa_bits}" for f in reversed(FORMATS)])
axis.set(xlabel="log₂ of the number", title="Range (exponent + mantissa bits)")
axis.legend(loc="lower right")
show(figure, "formats")

drawing = Schematic(10.0, 3.4, "One step of mixed precision with loss scaling")
for name, x, y, text, kind, width in (
    ("master", 1.2, 2.3, "weights\nfp32", "parameter", 1.6),
    ("half", 3.7, 2.3, "weights\n16 bits", "data", 1.5),
    ("loss", 6.2, 2.3, "loss\nfp32", "data", 1.3),
    ("scaled", 8.6, 2.3, "loss · S", "operation", 1.5),
    ("grads", 8.6, 0.8, "S · gradients\n16 bits", "data", 2.1),
    ("unscaled", 5.4, 0.8, "÷ S in fp32,\nall finite?", "operation", 2.1),
    ("step", 1.9, 0.8, "yes: step\nno: skip, S/2", "operation", 2.1),
):
    drawing.box(name, x, y, text, kind, width, height=0.8)
for start, end, label in (
    ("master", "half", "cast"), ("half", "loss", "forward"), ("loss", "scaled", ""), ("scaled", "grads", "backward"),
    ("grads", "unscaled", ""), ("unscaled", "step", ""), ("step", "master", ""),
):  # fmt: skip
    drawing.arrow(start, end, label)
show(drawing.figure, "step")

# %% [markdown]
# ## Formula · 公式
#
# $$x = (-1)^s\, 2^{E - b} \left(1 + \frac{M}{2^m}\right) \ (E > 0), \qquad x = (-1)^s\, 2^{1 - b}\, \frac{M}{2^m} \ (E = 0), \qquad b = 2^{e-1} - 1$$
#
# $$\mathrm{ulp}(x) = 2^{\lfloor \log_2 |x| \rfloor - m}, \qquad |\mathrm{fl}(x) - x| \le \tfrac12\, \mathrm{ulp}(x)$$
#
# $$\mathrm{fl}(w - \eta g) = w \quad \text{if} \quad |\eta g| < \tfrac12\, \mathrm{ulp}(w)$$
#
# $$g_S = \mathrm{fl}_{16}\left(\nabla (S L)\right), \qquad w \leftarrow w - \eta\, \frac{g_S}{S} \quad (\text{fp32}, \ \lVert g_S \rVert < \infty)$$
#
# $$S \leftarrow \tfrac12 S \ \text{ after an overflow}, \qquad S \leftarrow 2 S \ \text{ after } N \text{ steps without one}$$

# %% [markdown] lang="en"
# - $s$: the sign bit; $E$: the exponent field of $e$ bits; $M$: the mantissa field of $m$ bits; all read as whole
#   numbers.
# - $b$: the bias: 15 for fp16, 127 for fp32, tf32 and bf16. $E = 0$ holds the subnormal numbers and 0; all ones in $E$
#   mean infinity and NaN (E4M3 uses them for numbers, and has only NaN).
# - $\mathrm{ulp}(x)$: the distance between neighbors where $x$ lies, for normal numbers; $\mathrm{fl}$: rounding to the
#   nearest, to the even one of two.
# - $w, g, \eta$: weight, gradient, learning rate. The third line is the lost update; the halving of the distance below
#   a power of two aside.
# - $L$: the loss, a scalar; $S$: the loss scale, a power of two, so that multiplying and dividing by it rounds nothing
#   (Micikevicius et al. 2018, section 3.2).
# - $g_S$: the scaled gradients in 16 bits; if one of them is infinite or NaN, there is no step; $N$: the growth
#   interval, 2,000 in torch.

# %% [markdown] lang="zh"
# - $s$：符号位；$E$：$e$ 位的指数域；$M$：$m$ 位的尾数域；都按整数读。
# - $b$：偏置：fp16 为 15，fp32、tf32、bf16 为 127。$E = 0$ 是次正规数和 0；
#   $E$ 全为 1 表示无穷大和 NaN（E4M3 把它们用作数，只留 NaN）。
# - $\mathrm{ulp}(x)$：$x$ 处相邻两数的距离（正规数）；$\mathrm{fl}$：舍入到最近的数，一样近时取偶。
# - $w, g, \eta$：权重、梯度、学习率。第三行就是丢失的更新（2 的幂下方间距减半的情况除外）。
# - $L$：损失，标量；$S$：损失缩放因子，取 2 的幂，乘除它不产生舍入（Micikevicius 等 2018，第 3.2 节）。
# - $g_S$：16 位的缩放梯度，其中有无穷大或 NaN 时不更新；$N$：增长间隔，torch 中是 2,000。

# %% [markdown]
# ## Code · 代码

# %%
source(round_to)
source(LossScaler.scale_loss)
source(LossScaler.unscale)
source(LossScaler.step)
source(LossScaler._adapt)
source(MasterWeights)

# %% [markdown] lang="en"
# `round_to` finds the power of two below each number, from it the distance between neighbors there, and rounds to a
# multiple of that; `clamp` makes the distance stop shrinking below the smallest normal number, which gives the
# subnormals for free. It works for any format, also for tf32, which no tensor can have: it exists only inside the
# multipliers of a GPU, which read fp32 and drop 13 bits.
#
# `unscale` divides the gradients by S in fp32 and looks whether all are finite: an overflow anywhere has made infinity
# or NaN, which no division removes. `step` leaves the optimizer alone in that case: the weights and Adam's averages
# stay clean, only this batch is lost. `_adapt` moves S to just below where it overflows, again and again.
#
# `MasterWeights` is for networks whose weights themselves are in 16 bits. Under autocast the weights are fp32 all along
# and are cast for each product: they are their own master.

# %% [markdown] lang="zh"
# `round_to`找到每个数下方的 2 的幂，由此得到该处相邻数的距离，再舍入到它的倍数；
# `clamp` 使距离在最小正规数以下不再缩小，次正规数就自然得到了。它适用于任何格式，也包括没有张量能具有的 tf32：
# 它只存在于 GPU 的乘法器里，读入 fp32，丢掉 13 位。
#
# `unscale` 在 fp32 中把梯度除以 S，并检查是否全部有限：任何地方溢出都会产生无穷大或 NaN，除法消不掉。
# 这时 `step` 不动优化器：权重和 Adam 的平均保持干净，只损失这一个批次。`_adapt` 反复把 S 调到刚好不溢出的位置。
#
# `MasterWeights` 用于权重本身是 16 位的网络。在 autocast 下，权重始终是 fp32，每次乘法前才转换：它们就是自己的主权重。

# %% [markdown]
# ## Experiment: where gradients vanish · 实验：梯度在哪里消失

# %% [markdown] lang="en"
# An autoencoder for real digits, 14 × 14 pixels; its loss is the mean of the squared error over batch and pixels. The
# mean makes gradients small: each pixel's part is divided by 64 · 196. For pictures of 448 × 448 it would be smaller by
# another factor of 1,024; to see this without computing such pictures, we multiply the loss by 1/1,024. Under autocast,
# activations and the gradients that flow back through them are fp16.

# %% [markdown] lang="zh"
# 一个真实手写数字的自编码器，14 × 14 像素；损失是平方误差对批次和像素的平均。
# 取平均使梯度变小：每个像素的部分要除以 64 · 196。若图片是 448 × 448，还要再小 1,024 倍；
# 为了不真的计算那么大的图片，我们把损失乘以 1/1,024。在 autocast 下，激活值以及经它们传回的梯度都是 fp16。

# %%
quiz(
    "zeros",
    en="Loss times 1/1,024, fp16, no loss scaling: what share of the gradients is exactly 0?",
    zh="损失乘以 1/1,024，fp16，不做损失缩放：有多大比例的梯度恰好为 0？",
    choices={"20": "about 20 % · 约 20 %", "60": "about 60 % · 约 60 %", "100": "nearly all · 几乎全部"},
)

# %%
SEEDS, SMALL = (0, 1, 2), 1 / 1024
digits = data("mnist-sample")
pixels = torch.from_numpy(digits.train_images[..., 0]).float()[:, None] / 255  # [images, 1, 28, 28]
images = F.avg_pool2d(pixels, 2).flatten(1)  # [images, 196], in 0 … 1


def autoencoder(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    encoder = (nn.Linear(196, 64), nn.Tanh(), nn.Linear(64, 16), nn.Tanh())
    return nn.Sequential(*encoder, nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 196), nn.Sigmoid())


def batches(seed: int, steps: int) -> torch.Tensor:
    """Numbers of the images in each batch, [steps, 64]."""
    return torch.randint(len(images), (steps, 64), generator=torch.Generator().manual_seed(seed))


def precision(dtype: torch.dtype | None) -> contextlib.AbstractContextManager:
    """Autocast to a dtype; nothing for None, which is fp32."""
    return torch.autocast("cpu", dtype=dtype) if dtype else contextlib.nullcontext()


def reconstruction_loss(network: nn.Module, x: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    with precision(dtype):
        return F.mse_loss(network(x).float(), x)  # the mean is taken in fp32


gradients = {}
for name, dtype, factor in (
    ("fp32", None, 1.0),
    ("fp16", torch.float16, 1.0),
    ("fp32, loss / 1,024", None, SMALL),
    ("fp16, loss / 1,024", torch.float16, SMALL),
    ("fp16, loss / 1,024, scaled by 2¹⁶", torch.float16, SMALL * 2**16),
):
    network = autoencoder(0)
    (factor * reconstruction_loss(network, images[batches(0, 1)[0]], dtype)).backward()
    scale = 2**16 if "scaled" in name else 1
    gradients[name] = torch.cat([p.grad.flatten() for p in network.parameters()]) / scale
exact = gradients["fp32, loss / 1,024"]
present = exact != 0  # pixels that are black in every image of the batch have no gradient in fp32 either
zero_share = {name: (found[present] == 0).double().mean().item() for name, found in gradients.items()}
table(
    ["training", "of those that fp32 has: exactly 0", "median size", "relative error of the whole"],
    [
        (
            name,
            f"{zero_share[name]:.1%}",
            found[present].abs().median().item(),
            ((found * (1 if "1,024" in name else SMALL) - exact).norm() / exact.norm()).item(),
        )
        for name, found in gradients.items()
    ],
)
settle("zeros", min(("20", "60", "100"), key=lambda c: abs(int(c) / 100 - zero_share["fp16, loss / 1,024"])))

figure, axis = plt.subplots(figsize=(10, 3.8), layout="constrained")
bins = np.arange(-46, -2, 1)
for name, color, factor in (("fp32", "tab:blue", 1), ("fp32, loss / 1,024", "tab:red", 1)):
    axis.hist(torch.log2(factor * gradients[name][present].abs()).numpy(), bins, color=color, alpha=0.5, label=name)
scaled = torch.log2(2**16 * exact[present].abs())
axis.hist(scaled.numpy(), bins, histtype="step", color="black", label="the latter, scaled by 2¹⁶")
axis.set_ylim(0, 1.2 * axis.get_ylim()[1])
axis.axvspan(-46, -25, color="grey", alpha=0.2)
axis.axvspan(-25, -14, color="grey", alpha=0.1)
axis.text(-45.5, axis.get_ylim()[1] * 0.9, "fp16: becomes 0")
axis.text(-24.5, axis.get_ylim()[1] * 0.9, "fp16: subnormal")
axis.set(
    xlabel="log₂ of a gradient's size",
    ylabel="gradients",
    title="Gradients of an autoencoder, one batch",
    xlim=(-46, -3),
)
axis.legend(loc="center left")
show(figure, "gradients")

# %% [markdown] lang="en"
# Scaling the loss moves the histogram along the logarithmic axis, and changes nothing else: multiplied by $2^{16}$,
# most of it lies where fp16 is precise, and all but a few above what becomes 0. Note that even gradients above
# $2^{-25}$ have become 0. On its way back the error passes activations, whose gradients, one for each sample, are
# smaller than the sums over samples that the histogram shows.

# %% [markdown] lang="zh"
# 缩放损失就是把直方图沿对数轴平移，别的什么也不变：乘以 $2^{16}$ 之后，大部分落在 fp16 精确的范围里，变成 0 的只剩极少数。
# 注意连大于 $2^{-25}$ 的梯度也变成了 0：误差传回时要经过激活值，它们的梯度每个样本各有一个，比直方图里对样本求和的结果要小。

# %% [markdown]
# ## Experiment: train with each · 实验：逐一训练

# %% [markdown] lang="en"
# 80 steps of Adam with the small loss, three seeds: fp32; fp16 as it is; fp16 with a static scale of $2^{16}$; fp16
# with a dynamic scale that starts far too high, at $2^{36}$, and grows after 20 good steps (to see it move; 2,000 is
# usual); bf16 as it is. (Adam's $\varepsilon$ is $10^{-12}$ in all of them, since the gradients are small in fp32 as
# well.)

# %% [markdown] lang="zh"
# 用小损失训练 Adam 80 步，三个种子：fp32；fp16 原样；fp16 加静态缩放 $2^{16}$；
# fp16 加动态缩放，从过高的 $2^{36}$ 开始，20 个好步之后增长（为了看到它动；通常是 2,000）；bf16 原样。
# （各组 Adam 的 $\varepsilon$ 都取 $10^{-12}$，因为在 fp32 中梯度同样很小。）

# %%
quiz(
    "skipped",
    en="The dynamic scale starts at 2³⁶. How many of the 80 steps are skipped?",
    zh="动态缩放从 2³⁶ 开始。80 步中会跳过几步？",
)

# %%
STEPS = 80


def train(
    seed: int, dtype: torch.dtype | None, scaler: LossScaler | None = None
) -> tuple[list[float], list[float], int]:
    """Returns the loss, unscaled and not divided by 1,024, and the scale at each step, and the number of skipped steps."""
    network, losses, scales, skipped = autoencoder(seed), [], [], 0
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, eps=1e-12)
    for batch in batches(seed, STEPS):
        loss = reconstruction_loss(network, images[batch], dtype)
        losses.append(loss.item())
        optimizer.zero_grad()
        if scaler is None:
            (SMALL * loss).backward()
            optimizer.step()
        else:
            scales.append(scaler.scale)
            scaler.scale_loss(SMALL * loss).backward()
            skipped += not scaler.step(optimizer)
    with torch.no_grad():
        losses.append(reconstruction_loss(network, images[:1000], None).item())
    return losses, scales, skipped


makers = {
    "fp32": (None, lambda: None),
    "fp16": (torch.float16, lambda: None),
    "fp16, static 2¹⁶": (torch.float16, lambda: LossScaler(2.0**16, dynamic=False)),
    "fp16, dynamic": (torch.float16, lambda: LossScaler(2.0**36, growth_interval=20)),
    "bf16": (torch.bfloat16, lambda: None),
}
runs = {name: [train(seed, dtype, make()) for seed in SEEDS] for name, (dtype, make) in makers.items()}
final = {name: [losses[-1] for losses, _, _ in found] for name, found in runs.items()}
skips = [skipped for _, _, skipped in runs["fp16, dynamic"]]


def written(values: list[float]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


table(
    ["training", "loss at the start", "at the end, three seeds"],
    [(name, written([losses[0] for losses, _, _ in found]), written(final[name])) for name, found in runs.items()],
)
print(f"  dynamic scaling skipped {skips} steps")
settle("skipped", sorted(skips)[1], tolerance=1)

figure, axes = plt.subplots(1, 2, figsize=(12, 3.8), layout="constrained")
styles = {"fp32": "-", "fp16": "-", "fp16, static 2¹⁶": "--", "fp16, dynamic": ":", "bf16": "-."}
for name, style in styles.items():
    axes[0].plot(runs[name][0][0][:-1], style, label=name)
axes[0].set(xlabel="step", ylabel="loss of the batch", title="Seed 0")
axes[0].legend()
for seed, (_, scales, _) in zip(SEEDS, runs["fp16, dynamic"], strict=True):
    axes[1].step(range(STEPS), scales, where="post", label=f"seed {seed}")
axes[1].set(xlabel="step", ylabel="loss scale", yscale="log", title="The dynamic scale")
axes[1].set_yscale("log", base=2)
axes[1].legend()
show(figure, "training")

# %% [markdown] lang="en"
# Without scaling fp16 has not moved at all, with any seed, and without any error. With either scale it ends where fp32
# does. So does bf16 with nothing: it has the exponent of fp32, and its coarser mantissa only adds a little noise to
# each gradient. A skipped step is no fault: it is how the dynamic scale finds out how high it can go.

# %% [markdown] lang="zh"
# 不缩放的 fp16 一点也没动，每个种子都如此，而且没有任何报错。用哪种缩放都与 fp32 到达同一处。
# bf16 什么都不做也一样：它的指数与 fp32 相同，较粗的尾数只给每个梯度添一点噪声。
# 跳过一步不是故障：动态缩放就是这样得知自己能到多高的。

# %% [markdown]
# ## Experiment: weights in 16 bits · 实验：16 位的权重

# %% [markdown] lang="en"
# Now the weights themselves are stored in bf16, which halves their memory. The optimizer either updates them directly,
# or fp32 copies of them. A small learning rate, 0.0003, as at the end of a training or in fine-tuning; the full loss.

# %% [markdown] lang="zh"
# 现在把权重本身存成 bf16，内存减半。优化器或者直接更新它们，或者更新它们的 fp32 副本。
# 学习率取得小，0.0003，像训练末期或微调时那样；损失不再缩小。


# %%
def train_stored(seed: int, dtype: torch.dtype, master: bool) -> tuple[float, float]:
    """Returns the final loss, and the share of the weights that the first step moved."""
    network = autoencoder(seed).to(dtype)
    copies = MasterWeights(network.parameters()) if master else None
    optimizer = torch.optim.Adam(copies.parameters if copies else network.parameters(), lr=3e-4)
    moved = 0.0
    for step, batch in enumerate(batches(seed, STEPS)):
        before = network[4].weight.detach().clone()
        network.zero_grad()
        F.mse_loss(network(images[batch].to(dtype)).float(), images[batch]).backward()
        if copies is not None:
            copies.take_gradients()
        optimizer.step()
        if copies is not None:
            copies.write()
        if step == 0:
            moved = (network[4].weight != before).double().mean().item()
    with torch.no_grad():
        return F.mse_loss(network(images[:1000].to(dtype)).float(), images[:1000]).item(), moved


stored = {
    name: [train_stored(seed, dtype, master) for seed in SEEDS]
    for name, dtype, master in (
        ("fp32", torch.float32, False),
        ("bf16", torch.bfloat16, False),
        ("bf16 and fp32 master", torch.bfloat16, True),
    )
}
stored_loss = {name: [loss for loss, _ in found] for name, found in stored.items()}
table(
    ["weights", "loss at the end, three seeds", "weights that the first step changed"],
    [(name, written(stored_loss[name]), f"{found[0][1]:.0%}") for name, found in stored.items()],
)
for size in (0.01, 0.05, 0.1, 0.2):
    half_gap = 2.0 ** (math.floor(math.log2(size)) - 7) / 2
    print(f"  a bf16 weight of {size}: updates below {half_gap:.2g} are lost")

# %% [markdown] lang="en"
# Stored in bf16 alone, the network ends worse with every seed: large weights do not feel small updates, however many
# there are, and all in the same direction. With fp32 masters it ends as fp32 does, although it computes with the same
# bf16 weights: the first step changes as few of them, but the updates are not forgotten. (Another remedy is stochastic
# rounding: round up with a probability equal to the fraction, so that the mean is right.)

# %% [markdown] lang="zh"
# 只存 bf16 时，每个种子的结果都更差：大的权重感觉不到小的更新，不管有多少次，即使方向全都相同。
# 有了 fp32 主权重，结果与 fp32 一样，尽管计算用的是同样的 bf16 权重：第一步改变的权重一样少，但更新没有被忘记。
# （另一种办法是随机舍入：以小数部分为概率向上舍入，这样平均值是对的。）

# %% [markdown]
# ## Experiment: autocast, speed and memory · 实验：autocast、速度与内存

# %% [markdown] lang="en"
# Autocast decides operation by operation: products, which cost the most and sum in fp32 inside, get 16 bits; losses,
# logarithms and long sums get fp32; others take what comes. The lists differ by device: on CUDA softmax, layer norm,
# `exp`, `log`, `pow`, `sum` and the losses are computed in fp32; the CPU's list is shorter, as the table shows. Times
# are this machine's, the fastest of several; where a processor has no unit for a format it emulates it, often more
# slowly.

# %% [markdown] lang="zh"
# autocast 逐个运算决定：乘积最费时，内部又用 fp32 求和，所以用 16 位；损失、对数、长的求和用 fp32；其余来什么算什么。
# 各设备的列表不同：在 CUDA 上 softmax、层归一化、`exp`、`log`、`pow`、`sum` 和各种损失都用 fp32 计算；
# CPU 的列表短一些，见下表。时间是本机测得的，取数次中最快的；没有相应单元的处理器只能模拟，往往更慢。

# %%
a, b = torch.randn(8, 16), torch.randn(16, 16)
picture, kernel = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 3, 3)
operations = {
    "a @ b": lambda: a @ b,
    "F.linear": lambda: F.linear(a, b),
    "F.conv2d": lambda: F.conv2d(picture, kernel),
    "F.mse_loss of bf16": lambda: F.mse_loss((a @ b), (a @ b)),
    "softmax of bf16": lambda: (a @ b).softmax(dim=1),
    "layer_norm of bf16": lambda: F.layer_norm(a @ b, (16,)),
    "relu of bf16": lambda: (a @ b).relu(),
    "exp of fp32": lambda: a.exp(),
    "bf16 + fp32": lambda: (a @ b) + a,
}
with torch.autocast("cpu", dtype=torch.bfloat16):
    found_dtypes = {name: str(operation().dtype).removeprefix("torch.") for name, operation in operations.items()}
table(["under CPU autocast", "result"], found_dtypes.items())

sides = {
    name: torch.randn(256, 256).to(dtype)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16))
}
times = {name: seconds(lambda m=m: m @ m) for name, m in sides.items()}
network = autoencoder(0)


def forward(x: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    with precision(dtype):
        return network(x)


kept = {
    (name, count): saved_bytes(lambda d=dtype, n=count: forward(images[:n].clone(), d), network.parameters())
    for name, dtype in (("fp32", None), ("bf16", torch.bfloat16))
    for count in (16, 1024)
}
table(
    ["", "256³ product, milliseconds", "of fp32's", "kept for backward, 16 images", "1,024 images"],
    [
        (
            name,
            f"{1e3 * times[name]:.3f}",
            f"{times[name] / times['fp32']:.2f}",
            *(f"{kept[name, n] / 1024:,.0f} KiB" if (name, n) in kept else "" for n in (16, 1024)),
        )
        for name in times
    ],
)
print(f"  this processor computes in bf16 natively: {computes_in_bf16(torch.device('cpu'))}")

# %% [markdown] lang="en"
# With 1,024 images about half as much is kept for the backward pass. With 16 it is more than in fp32: activations are
# halved, but autocast also keeps 16-bit copies of the weights, which a small batch does not repay. Weights, gradients
# and Adam's averages are fp32 as before, 16 bytes for each weight. That is why autocast saves most where activations
# dominate.

# %% [markdown] lang="zh"
# 1,024 张图片时，为反向传播保留的内存约为一半；16 张时反而比 fp32 还多：激活值减半，
# 但 autocast 还要保留权重的 16 位副本，小批量抵不回来。权重、梯度和 Adam 的两个平均与从前一样是 fp32，每个权重 16 字节。
# 所以 autocast 在激活值占大头的地方最省内存。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# torch's conversions must give what `round_to` gives, for 10,000 random numbers of all magnitudes; and
# `torch.amp.GradScaler`, which also works on the CPU, must have the same scale at every step and train the same
# weights, through overflows.

# %% [markdown] lang="zh"
# torch 的类型转换必须与 `round_to` 一致，取 10,000 个各种量级的随机数；
# `torch.amp.GradScaler` 在 CPU 上也能用，每一步的缩放因子必须相同，经过溢出之后训练出的权重也必须相同。

# %%
random = torch.Generator().manual_seed(0)
numbers = torch.randn(10_000, generator=random) * 2.0 ** torch.randint(-30, 20, (10_000,), generator=random)
converted = {f.name: (round_to(numbers, f), numbers.to(f.dtype).double()) for f in FORMATS if f.dtype is not None}
followed = {}
for whose in ("ours", "torch"):
    network = autoencoder(3)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, eps=1e-12)
    ours = LossScaler(2.0**36, growth_interval=5)
    theirs = torch.amp.GradScaler("cpu", init_scale=2.0**36, growth_interval=5)
    trail = []
    for batch in batches(3, 30):
        loss = SMALL * reconstruction_loss(network, images[batch], torch.float16)
        optimizer.zero_grad()
        if whose == "ours":
            ours.scale_loss(loss).backward()
            ours.step(optimizer)
            trail.append(ours.scale)
        else:
            theirs.scale(loss).backward()
            theirs.step(optimizer)
            theirs.update()
            trail.append(theirs.get_scale())
    followed[whose] = (torch.tensor(trail).log2(), torch.cat([p.detach().flatten() for p in network.parameters()]))
changes = followed["ours"][0].diff()
print(f"  log₂ of the scale: {followed['ours'][0].int().tolist()}")

# %% [markdown]
# ## Checks · 检验

# %%
check("by hand: 0.1 in fp16 is 0 01011 1001100110", bits_of(0.1, FP16) == "0 01011 1001100110")
check_close(
    "by hand: 0.1 in fp16 and bf16",
    [round_to(torch.tensor(0.1), f).item() for f in (FP16, BF16)],
    [2**-4 * (1 + 614 / 1024), 2**-4 * (1 + 77 / 128)],
    1e-12,
)
check("2e-8 becomes 0 in fp16, and survives when it is scaled", tiny.half() == 0 and abs(rescued / tiny - 1) < 0.002)
for name, (mine, theirs_converted) in converted.items():
    same = (mine == theirs_converted).all()
    check(f"{name}: rounding equals torch's conversion, for all 10,000 numbers", same)
check_close("the scale equals GradScaler's at each of 30 steps", followed["ours"][0], followed["torch"][0])
check("it fell and rose on the way", changes.min() < 0 < changes.max())
check_close("so do the weights that were trained", followed["ours"][1], followed["torch"][1], 1e-6)
check("without scaling nearly all gradients of the small loss are 0 in fp16", zero_share["fp16, loss / 1,024"] > 0.95)
check(
    "scaled by 2¹⁶, less than one in five of those that fp32 has", zero_share["fp16, loss / 1,024, scaled by 2¹⁶"] < 0.2
)
check(
    "fp16 without scaling learns nothing, with any seed",
    all(end > 0.99 * losses[0] for end, (losses, _, _) in zip(final["fp16"], runs["fp16"], strict=True)),
)
for name in ("fp16, static 2¹⁶", "fp16, dynamic", "bf16"):
    check(
        f"{name} ends within 2 % of fp32, with every seed",
        all(abs(a / b - 1) < 0.02 for a, b in zip(final[name], final["fp32"], strict=True)),
    )
check("the dynamic scale skipped a step with every seed, and few", all(1 <= skipped <= 8 for skipped in skips))
check(
    "weights in bf16 end worse than in fp32, with every seed",
    all(a > 1.02 * b for a, b in zip(stored_loss["bf16"], stored_loss["fp32"], strict=True)),
)
check(
    "with fp32 masters they end within 1 % of fp32, with every seed",
    all(abs(a / b - 1) < 0.01 for a, b in zip(stored_loss["bf16 and fp32 master"], stored_loss["fp32"], strict=True)),
)
check(
    "autocast multiplies in bf16 and takes the loss in fp32",
    (found_dtypes["a @ b"], found_dtypes["F.mse_loss of bf16"]) == ("bfloat16", "float32"),
)
check("with 1,024 images less than 60 % is kept", kept["bf16", 1024] < 0.6 * kept["fp32", 1024])
check("with 16 images more than in fp32", kept["bf16", 16] > kept["fp32", 16])

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# Every capstone trains in bf16 autocast where the hardware computes in it, else in fp32; `--precision` decides
# otherwise: `uv run --package cifar10-resnet train --max-minutes 5 --precision fp32`. The decision is
# `computes_in_bf16` of `dlcommon/runtime/hardware.py`, the rest is in `dlcommon/runtime/compute.py`: `autocast()`
# around the forward pass, no scaler, since bf16 has the range of fp32, and weights that stay in fp32. fp16 is not
# offered for training: GPUs with fp16 but no bf16 (V100, T4) are older than 2020. An exported model may be fp16, since
# an answer has no gradients.
#
# Papers: [Micikevicius et al. 2018](https://arxiv.org/abs/1710.03740), master weights (section 3.1) and loss scaling
# (3.2); [Kalamkar et al. 2019](https://arxiv.org/abs/1905.12322), training in bfloat16; [Micikevicius et al.
# 2022](https://arxiv.org/abs/2209.05433), the two formats of fp8. Next: batches that do not fit into memory, 09/06.

# %% [markdown] lang="zh"
# 每个实战项目在硬件能算 bf16 时用 bf16 autocast 训练，否则用 fp32；可用 `--precision` 另行指定：
# `uv run --package cifar10-resnet train --max-minutes 5 --precision fp32`。
# 由 `dlcommon/runtime/hardware.py` 的 `computes_in_bf16` 判断，其余在 `dlcommon/runtime/compute.py`：
# 前向外面套一层 `autocast()`；不用缩放，因为 bf16 的范围与 fp32 相同；权重保持 fp32。
# 训练不提供 fp16：有 fp16 而没有 bf16 的 GPU（V100、T4）都是 2020 年以前的。导出的模型可以是 fp16，因为推理没有梯度。
#
# 论文：[Micikevicius 等 2018](https://arxiv.org/abs/1710.03740)，主权重（第 3.1 节）与损失缩放（第 3.2 节）；
# [Kalamkar 等 2019](https://arxiv.org/abs/1905.12322)，用 bfloat16 训练；
# [Micikevicius 等 2022](https://arxiv.org/abs/2209.05433)，fp8 的两种格式。下一课：内存放不下的批量，09/06。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `scale_loss`, `unscale`, `step` and `_adapt` of `LossScaler` yourself. `uv run lesson exercise 09/05` makes a
# file with their signatures, `uv run lesson check 09/05` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `LossScaler` 的 `scale_loss`、`unscale`、`step` 和 `_adapt`。
# `uv run lesson exercise 09/05` 生成带有签名的文件，`uv run lesson check 09/05` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `unscale`: the parameters are in `group["params"]` of each of `optimizer.param_groups`; some have no gradient.
#    Change the gradients in place (`mul_`), then test all of them with `isfinite()`.
# 2. `self._finite` remembers that the gradients are unscaled, and whether they are finite; `step` unscales if that is
#    still to be done, and sets it back to `None` for the next step.
# 3. `step` adapts the scale whether it took the step or not, if the scale is dynamic.
# 4. `_adapt`: an overflow also ends the count of good steps. When the count reaches the interval it begins anew,
#    whether the scale could grow or not; it must not grow beyond what fp32 can hold.

# %% [markdown] lang="zh"
# 1. `unscale`：参数在 `optimizer.param_groups` 每一组的 `group["params"]` 里，有些没有梯度。
#    就地修改梯度（`mul_`），再用 `isfinite()` 检查全部梯度。
# 2. `self._finite` 记住梯度已经还原以及是否有限；`step` 在尚未还原时先还原，并为下一步把它设回 `None`。
# 3. 只要是动态缩放，`step` 无论是否更新都要调整缩放因子。
# 4. `_adapt`：溢出也会使好步的计数归零。计数到达间隔时重新开始，不管缩放因子能否增长；它不能超过 fp32 的范围。


# %%
@exercise(LossScaler.scale_loss, LossScaler.unscale, LossScaler.step, LossScaler._adapt)
def judge(yours, reference):
    def made(module, **options):
        weight = nn.Parameter(torch.tensor([1.0, 2.0]))
        unused = nn.Parameter(torch.ones(1))
        return weight, torch.optim.SGD([weight, unused], lr=0.1), module.LossScaler(8.0, **options)

    results = []
    for module in (yours, reference):
        weight, optimizer, scaler = made(module)
        scaler.scale_loss((weight * torch.tensor([3.0, 5.0])).sum()).backward()
        scaled = weight.grad.clone()
        results.append((scaled, scaler.unscale(optimizer), weight.grad.clone()))
    check_close("scale_loss: the gradients before unscaling", results[0][0], results[1][0])
    check("unscale returns that they are finite", results[0][1] is True)
    check_close("unscale: the gradients after it", results[0][2], results[1][2])

    weight, optimizer, scaler = made(yours)
    for bad in (math.inf, -math.inf, math.nan):
        weight.grad = torch.tensor([1.0, bad])
        check(f"step returns False for a gradient of {bad}", scaler.step(optimizer) is False)
        check("and leaves the weights alone", weight.tolist() == [1.0, 2.0])

    weight, optimizer, scaler = made(yours)
    weight.grad = torch.tensor([8.0, 8.0])
    scaler.unscale(optimizer)
    try:
        scaler.unscale(optimizer)
        refused = False
    except RuntimeError:
        refused = True
    check("a second unscale before the step raises RuntimeError", refused)
    check("step after unscale returns True", scaler.step(optimizer) is True)
    check_close("step after unscale does not divide again", weight, [0.9, 1.9])

    for dynamic in (False, True):
        trails = []
        for module in (yours, reference):
            weight, optimizer, scaler = made(module, dynamic=dynamic, growth_interval=3)
            trail = []
            for step in range(20):
                weight.grad = torch.tensor([1.0, math.inf if step in (4, 5, 12) else 1.0])
                scaler.step(optimizer)
                trail.append(scaler.scale)
            trails.append(trail)
        check_close(f"the scale over 20 steps, dynamic={dynamic}", *trails)
    for module in (yours, reference):
        weight, optimizer, scaler = made(module, growth_interval=1)
        scaler.scale = 2.0**127
        weight.grad = torch.zeros(2)
        scaler.step(optimizer)
    check("the scale stays within fp32", scaler.scale == 2.0**127)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### fp16 or bf16: what does each give up? · fp16 与 bf16 各放弃了什么？

# %% [markdown] lang="en"
# Both have 16 bits. fp16 has 5 for the exponent and 10 for the mantissa: three digits, from $6 \cdot 10^{-8}$ to
# 65,504. bf16 has 8 and 7: hardly more than two digits, but the range of fp32. Training tolerates noise better than
# gradients of 0 or infinity, so bf16 needs no loss scaling. Where the range is known, as in inference or for values
# after a norm, fp16 is more precise.

# %% [markdown] lang="zh"
# 都是 16 位。fp16 用 5 位指数、10 位尾数：三位有效数字，范围从 $6 \cdot 10^{-8}$ 到 65,504。
# bf16 用 8 位和 7 位：有效数字只略多于两位，但范围与 fp32 相同。训练能容忍噪声，却不能容忍梯度为 0 或无穷大，
# 所以 bf16 不需要损失缩放。范围已知时，如推理或归一化之后的值，fp16 更精确。

# %%
for value in (3.14159, 1e-9, 1e6):
    fp16, bf16 = (torch.tensor(value).to(dtype).item() for dtype in (torch.float16, torch.bfloat16))
    print(f"  {value:g}: fp16 {fp16:.6g}, bf16 {bf16:.6g}")

# %% [markdown]
# ### Why does loss scaling not change the training? · 损失缩放为什么不改变训练？

# %% [markdown] lang="en"
# The backward pass is linear in the gradient of the loss: scaled by S, every gradient is S times as large, and dividing
# by S gives it back. With a power of two neither rounds, as long as nothing overflows or underflows. What changes is
# only which of the small ones survive in between.

# %% [markdown] lang="zh"
# 反向传播对损失的梯度是线性的：损失乘以 S，每个梯度都乘以 S，除以 S 就还原。S 是 2 的幂时，
# 只要不上溢也不下溢，乘和除都没有舍入。变的只是中途有多少小梯度能存活。

# %%
network, x = autoencoder(0), images[batches(0, 1)[0]]
plain, scaled_by = [], []
for S, kept_gradients in ((1.0, plain), (2.0**16, scaled_by)):
    network.zero_grad()
    (S * reconstruction_loss(network, x, None)).backward()
    kept_gradients += [p.grad / S for p in network.parameters()]
print(f"  in fp32, bit for bit the same: {all(torch.equal(g, h) for g, h in zip(plain, scaled_by, strict=True))}")

# %% [markdown]
# ### With loss scaling, where does gradient clipping go? · 有损失缩放时，梯度裁剪放在哪里？

# %% [markdown] lang="en"
# After unscaling, before the step. Clipped before, gradients that are thousands of times too large are cut to the norm
# 1, and then divided by S: the update is far too small. In torch: `scaler.unscale_(optimizer)`, `clip_grad_norm_`,
# `scaler.step(optimizer)`.

# %% [markdown] lang="zh"
# 在还原之后、更新之前。如果先裁剪，大了几千倍的梯度被裁到范数 1，再除以 S，更新就小得多。
# 在 torch 中：`scaler.unscale_(optimizer)`，`clip_grad_norm_`，`scaler.step(optimizer)`。

# %%
for order in ("clip, then unscale", "unscale, then clip"):
    weight = nn.Parameter(torch.zeros(2))
    optimizer, scaler = torch.optim.SGD([weight], lr=1.0), LossScaler(2.0**16)
    scaler.scale_loss((weight * torch.tensor([3.0, 4.0])).sum()).backward()
    if order == "unscale, then clip":
        scaler.unscale(optimizer)
    nn.utils.clip_grad_norm_([weight], 1.0)
    scaler.step(optimizer)
    print(f"  {order}: the step has the length {weight.norm().item():.2g}")

# %% [markdown]
# ### Why does autocast keep softmax, norms and losses in fp32? · autocast 为什么把 softmax、归一化和损失留在 fp32？

# %% [markdown] lang="en"
# They add many numbers, or take exponentials, squares and logarithms. A sum in fp16 stops growing when the next term is
# below half the distance between neighbors; $e^{12}$ is beyond 65,504. Products are safe since the hardware sums them
# in fp32 and rounds once. These operations are a small part of the time, so it costs little.

# %% [markdown] lang="zh"
# 它们要把很多数相加，或取指数、平方、对数。fp16 的求和，当下一项小于相邻数间距的一半时就不再增长；$e^{12}$ 超过 65,504。
# 乘积是安全的，因为硬件用 fp32 累加、最后只舍入一次。这些运算占的时间很少，所以代价不大。

# %%
total = torch.tensor(0.0).half()
for _ in range(4096):
    total = total + torch.tensor(1.0).half()
print(
    f"  4,096 ones, added one by one in fp16: {total.item():.0f}; exp(12) in fp16: {torch.tensor(12.0).half().exp().item()}"
)

# %% [markdown]
# ### A network stored in fp16 becomes NaN in Adam's first step. Why? · fp16 存储的网络在 Adam 第一步就变成 NaN，为什么？

# %% [markdown] lang="en"
# $\varepsilon = 10^{-8}$ is 0 in fp16, and so is Adam's first $v = 0.001\, g^2$ for any gradient below 0.005: the step
# is $0/0$ for a gradient of 0, and $m/0$ for a small one. Keep the optimizer's state and the weights it updates in
# fp32.

# %% [markdown] lang="zh"
# $\varepsilon = 10^{-8}$ 在 fp16 中是 0，梯度小于 0.005 时 Adam 最初的 $v = 0.001\, g^2$ 也是 0：
# 梯度为 0 时更新是 $0/0$，梯度小时是 $m/0$。应把优化器状态和它更新的权重放在 fp32。

# %%
for dtype in (torch.float16, torch.float32):
    weight = nn.Parameter(torch.ones(3, dtype=dtype))
    optimizer = torch.optim.Adam([weight], lr=1e-3)
    weight.grad = torch.tensor([0.0, 1e-5, 0.1], dtype=dtype)
    optimizer.step()
    print(f"  {dtype}: gradients 0, 1e-5, 0.1 make of weights of 1: {weight.tolist()}")

# %% [markdown]
# ### The log says that a step was skipped every few hundred. Is something wrong? · 日志说每几百步跳过一步，有问题吗？

# %% [markdown] lang="en"
# No. A dynamic scale grows until something overflows, so that it skips about one step for each growth interval.
# Something is wrong if the scale keeps falling: then the gradients are infinite or NaN whatever the scale, and the
# cause is in the model or the data. And a schedule should not advance by a skipped step, if it counts steps.

# %% [markdown] lang="zh"
# 没有。动态缩放会一直增长到溢出为止，所以大约每个增长间隔跳过一步。
# 如果缩放因子不断下降，才有问题：说明不管缩放多少，梯度都是无穷大或 NaN，原因在模型或数据。另外，按步数计的调度不应因跳过的一步而前进。

# %%
weight = nn.Parameter(torch.zeros(1))
optimizer = torch.optim.SGD([weight], lr=1.0)
for name, broken in (("a model that overflows above 2¹⁰", False), ("a loss that is NaN", True)):
    scaler, trail = LossScaler(2.0**12, growth_interval=4), []
    for _ in range(16):
        weight.grad = torch.tensor([math.nan if broken or scaler.scale > 2**10 else 1.0])
        scaler.step(optimizer)
        trail.append(int(math.log2(scaler.scale)))
    print(f"  {name}: log₂ of the scale {trail}")
