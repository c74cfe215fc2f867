# %% [markdown]
# # Quantization · 量化

# %% [markdown] lang="en"
# After this lesson you can quantize weights to 8, 4 or 2 bits by absmax, zero-point, NF4 and GPTQ, count what they then
# cost with their scales, say why activations are harder than weights, and measure what a model loses. You need language
# models (07/09), number formats (09/05) and Hessians (02/05).

# %% [markdown] lang="zh"
# 学完本课，你能用 absmax、零点（zero-point）、NF4 和 GPTQ 把权重量化到 8、4、2 位，能连同缩放因子算出实际占用，
# 能说明激活为什么比权重更难量化，并能测出模型损失了多少。先修：语言模型（07/09）、数值格式（09/05）、Hessian 矩阵（02/05）。

# %%
import copy
from statistics import NormalDist

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import asset, check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.llm.gptq import gptq, input_hessian
from dlcommon.llm.int8_linear import int8_linear, llm_int8_linear
from dlcommon.llm.nf4 import nf4_levels, quantize_blockwise, quantize_nf4
from dlcommon.llm.quantization import (
    FakeQuantize,
    absmax_scale,
    as_groups,
    fake_quantize,
    quantize_absmax,
    quantize_zero_point,
)
from dlcommon.transformer.bert import mean_pool
from dlcommon.transformer.bert_weights import load_pretrained
from dlcommon.transformer.gpt import GPT, GPTConfig
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A model of 7 billion weights takes 14 GB in 16 bits: more than most graphics cards have. And to write one token, every
# weight is read once. With 100 GB/s of memory bandwidth, that is 0.14 seconds a token, however fast the processor is.
#
# Training needs the digits, since an update changes a weight by a thousandth of itself. But once training is over, does a
# weight of 0.0237 have to be just that, or would 0.025 do? If 16 different numbers were enough, a weight would take 4 bits,
# the model 3.5 GB, and a token a quarter of the time. Which 16 numbers? And what does it cost?

# %% [markdown] lang="zh"
# 一个 70 亿权重的模型用 16 位存要 14 GB，大多数显卡放不下。而且每写一个词元，都要把所有权重读一遍：
# 内存带宽为 100 GB/s 时，一个词元就要 0.14 秒，处理器再快也没用。
#
# 训练需要这些位数，因为一次更新只改变权重的千分之一。但训练结束之后，0.0237 的权重非得正好是它，还是 0.025 也行？
# 如果 16 个不同的数就够了，一个权重只占 4 位，模型只要 3.5 GB，一个词元只花四分之一的时间。选哪 16 个数？代价是什么？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# Four weights: $1.4, -0.65, 0.28, 0.05$, to be stored in 4 bits each.
#
# *Absmax*: the largest, 1.4, becomes the largest code, 7; so one step is 0.2. Divided by it: $7, -3.25, 1.4, 0.25$; rounded:
# $7, -3, 1, 0$. Multiplied again: $1.4, -0.6, 0.2, 0$.
#
# *Zero-point*: the range from −0.65 to 1.4 gets all 16 codes; one step is $2.05 / 15 = 0.137$. Zero is $0.65 / 0.137 \approx
# 5$ steps above the smallest, so it is code 5. The codes are $15, 0, 7, 5$, the numbers $1.367, -0.683, 0.273, 0$.
#
# *NF4*: divided by the largest: $1, -0.464, 0.2, 0.036$. The nearest of 16 fixed levels are $1, -0.525, 0.161, 0$, so the
# numbers are $1.4, -0.735, 0.225, 0$. Two codes share a byte.
#
# Now replace 0.05 by 14. Absmax gives a step of 2, and the codes $1, 0, 0, 7$: one *outlier* has wiped out the others. Had
# the first two a scale of their own, they would still be 7 and −3.
#
# *GPTQ*: weights 0.4 and 0.4, the step is 1, and the two inputs are almost the same (correlation 0.9). Rounded, both are
# 0, and the output $0.8 x$ becomes 0. GPTQ rounds the first to 0 and hands 0.9 of its error, 0.36, on to the second: 0.76
# rounds to 1. The second weight's error has grown from 0.4 to 0.6, but the output is $1.0 x$, much nearer to $0.8 x$ than 0.

# %% [markdown] lang="zh"
# 四个权重：$1.4, -0.65, 0.28, 0.05$，每个用 4 位存。
#
# *Absmax*：最大的 1.4 对应最大的编码 7，所以一格是 0.2。除以它：$7, -3.25, 1.4, 0.25$；四舍五入：$7, -3, 1, 0$。
# 乘回去：$1.4, -0.6, 0.2, 0$。
#
# *零点*：从 −0.65 到 1.4 的范围用满 16 个编码，一格是 $2.05 / 15 = 0.137$。
# 0 在最小值之上 $0.65 / 0.137 \approx 5$ 格，所以 0 的编码是 5。编码为 $15, 0, 7, 5$，还原为 $1.367, -0.683, 0.273, 0$。
#
# *NF4*：除以最大值：$1, -0.464, 0.2, 0.036$。16 个固定档位中最近的是 $1, -0.525, 0.161, 0$，
# 还原为 $1.4, -0.735, 0.225, 0$。两个编码共用一个字节。
#
# 现在把 0.05 换成 14。absmax 的一格变成 2，编码是 $1, 0, 0, 7$：一个*离群值*（outlier）把其余的都抹掉了。
# 如果前两个有自己的缩放因子，它们仍是 7 和 −3。
#
# *GPTQ*：权重 0.4 和 0.4，一格是 1，两个输入几乎相同（相关系数 0.9）。直接四舍五入两个都成 0，输出 $0.8 x$ 变成 0。
# GPTQ 先把第一个舍入到 0，再把误差的 0.9 倍即 0.36 交给第二个：0.76 舍入到 1。
# 第二个权重的误差从 0.4 变成了 0.6，但输出是 $1.0 x$，比 0 更接近 $0.8 x$。

# %%
four = torch.tensor([[1.4, -0.65, 0.28, 0.05]])
by_absmax, by_zero_point, by_nf4 = quantize_absmax(four, 4), quantize_zero_point(four, 4), quantize_nf4(four)
nf4_codes, nf4_scale = quantize_blockwise(four, nf4_levels(), 64)
table(
    ["", "1.4", "−0.65", "0.28", "0.05"],
    [
        ("absmax: codes", *by_absmax.codes.flatten().tolist()),
        ("absmax: numbers", *by_absmax.dequantize().flatten().tolist()),
        (f"zero-point {by_zero_point.zero_point.item()}: codes", *by_zero_point.codes.flatten().tolist()),
        ("zero-point: numbers", *by_zero_point.dequantize().flatten().tolist()),
        ("NF4: codes", *nf4_codes.tolist()),
        ("NF4: numbers", *by_nf4.dequantize().flatten().tolist()),
    ],
)
print(f"  NF4, two codes to a byte: {[f'{byte:#04x}' for byte in by_nf4.packed.tolist()]}")
spoiled = torch.tensor([[1.4, -0.65, 0.28, 14.0]])
print(f"  with an outlier, one scale: {quantize_absmax(spoiled, 4).codes.flatten().tolist()}")
print(f"  with an outlier, a scale for each two: {quantize_absmax(spoiled, 4, 2).codes.flatten().tolist()}")
pair = torch.tensor([[0.4, 0.4, 7.0]])  # the third weight makes the step 1, and its input has nothing to do with theirs
correlated = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
by_gptq = gptq(pair, correlated, 4, damping=0.0)
print(f"  rounded: {quantize_absmax(pair, 4).codes.flatten().tolist()}, GPTQ: {by_gptq.codes.flatten().tolist()}")

drawing = Schematic(12.4, 4.4, "What shares a scale: 8 weights for each of 4 outputs, scales in grey")
for left, title, scales in ((0.4, "per tensor: 1", 1), (4.6, "per channel: 4", 4), (8.8, "per group of 4: 8", 8)):
    drawing.text(left + 1.4, 3.9, title)
    for row in range(4):
        for column in range(8):
            group = {1: 0, 4: row, 8: 2 * row + column // 4}[scales]
            color = plt.colormaps["tab10" if scales > 1 else "Greys"](group % 10 if scales > 1 else 0.3)
            spot = plt.Rectangle((left + 0.33 * column, 2.9 - 0.6 * row), 0.3, 0.5, color=color, alpha=0.65)
            drawing.axes.add_patch(spot)
    for number in range(scales):
        offset = (0.1 + 0.35 * (number % 2), 2.9 - 0.6 * (number // 2)) if scales == 8 else (0.1, 2.9 - 0.6 * number)
        spot = plt.Rectangle((left + 2.65 + offset[0], offset[1]), 0.3, 0.5, facecolor="0.85", edgecolor="black")
        drawing.axes.add_patch(spot)
drawing.text(6.2, 0.4, "more scales: smaller steps, but more bits for each weight")
show(drawing.figure, "granularity")

# %% [markdown]
# ## Formula · 公式
#
# $$s = \frac{\max_i |x_i|}{2^{b-1} - 1}, \qquad c_i = \mathrm{round}\Big(\frac{x_i}{s}\Big), \qquad \hat x_i = s\, c_i$$
#
# $$s = \frac{\max_i x_i - \min_i x_i}{2^b - 1}, \qquad z = \mathrm{round}\Big(\frac{-\min_i x_i}{s}\Big), \qquad c_i = \mathrm{round}\Big(\frac{x_i}{s}\Big) + z, \qquad \hat x_i = s\,(c_i - z)$$
#
# $$c_i = \arg\min_j \Big| \frac{x_i}{\max_k |x_k|} - q_j \Big|, \qquad \hat x_i = q_{c_i} \max_k |x_k|$$
#
# $$\min_{\hat W} \, \lVert W X - \hat W X \rVert^2, \qquad H = 2 X X^\top, \qquad \delta_F = -\frac{w_j - \mathrm{quant}(w_j)}{[H_F^{-1}]_{jj}} \, [H_F^{-1}]_{:,j}$$
#
# $$Y \approx \sum_{h \in O} X_h W_h + s_X s_W \sum_{h \notin O} C^X_h C^W_h$$

# %% [markdown] lang="en"
# - $x_i$: the numbers that share a scale (a tensor, a row, a group or a block); $\hat x_i$: what becomes of them.
# - $b$: bits; $c_i$: the code, an integer of $b$ bits; $s$: the scale, which is the size of one step.
# - $z$: the zero point, the code that means 0. First and second line: absmax and zero-point quantization, also called
#   symmetric and asymmetric (Jacob et al. 2018, section 2.1).
# - $q_j$: NF4's 16 levels, quantiles of the normal distribution, scaled to −1 … 1, with 0 among them (Dettmers et al. 2023,
#   section 3 and appendix E). Its blocks have 64 numbers.
# - $W$: the weights of a layer, `[out_features, in_features]`; $X$: its inputs on some calibration text,
#   `[in_features, samples]`.
# - $H$: the Hessian of the output's error with respect to a row of $W$, `[in_features, in_features]`; $F$: the columns
#   that are not rounded yet; $\delta_F$: what is added to them to make up for rounding $w_j$ (Frantar et al. 2022, equation 2).
# - $O$: features with outliers; $C^X, C^W$: 8-bit codes of activations `[tokens, in_features]` and weights; $s_X$: a scale for
#   each token; $s_W$: one for each output (Dettmers et al. 2022, section 3.2).
#
# A rounding error is at most $s/2$, and about $s/\sqrt{12}$ on average (root mean square): each bit less doubles it. The
# scale depends on the largest of those that share it. So everything that follows is about one thing: how to keep $s$ small
# for most numbers, or its consequences harmless.

# %% [markdown] lang="zh"
# - $x_i$：共用一个缩放因子的数（整个张量、一行、一组或一块）；$\hat x_i$：量化后变成的数。
# - $b$：位数；$c_i$：编码，$b$ 位整数；$s$：缩放因子，也就是一格的大小。
# - $z$：零点，即表示 0 的编码。第一、二行是 absmax 与零点量化，也叫对称与非对称量化（Jacob 等 2018，第 2.1 节）。
# - $q_j$：NF4 的 16 个档位，是正态分布的分位数，缩放到 −1 … 1，其中包含 0（Dettmers 等 2023，第 3 节与附录 E）。每块 64 个数。
# - $W$：一层的权重，`[out_features, in_features]`；$X$：这一层在校准文本上的输入，`[in_features, samples]`。
# - $H$：输出误差对 $W$ 一行的 Hessian，`[in_features, in_features]`；$F$：还没有舍入的列；
#   $\delta_F$：为弥补 $w_j$ 的舍入误差而加到这些列上的量（Frantar 等 2022，式 2）。
# - $O$：有离群值的特征；$C^X, C^W$：激活 `[tokens, in_features]` 与权重的 8 位编码；
#   $s_X$：每个词元一个缩放因子；$s_W$：每个输出一个（Dettmers 等 2022，第 3.2 节）。
#
# 舍入误差至多 $s/2$，均方根约为 $s/\sqrt{12}$：每少一位就加倍。而缩放因子取决于共用它的数中最大的那个。
# 所以下面讲的都是一件事：怎样让大多数数的 $s$ 保持很小，或者让它的后果无害。

# %% [markdown]
# ## Code · 代码

# %%
source(absmax_scale)
source(quantize_absmax)
source(quantize_zero_point)
source(quantize_blockwise)
source(gptq)
source(llm_int8_linear)

# %% [markdown] lang="en"
# `as_groups` views a matrix as `[groups, group_size]`; that is all that tells per tensor, per channel and per group apart.
# Codes and scales keep this shape, `[groups, group_size]` and `[groups, 1]`, so that dequantization is one product.
#
# `quantize_blockwise` finds the nearest of sorted levels by counting how many midpoints lie below a number
# (`torch.bucketize`). NF4 packs two such indices into a byte. *Double quantization* applies the same function to the scales,
# which are numbers as well: 256 levels instead of 16, in blocks of 256.
#
# In `gptq` the inverse of the *remaining* Hessian is needed at each step. The Cholesky factor of the inverse holds all of
# them, one in each row. A step rounds one column for all rows at once and corrects the columns to its right, an outer
# product `[rows, 1] · [1, columns left]`.
#
# `llm_int8_linear` splits the sum over input features. An integer product can only be scaled after it is summed, so a
# scale may belong to a token or to an output, never to an input feature: this is why outliers in a feature hurt.

# %% [markdown] lang="zh"
# `as_groups` 把矩阵看成 `[groups, group_size]`；按张量、按通道、按组的区别仅在于此。
# 编码和缩放因子保持这个形状，`[groups, group_size]` 与 `[groups, 1]`，反量化就是一次乘法。
#
# `quantize_blockwise` 数有多少个中点小于某数，就找到了排好序的档位中最近的一个（`torch.bucketize`）。
# NF4 把两个这样的下标装进一个字节。*双重量化*（double quantization）对缩放因子再用同一个函数，因为它们也是数：
# 256 个档位而不是 16 个，每块 256 个。
#
# `gptq` 的每一步都需要*剩余* Hessian 的逆。逆矩阵的 Cholesky 因子包含了全部，每行一个。
# 一步同时舍入所有行的一列，并修正它右边的各列，是一个外积 `[rows, 1] · [1, columns left]`。
#
# `llm_int8_linear` 把对输入特征的求和拆成两部分。整数乘积只有在求和之后才能缩放，
# 所以缩放因子可以属于某个词元或某个输出，却不能属于某个输入特征：离群特征之所以有害，原因就在这里。

# %% [markdown]
# ## Experiment: how many bits does a language model need? · 实验：语言模型需要几位？

# %% [markdown] lang="en"
# Three small GPTs (07/09; two layers of width 64, three seeds) learn characters for a few seconds. Then all weights of their
# blocks are quantized, and the loss on new text is compared with that before. Embeddings, norms and the last layer stay as
# they are, as is usual. GPTQ sees 96 windows of the training text.

# %% [markdown] lang="zh"
# 三个小 GPT（07/09；两层，宽 64，三个种子）用几秒钟学习字符。然后把各模块的全部权重量化，比较在新文本上的损失。
# 嵌入、归一化和最后一层按惯例保持不变。GPTQ 用 96 段训练文本来校准。

# %%
quiz(
    "free",
    en="What is the lowest number of bits, absmax per channel, that raises the loss by less than 0.01 with all seeds?",
    zh="absmax 按通道量化，要使三个种子的损失增加都小于 0.01，最少要几位？",
    choices={"8": "8", "4": "4", "3": "3", "2": "2"},
)
quiz(
    "two bits",
    en="At 2 bits per channel: by what factor does GPTQ cut the loss added by rounding to nearest?",
    zh="按通道 2 位：与四舍五入相比，GPTQ 把增加的损失减小到几分之一？",
    choices={"1": "hardly · 几乎没有", "2": "to half at best · 至多一半", "3": "to less than half · 不到一半"},
)

# %%
SEEDS, WINDOW, STEPS = (0, 1, 2), 32, 100
corpus = data("tinyshakespeare", "python-manual")
alphabet = sorted(set(corpus.train + corpus.test))
number_of = {character: number for number, character in enumerate(alphabet)}
train_tokens, test_tokens = (
    torch.tensor([number_of[character] for character in text])
    for text in (corpus.train[:300_000], corpus.test[: 64 * (WINDOW + 1)])
)
test_windows = test_tokens.view(-1, WINDOW + 1)
calibration = train_tokens[: 96 * (WINDOW + 1)].view(-1, WINDOW + 1)


def learn(seed: int) -> GPT:
    torch.manual_seed(seed)
    model, draws = GPT(GPTConfig(len(alphabet), WINDOW, num_layers=2, num_heads=2, dim=64)), torch.Generator()
    draws.manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 8e-3 * min(1, (step + 1) / 20) * (1 - step / STEPS)
        starts = torch.randint(len(train_tokens) - WINDOW, (16,), generator=draws)
        windows = train_tokens[starts[:, None] + torch.arange(WINDOW + 1)]  # [batch, tokens + 1]
        loss = F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def loss_of(model: GPT) -> float:
    return F.cross_entropy(model(test_windows[:, :-1]).flatten(0, 1), test_windows[:, 1:].flatten()).item()


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    return {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear) and name != "lm_head"}


def quantized(model: nn.Module, quantize) -> nn.Module:
    """A copy whose weights are quantized and dequantized."""
    model = copy.deepcopy(model)
    for layer in linears(model).values():
        layer.weight.data = quantize(layer.weight.data).dequantize()
    return model


@torch.no_grad()
def quantized_by_gptq(model: GPT, bits: int, granularity) -> GPT:
    """Layer after layer, each calibrated on the inputs that it gets from the layers quantized before."""
    model = copy.deepcopy(model)
    for layer in linears(model).values():
        received = []
        hook = layer.register_forward_hook(lambda _module, inputs, _output, kept=received: kept.append(inputs[0]))
        model(calibration[:, :-1])
        hook.remove()
        layer.weight.data = gptq(layer.weight.data, input_hessian(received[0]), bits, granularity).dequantize()
    return model


models = [learn(seed) for seed in SEEDS]
before = [loss_of(model) for model in models]
print(
    f"  loss before: {', '.join(f'{loss:.3f}' for loss in before)} (guessing: {torch.tensor(len(alphabet)).log():.2f})"
)


def added(quantize_model) -> list[float]:
    """How much the loss of each seed grows."""
    return [loss_of(quantize_model(model)) - loss for model, loss in zip(models, before, strict=True)]


METHODS = {
    "absmax, tensor": lambda bits: lambda weight: quantize_absmax(weight, bits, "tensor"),
    "absmax, channel": lambda bits: lambda weight: quantize_absmax(weight, bits, "channel"),
    "absmax, group 32": lambda bits: lambda weight: quantize_absmax(weight, bits, 32),
    "zero-point, group 32": lambda bits: lambda weight: quantize_zero_point(weight, bits, 32),
}
BITS = (8, 4, 3, 2)
growth, width = {}, {}
for bits in BITS:
    for name, method in METHODS.items():
        growth[name, bits] = added(lambda model, method=method, bits=bits: quantized(model, method(bits)))
        width[name, bits] = method(bits)(models[0].blocks[0].mlp.up_proj.weight.data).bits_per_weight()
    if bits <= 4:
        growth["GPTQ, channel", bits] = added(lambda model, bits=bits: quantized_by_gptq(model, bits, "channel"))
        width["GPTQ, channel", bits] = width["absmax, channel", bits]
growth["NF4, double", 4] = added(lambda model: quantized(model, lambda weight: quantize_nf4(weight, 64, True)))
width["NF4, double", 4] = 4 + 8 / 64 + 32 / (64 * 256)
names = [*METHODS, "GPTQ, channel", "NF4, double"]
means = {key: sum(values) / len(SEEDS) for key, values in growth.items()}
table(
    ["loss added, mean of 3 seeds", *(f"{bits} bits" for bits in BITS)],
    [(name, *(f"{means[name, bits]:+.4f}" if (name, bits) in means else "" for bits in BITS)) for name in names],
)
settle("free", str(min(bits for bits in BITS if max(growth["absmax, channel", bits]) < 0.01)))
factor = means["absmax, channel", 2] / means["GPTQ, channel", 2]
settle("two bits", "1" if factor < 1.2 else "2" if factor < 2 else "3")

weights = torch.cat([layer.weight.data.view(-1, 64) for layer in linears(models[0]).values()])  # [blocks, 64]
normalized = (weights / weights.abs().amax(dim=1, keepdim=True)).flatten()
figure, axes = plt.subplots(1, 2, figsize=(13, 4.2), layout="constrained")
axes[0].hist(normalized.numpy(), bins=120, density=True, color="0.8")
for level in nf4_levels():
    axes[0].axvline(level, ymin=0.5, color="tab:orange", linewidth=1)
for code in range(-7, 8):
    axes[0].axvline(code / 7, ymax=0.42, color="tab:blue", linewidth=1)
axes[0].plot([], [], color="tab:orange", label="NF4's 16 levels")
axes[0].plot([], [], color="tab:blue", label="absmax's 15 levels")
axes[0].set(
    xlabel="weight / largest of its block of 64", ylabel="density", title="Where the weights are, and the levels"
)
axes[0].legend(loc="upper left")
for name in names:
    points = [(width[name, bits], growth[name, bits]) for bits in BITS if (name, bits) in growth and bits < 8]
    xs = [x for x, _ in points]
    middle = [max(sum(ys) / len(ys), 1e-4) for _, ys in points]
    axes[1].plot(xs, middle, "o-" if len(xs) > 1 else "*", markersize=5 if len(xs) > 1 else 13, label=name)
axes[1].set(
    xlabel="bits per weight, with scales", ylabel="loss added, mean of 3 seeds", yscale="log",
    title="Quality against bits (below 0.0001 drawn there)", ylim=(8e-5, 1),
)  # fmt: skip
axes[1].legend(fontsize=8)
show(figure, "bits")

# %% [markdown] lang="en"
# Eight bits are free, whatever shares a scale, and four nearly so; below, it matters. With one scale for a whole matrix, one large
# weight decides for all. At 2 bits absmax has only three codes, −1, 0 and 1; zero-point has all four, which is why it does
# so much better there. GPTQ has the same codes and the same scales as absmax per channel, and so the same size. It only
# chooses other codes.
#
# At 4 bits the differences are near the noise of a test set this small. Small models that were trained for seconds have
# few outliers, so that they are easy to quantize; mind also that a large model loses less than a small one at the same
# number of bits.

# %% [markdown] lang="zh"
# 8 位不花代价，不管怎样共用缩放因子，4 位也几乎不花；再往下就有区别了。整个矩阵只用一个缩放因子时，一个大权重就决定了全部。
# 2 位时 absmax 只有三个编码 −1、0、1，而零点量化用满四个，所以在那里好得多。
# GPTQ 与按通道 absmax 的编码和缩放因子一样多，大小也一样，只是选了别的编码。
#
# 4 位时的差别已接近这么小的测试集的噪声。只训练了几秒的小模型几乎没有离群值，容易量化；
# 还要注意，同样的位数下，大模型的损失比小模型少。

# %% [markdown]
# ## Experiment: outliers · 实验：离群值

# %% [markdown] lang="en"
# So far the activations stayed in full precision. If they are quantized too, products can be computed with 8-bit integers.
# But activations have outliers. MiniLM (22 million weights, trained by others) shows them, where it is on this machine: its feature 99
# is more than ten times as large as the others, in every layer.
#
# To see what that does, we make a GPT with an outlier that computes *exactly* what it computed before: the gain of a norm is
# multiplied by $k$ for one feature, and the weights that read this feature are divided by $k$. Then weights and
# activations get 8 bits: one scale for each tensor; one for each token and output; and LLM.int8(), which leaves features that reach 6 in full
# precision.

# %% [markdown] lang="zh"
# 到目前为止激活一直保持全精度。如果激活也量化，乘积就能用 8 位整数来算。但激活有离群值。
# 如果本机有 MiniLM（2200 万权重，别人训练的），就能看到：它的 99 号特征在每一层都比其他特征大十倍以上。
#
# 为了看清后果，我们造一个带离群值、但计算结果与原来*完全相同*的 GPT：
# 把归一化的某个特征的增益乘以 $k$，再把读取这个特征的权重除以 $k$。
# 然后权重和激活都用 8 位：每个张量一个缩放因子；每个词元、每个输出各一个；
# 以及 LLM.int8()，它让达到 6 的特征保持全精度。

# %%
quiz(
    "per token",
    en="An outlier 300 times as large, always in the same feature: does a scale for each token repair int8?",
    zh="离群值大 300 倍，总在同一个特征：每个词元一个缩放因子能救回 int8 吗？",
    choices={"yes": "yes · 能", "partly": "only partly · 只能救回一部分", "no": "not at all · 完全不能"},
)


# %%
class Int8(nn.Module):
    """A linear layer in 8 bits: scales for "tensor" or "token", or "LLM.int8()"."""

    def __init__(self, layer: nn.Linear, mode: str) -> None:
        super().__init__()
        self.full, self.bias, self.mode = layer.weight.data, layer.bias, mode
        self.weight = quantize_absmax(self.full, 8, "tensor" if mode == "tensor" else "channel")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mode == "LLM.int8()":
            output = llm_int8_linear(x, self.weight, full_weight=self.full)
        else:
            output = int8_linear(x, self.weight, self.mode)
        return output if self.bias is None else output + self.bias


def in_int8(model: nn.Module, mode: str) -> nn.Module:
    model = copy.deepcopy(model)
    for name, layer in linears(model).items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, Int8(layer, mode))
    return model


@torch.no_grad()
def scale_feature(model: GPT, k: float, feature: int = 7) -> GPT:
    """Makes one feature k times as large after each norm, and its weights k times as small."""
    model = copy.deepcopy(model)
    for block in model.blocks:
        for gain, reader in ((block.norm1, block.attention.qkv_proj), (block.norm2, block.mlp.up_proj)):
            gain.weight[feature] *= k
            reader.weight[:, feature] /= k
    return model


MODES, SIZES = ("tensor", "token", "LLM.int8()"), (1, 30, 300)
unchanged = [loss_of(scale_feature(model, 300)) - loss for model, loss in zip(models, before, strict=True)]
in_eight = {
    (k, mode): added(lambda model, k=k, mode=mode: in_int8(scale_feature(model, k), mode))
    for k in SIZES
    for mode in MODES
}
table(
    ["weights and activations in int8: loss added", *(f"outlier × {k}" for k in SIZES)],
    [(mode, *(" ".join(f"{value:+.3f}" for value in in_eight[k, mode]) for k in SIZES)) for mode in MODES],
)
kept = sum(in_eight[300, "token"]) / sum(in_eight[300, "tensor"])
settle("per token", "yes" if kept < 0.05 else "partly" if kept < 0.9 else "no")

folder = asset("all-minilm-l6-v2")
similarity, seen = {}, {}
if folder is not None:
    encoder, tokenizer = load_pretrained(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(24)
    encoded = tokenizer.encode_batch(list(data("sst2", "generated-reviews").test.texts[:8]))
    ids, mask = (torch.tensor([getattr(each, part) for each in encoded]) for part in ("ids", "attention_mask"))

    @torch.no_grad()
    def embed(layers: nn.Module) -> torch.Tensor:
        return mean_pool(layers(encoder.embeddings(ids), mask.bool()[:, None, None])[0], mask)

    def note_largest(number: int):
        def hook(_module, inputs, _output) -> None:
            seen.setdefault(number, inputs[0][mask.bool()].abs().amax(dim=0))

        return hook

    for number, layer in enumerate(encoder.encoder.layers):
        layer.feed_forward.up_proj.register_forward_hook(note_largest(number))
    exact = embed(encoder.encoder)
    for mode in MODES:
        similarity[mode] = F.cosine_similarity(embed(in_int8(encoder.encoder, mode)), exact).mean().item()
    for name, bits in (("absmax, tensor", 4), ("absmax, channel", 4), ("absmax, group 32", 4)):
        similarity[f"weights only, 4 bits: {name}"] = (
            F.cosine_similarity(embed(quantized(encoder.encoder, METHODS[name](bits))), exact).mean().item()
        )
    nf4 = quantized(encoder.encoder, lambda weight: quantize_nf4(weight, 64, True))
    similarity["weights only, 4 bits: NF4, double"] = F.cosine_similarity(embed(nf4), exact).mean().item()
    table(["MiniLM: cosine of sentence vectors before and after", "mean of 8"], similarity.items())

figure, axes = plt.subplots(1, 2, figsize=(13, 4), layout="constrained")
if seen:
    for number, largest in seen.items():
        axes[0].plot(largest.numpy(), linewidth=0.7, label=f"layer {number + 1}")
    axes[0].legend(fontsize=8)
    axes[0].set(title="MiniLM: largest activation of each feature")
else:
    with torch.no_grad():
        x = models[0].embedding(test_windows[:40]).flatten(0, 1)
        x = scale_feature(models[0], 30).blocks[0].norm1(x / x.square().mean(dim=1, keepdim=True).sqrt())
    axes[0].plot(x.abs().amax(dim=0).numpy(), linewidth=0.7)
    axes[0].set(title="Our GPT with an outlier × 30: largest activation of each feature")
axes[0].set(xlabel="feature", ylabel="largest magnitude")
for mode in MODES:
    heights = [max(sum(in_eight[k, mode]) / len(SEEDS), 1e-4) for k in SIZES]
    axes[1].plot(SIZES, heights, "o-", label=mode)
axes[1].set(xscale="log", yscale="log", xlabel="outlier, times as large", ylabel="loss added, mean of 3 seeds")
axes[1].set_title("int8 with a planted outlier (below 0.0001 drawn there)")
axes[1].legend()
show(figure, "outliers")

# %% [markdown] lang="en"
# The models with an outlier have the same loss as before, and one scale for all activations ruins them. A scale for each token
# helps less than one might hope: the outlier is in *every* token, so each token's scale is too large for its other features. The cure is to
# treat the *feature*: LLM.int8() takes it out of the integer product, at the cost of a second, small product in 16 bits.
# SmoothQuant (Xiao et al. 2023) does our trick backwards: it divides the feature by $k$ and multiplies the weights by it, before
# quantizing. AWQ (Lin et al. 2024) scales features for weights in 4 bits in the same way: weights that meet large activations get a finer
# step.
#
# In MiniLM, where it was measured, nobody has planted anything. Its weights have outliers as well, so that one scale for a
# matrix fails even with weights alone.

# %% [markdown] lang="zh"
# 带离群值的模型损失与原来相同，而全部激活共用一个缩放因子就毁了它们。
# 每个词元一个缩放因子的帮助不如期望：离群值在*每个*词元里都有，于是每个词元的缩放因子对其他特征都太大。
# 对策是针对*特征*：LLM.int8() 把它从整数乘积中拿出来，代价是另做一个小的 16 位乘积。
# SmoothQuant（Xiao 等 2023）把我们的办法反过来用：量化之前把这个特征除以 $k$，再把权重乘以 $k$。
# AWQ（Lin 等 2024）用同样的方式为 4 位权重缩放特征：与大激活相乘的权重得到更细的一格。
#
# MiniLM（如果测了）里没有人动过手脚。它的权重也有离群值，所以即使只量化权重，一个矩阵只用一个缩放因子也不行。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# torch calls quantizing and dequantizing in one step *fake quantization*, and gives it a gradient: rounding counts as the
# identity (straight-through), clamping as 0. With it a network can be trained to bear its quantization (quantization-aware
# training). Ours must agree in value and gradient. NF4's levels are computed once more from the standard library's normal distribution. In this
# repository's tests NF4's bytes, scales and double quantization, and LLM.int8()'s products, are held against bitsandbytes; and
# GPTQ against a slow reference that inverts the remaining Hessian anew for each weight.

# %% [markdown] lang="zh"
# torch 把一步完成的量化加反量化叫作*伪量化*（fake quantization），并给它梯度：
# 舍入当作恒等（直通估计），截断处为 0。有了它，就能训练网络去适应自己的量化（量化感知训练）。
# 我们的必须在数值和梯度上都与之一致。NF4 的档位再用标准库的正态分布算一遍。
# 本仓库的测试还把 NF4 的字节、缩放因子、双重量化，以及 LLM.int8() 的乘积与 bitsandbytes 对照；
# GPTQ 则与一个对每个权重都重新求逆的慢速参考实现对照。

# %%
random = torch.Generator().manual_seed(0)
x = (2 * torch.randn(6, 40, generator=random)).requires_grad_()
scale, zero_point = torch.rand(6, 1, generator=random) + 0.1, torch.randint(0, 16, (6, 1), generator=random)
upstream = torch.randn(6, 40, generator=random)
ours = fake_quantize(x, scale, zero_point, 0, 15)
theirs = torch.fake_quantize_per_channel_affine(x, scale.flatten(), zero_point.flatten().int(), 0, 0, 15)
our_gradient, their_gradient = (torch.autograd.grad(output, x, upstream)[0] for output in (ours, theirs))
row = models[0].blocks[0].mlp.down_proj.weight.data
by_row = quantize_absmax(row, 4, "channel")
zeros = torch.zeros(len(row), dtype=torch.int32)
by_torch = torch.fake_quantize_per_channel_affine(row, by_row.scale.flatten(), zeros, 0, -7, 7)
outermost = 0.9677083  # the mean of 1 − 1/32 and 1 − 1/30
positive, negative = (
    [NormalDist().inv_cdf(p) for p in torch.linspace(outermost, 0.5, count)[:-1].tolist()] for count in (9, 8)
)
quantiles = sorted([*(-each / positive[0] for each in negative), 0.0, *(each / positive[0] for each in positive)])

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: absmax", by_absmax.dequantize(), [[1.4, -0.6, 0.2, 0.0]], 1e-6)
check_close("by hand: zero-point", by_zero_point.dequantize(), [[1.3667, -0.6833, 0.2733, 0.0]], 1e-4)
check_close("by hand: NF4", by_nf4.dequantize(), [[1.4, -0.7351, 0.2253, 0.0]], 1e-4)
check(
    "by hand: an outlier wipes out its neighbors", quantize_absmax(spoiled, 4).codes.flatten().tolist() == [1, 0, 0, 7]
)
check("by hand: GPTQ rounds 0.4 and 0.4 to 0 and 1", by_gptq.codes.flatten().tolist() == [0, 1, 7])
check_close("absmax equals torch's fake quantization", by_row.dequantize(), by_torch)
check_close("fake quantization equals torch's", ours, theirs)
check_close("so does its gradient", our_gradient, their_gradient)
check_close("NF4's levels are quantiles of the normal distribution", nf4_levels(), quantiles, 1e-6)
check("8 bits are free, with every seed", max(max(growth[name, 8]) for name in METHODS) < 0.003)
check(
    "at 2 bits: one scale for all is worst, then per channel, then GPTQ, with every seed",
    all(
        whole > 2 * channel > 2 * 1.5 * optimal
        for whole, channel, optimal in zip(
            growth["absmax, tensor", 2], growth["absmax, channel", 2], growth["GPTQ, channel", 2], strict=True
        )
    ),
)


def weight_errors(quantize) -> list[float]:
    """Root mean square of the errors of all quantized weights, for each seed."""
    return [
        torch.cat([(quantize(w.weight.data).dequantize() - w.weight.data).flatten() for w in linears(model).values()])
        .square()
        .mean()
        .sqrt()
        .item()
        for model in models
    ]


for claim, better, worse in (
    (
        "in blocks of 64, NF4's errors are smaller than absmax's, with every seed",
        lambda weight: quantize_nf4(weight, 64),
        lambda weight: quantize_absmax(weight, 4, 64),
    ),
    (
        "at 2 bits in groups of 32, a fourth code makes errors smaller, with every seed",
        lambda weight: quantize_zero_point(weight, 2, 32),
        lambda weight: quantize_absmax(weight, 2, 32),
    ),
):
    check(claim, all(a < b for a, b in zip(weight_errors(better), weight_errors(worse), strict=True)))
check_close("NF4 costs 4.5 bits", 8 * quantize_nf4(torch.ones(256, 256)).num_bytes() / 256**2, 4.5)
check_close(
    "with double quantization 4.127",
    8 * quantize_nf4(torch.ones(1024, 1024), 64, True).num_bytes() / 1024**2,
    4.127,
    1e-3,
)
check("a model with an outlier computes what it computed before", max(abs(each) for each in unchanged) < 1e-4)
check(
    "an outlier × 300 costs least with LLM.int8(), most with one scale, with every seed",
    all(
        mixed < 0.004 < token < whole / 1.3
        for whole, token, mixed in zip(*(in_eight[300, mode] for mode in MODES), strict=True)
    ),
)
if folder is not None:
    top = {number: largest.sort(descending=True).values for number, largest in seen.items()}
    check(
        "MiniLM: one feature is 5 times as large as the median one, in every layer",
        all(values[0] > 5 * values.median() for values in top.values()),
    )
    check("MiniLM in int8: LLM.int8() is nearest", similarity["LLM.int8()"] == max(similarity[mode] for mode in MODES))
    check(
        "MiniLM: 4 bits with one scale for a matrix fail, in groups they do not",
        similarity["weights only, 4 bits: absmax, tensor"] < 0.6 < 0.9
        < similarity["weights only, 4 bits: absmax, group 32"],
    )  # fmt: skip

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# Every capstone exports an int8 model, states what it costs, and refuses it if the cost is above its tolerance:
# `uv run --package char-lm export --help`. QLoRA (Dettmers et al. 2023) trains adapters (LoRA, 11/08) on top of a
# frozen model in NF4: gradients pass through the dequantized weights.
#
# Papers: [Jacob et al. 2018](https://arxiv.org/abs/1712.05877), integer inference; [Dettmers et al.
# 2022](https://arxiv.org/abs/2208.07339), LLM.int8(); [Frantar et al. 2022](https://arxiv.org/abs/2210.17323), GPTQ;
# [Dettmers et al. 2023](https://arxiv.org/abs/2305.14314), QLoRA and NF4; [Xiao et al.
# 2023](https://arxiv.org/abs/2211.10438), SmoothQuant; [Lin et al. 2024](https://arxiv.org/abs/2306.00978), AWQ; [Dettmers and
# Zettlemoyer 2023](https://arxiv.org/abs/2212.09720), why 4 bits. Next: how models write faster, 12/08.

# %% [markdown] lang="zh"
# 每个实战项目都导出 int8 模型，写明它的代价，超出容许范围就拒绝导出：`uv run --package char-lm export --help`。
# QLoRA（Dettmers 等 2023）在冻结的 NF4 模型上训练适配器（LoRA，11/08）：梯度经过反量化的权重传回去。
#
# 论文：[Jacob 等 2018](https://arxiv.org/abs/1712.05877)，整数推理；
# [Dettmers 等 2022](https://arxiv.org/abs/2208.07339)，LLM.int8()；[Frantar 等 2022](https://arxiv.org/abs/2210.17323)，GPTQ；
# [Dettmers 等 2023](https://arxiv.org/abs/2305.14314)，QLoRA 与 NF4；[Xiao 等 2023](https://arxiv.org/abs/2211.10438)，SmoothQuant；
# [Lin 等 2024](https://arxiv.org/abs/2306.00978)，AWQ；
# [Dettmers 和 Zettlemoyer 2023](https://arxiv.org/abs/2212.09720)，为什么是 4 位。下一课：模型怎样写得更快，12/08。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `as_groups`, `absmax_scale`, `quantize_absmax`, `quantize_zero_point` and the backward pass of `fake_quantize` yourself.
# `uv run lesson exercise 12/07` makes a file with their signatures, `uv run lesson check 12/07` judges them one after the
# other.

# %% [markdown] lang="zh"
# 自己实现 `as_groups`、`absmax_scale`、`quantize_absmax`、`quantize_zero_point`，以及 `fake_quantize` 的反向传播。
# `uv run lesson exercise 12/07` 生成带有签名的文件，`uv run lesson check 12/07` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `as_groups` needs `reshape` only: one row, rows of the last axis, or rows of the group's size. Test divisibility
#    before the last one.
# 2. The largest code of $b$ bits is $2^{b-1} - 1$. A group of zeros would have scale 0 and then $0 / 0$; `torch.where`
#    gives it scale 1.
# 3. `quantize_absmax` computes codes in the shape of the groups and keeps `x.shape` for later.
# 4. For the zero point, clamp the minimum to at most 0 and the maximum to at least 0 first. Round $x / s$ before you add the zero
#    point, then clamp to $0 \dots 2^b - 1$.
# 5. `ctx.saved_tensors` is a tuple with one boolean tensor. `backward` returns a gradient for each argument of `forward`, in
#    their order.

# %% [markdown] lang="zh"
# 1. `as_groups` 只需 `reshape`：一行，最后一轴为行，或组的大小为行。最后一种情况先检查能否整除。
# 2. $b$ 位的最大编码是 $2^{b-1} - 1$。全 0 的组缩放因子为 0，会出现 $0 / 0$；用 `torch.where` 让它为 1。
# 3. `quantize_absmax` 按组的形状计算编码，并保存 `x.shape` 供以后使用。
# 4. 求零点时，先把最小值限制到不大于 0，最大值限制到不小于 0。先对 $x / s$ 舍入，再加零点，最后限制到 $0 \dots 2^b - 1$。
# 5. `ctx.saved_tensors` 是只含一个布尔张量的元组。`backward` 按 `forward` 的参数次序，为每个参数返回一个梯度。


# %%
@exercise(as_groups, absmax_scale, quantize_absmax, quantize_zero_point, FakeQuantize.backward)
def judge(yours, reference):
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(4, 24, generator=generator) + 0.4
    matrix[2] = 0.0
    for granularity, shape in (("tensor", (1, 96)), ("channel", (4, 24)), (8, (12, 8))):
        mine = yours.as_groups(matrix, granularity)
        check(f"as_groups({granularity!r}) has the shape {shape}", mine.shape == shape)
        check_close(f"as_groups({granularity!r})", mine, reference.as_groups(matrix, granularity))
    try:
        yours.as_groups(matrix, 7)
        refused = False
    except ValueError:
        refused = True
    check("as_groups refuses groups that do not divide the rows, with ValueError", refused)

    for bits in (2, 4, 8):
        mine, theirs = (each.absmax_scale(matrix, bits) for each in (yours, reference))
        check(f"absmax_scale is [groups, 1]: {bits} bits", mine.shape == (4, 1))
        check_close(f"absmax_scale of rows that are not 0: {bits} bits", mine[[0, 1, 3]], theirs[[0, 1, 3]])
        check_close(f"absmax_scale of zeros: {bits} bits", mine[2], theirs[2])

    for name in ("quantize_absmax", "quantize_zero_point"):
        for granularity in ("tensor", "channel", 8):
            mine, theirs = (getattr(each, name)(matrix, 4, granularity) for each in (yours, reference))
            named = f"{name}, {granularity!r}"
            check_close(f"scales of {named}", mine.scale, theirs.scale)
            if name == "quantize_zero_point":
                check_close(f"zero points of {named}", mine.zero_point, theirs.zero_point)
            check_close(f"codes of {named}", mine.codes, theirs.codes)
            check_close(f"numbers of {named}", mine.dequantize(), theirs.dequantize())

    one_sided = torch.tensor([[2.0, 3.0, 4.5, 2.5]])
    mine, theirs = (each.quantize_zero_point(one_sided, 3, "channel") for each in (yours, reference))
    check_close("the range of quantize_zero_point includes 0", mine.dequantize(), theirs.dequantize())

    inputs = [(2 * torch.randn(3, 9, generator=torch.Generator().manual_seed(2))).requires_grad_() for _ in range(2)]
    scale, zero_point = torch.tensor([[0.2], [0.5], [1.0]]), torch.tensor([[3], [8], [0]])
    outputs = [
        each.FakeQuantize.apply(values, scale, zero_point, 0, 15)
        for each, values in zip((yours, reference), inputs, strict=True)
    ]
    check_close("fake_quantize: values", *outputs)
    for output in outputs:
        (output * torch.arange(1.0, 10.0)).sum().backward()
    check_close("fake_quantize: the gradient, 0 where it clamps", inputs[0].grad, inputs[1].grad)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Weights in 4 bits are multiplied in 16 bits all the same. Why does generation get faster? · 4 位权重仍以 16 位相乘，为什么生成会变快？

# %% [markdown] lang="en"
# For one sequence, a decoding step reads every weight once and does two operations with it. A processor can do hundreds of operations in
# the time that a byte takes from memory, so memory bandwidth is the limit, and a quarter of the bytes takes about a
# quarter of the time. With large batches or long prompts each weight is used many times, arithmetic becomes the limit, and
# dequantizing is extra work: then 8-bit integer or floating-point products help, not weight-only quantization.

# %% [markdown] lang="zh"
# 对单个序列，每个解码步骤把每个权重读一次，只做两次运算。处理器在从内存取一个字节的时间里能做几百次运算，
# 所以瓶颈是内存带宽，字节数变成四分之一，时间大约也变成四分之一。
# 批量大或提示长时，每个权重被用很多次，瓶颈变成算力，反量化反而是额外的工作；这时有用的是 8 位整数或浮点乘积，而不是只量化权重。

# %%
table(
    ["7 billion weights", "bits each", "GB", "tokens/s at 100 GB/s, at most"],
    [
        (name, bits, 7 * bits / 8, 100 / (7 * bits / 8))
        for name, bits in (("float16", 16.0), ("int8", 8.004), ("NF4", 4.5), ("NF4, double", 4.127))
    ],
)

# %% [markdown]
# ### Absmax or zero-point? · absmax 还是零点？

# %% [markdown] lang="en"
# Absmax wastes codes if the numbers lie to one side: of a ReLU's output it uses half. Zero-point uses all codes, but
# products of shifted codes have extra terms, $\sum (c^X - z_X)(c^W - z_W)$, which cost time unless one of the zero points is 0. So
# it is usual to take absmax for weights, which are symmetric about 0, and zero-point for activations; and zero-point for
# weights too, where only a few bits are left and an unused code counts.

# %% [markdown] lang="zh"
# 数据偏在一边时 absmax 浪费编码：对 ReLU 的输出它只用到一半。零点量化用满所有编码，
# 但带偏移的编码相乘会多出几项 $\sum (c^X - z_X)(c^W - z_W)$，除非有一个零点为 0，否则要花时间。
# 所以通常权重（关于 0 对称）用 absmax，激活用零点；位数很少、浪费一个编码也要紧时，权重也用零点。

# %%
activations = torch.randn(1, 4096, generator=random).relu()
for name, quantize in (("absmax", quantize_absmax), ("zero-point", quantize_zero_point)):
    found = quantize(activations, 4)
    error = (found.dequantize() - activations).square().mean().sqrt().item()
    print(f"  ReLU's output, 4 bits, {name}: {found.codes.unique().numel()} codes in use, error {error:.3f}")

# %% [markdown]
# ### What does the size of a group trade? · 组的大小在权衡什么？

# %% [markdown] lang="en"
# A smaller group has a smaller largest number, so smaller steps and errors; and it keeps an outlier's damage among its neighbors. But
# every scale costs 16 bits: groups of 128 add 0.125 bits to a weight, groups of 32 add 0.5. At equal bits the choice is
# between more codes and more scales. Double quantization makes scales cheap, which is what lets NF4 use blocks of 64.

# %% [markdown] lang="zh"
# 组越小，组内最大的数越小，一格和误差也越小；离群值的破坏也限制在邻近的数之内。但每个缩放因子要 16 位：
# 128 个一组给每个权重增加 0.125 位，32 个一组增加 0.5 位。位数相同时，要在更多编码与更多缩放因子之间选择。
# 双重量化让缩放因子变便宜，NF4 因此用得起 64 个一块。

# %%
large = torch.randn(256, 1024, generator=random)
table(
    ["group", "bits per weight", "error, relative"],
    [
        (size, quantize_absmax(large, 4, size).bits_per_weight(),
         ((quantize_absmax(large, 4, size).dequantize() - large).norm() / large.norm()).item())
        for size in (16, 32, 64, 128, 1024)
    ],
)  # fmt: skip

# %% [markdown]
# ### Why are NF4's levels not equally spaced, and when is that wrong? · NF4 的档位为什么不等距？什么时候这样做不对？

# %% [markdown] lang="en"
# Weights of a block are close to normal: most are small, few are near the largest. Levels at quantiles are dense where the
# weights are dense, so that each is used about equally often and the mean error is smaller. On numbers that are spread evenly, equal steps
# are better. And unequal levels allow no integer product: each code must be looked up before it is multiplied.

# %% [markdown] lang="zh"
# 一块权重接近正态分布：大多数很小，接近最大值的很少。按分位数设档，权重密的地方档位也密，各档使用次数大致相同，平均误差更小。
# 若数是均匀分布的，等距更好。而且不等距的档位不能做整数乘积：每个编码都要先查表再相乘。

# %%
for name, values in (
    ("normal", torch.randn(1024, 64, generator=random)),
    ("uniform", 2 * torch.rand(1024, 64, generator=random) - 1),
):
    errors = [
        ((quantize(values).dequantize() - values).norm() / values.norm()).item()
        for quantize in (lambda v: quantize_nf4(v, 64), lambda v: quantize_absmax(v, 4, 64))
    ]
    print(f"  {name}: error of NF4 {errors[0]:.4f}, of absmax {errors[1]:.4f}")

# %% [markdown]
# ### What does GPTQ know that rounding does not, and what can go wrong? · GPTQ 知道什么四舍五入不知道的？会出什么问题？

# %% [markdown] lang="en"
# It knows the inputs: through $XX^\top$, which weights can make up for one another, and which see large inputs. It minimizes the
# layer's output error, and accepts larger errors of the weights themselves. If inputs are uncorrelated, it does no better than
# rounding. It needs calibration text like that of the use: with too little or other text it fits what does not
# matter. And it looks at one layer at a time, not at the loss.

# %% [markdown] lang="zh"
# 它知道输入：通过 $XX^\top$ 知道哪些权重可以互相弥补，哪些权重的输入很大。它最小化这一层输出的误差，
# 宁可让权重本身的误差更大。输入互不相关时，它不比四舍五入好。
# 它需要与实际用途相近的校准文本：文本太少或不相干，就会去拟合无关紧要的东西。而且它一次只看一层，不看最终的损失。

# %%
layer = models[0].blocks[1].attention.qkv_proj
received = []
hook = layer.register_forward_hook(lambda _module, inputs, _output: received.append(inputs[0].detach().flatten(0, 1)))
for windows in (calibration, test_windows):
    loss_of(models[0]) if windows is test_windows else models[0](windows[:, :-1])
hook.remove()
full_weight = layer.weight.data
rows = []
for name, codes in (
    ("rounding", quantize_absmax(full_weight, 3, "channel")),
    ("GPTQ", gptq(full_weight, input_hessian(received[0]), 3)),
    ("GPTQ on 20 tokens", gptq(full_weight, input_hessian(received[0][:20]), 3)),
):
    difference = codes.dequantize() - full_weight
    relative = [((x @ difference.T).norm() / (x @ full_weight.T).norm()).item() for x in received]
    rows.append((name, (difference.norm() / full_weight.norm()).item(), relative[0], relative[1]))
table(["3 bits, one layer", "error of weights", "of outputs, calibration", "of outputs, new text"], rows)

# %% [markdown]
# ### Activations are harder to quantize than weights. Why, and what is done? · 激活为什么比权重难量化？怎么办？

# %% [markdown] lang="en"
# They depend on the input, so scales are measured on the fly or fixed from calibration; and in large models a few features
# are tens of times larger, in almost every token. A scale for each feature would help, but cannot be taken out of the sum over
# features. So the outliers are multiplied apart (LLM.int8()), or moved into the weights beforehand (SmoothQuant), or spread
# over all features by a rotation (QuaRot).

# %% [markdown] lang="zh"
# 激活取决于输入，缩放因子要现算，或由校准事先定好；而且大模型里少数特征在几乎每个词元上都大几十倍。
# 给每个特征一个缩放因子会有帮助，但它无法从对特征的求和中提出来。
# 所以要么把离群特征单独相乘（LLM.int8()），要么事先移进权重（SmoothQuant），要么用旋转把它分摊到所有特征（QuaRot）。

# %%
spoiled_model = scale_feature(models[0], 300)
smoothed = scale_feature(spoiled_model, 1 / 30)  # SmoothQuant: most of the outlier goes into the weights
for name, model in (("outlier × 300", spoiled_model), ("smoothed to × 10", smoothed)):
    print(f"  int8, a scale for each token, {name}: loss {loss_of(in_int8(model, 'token')) - before[0]:+.4f}")

# %% [markdown]
# ### How do you know that a quantized model is good enough? · 怎么知道量化后的模型够好？

# %% [markdown] lang="en"
# Not from the error of the weights: GPTQ's is larger than that of rounding, and its loss is lower. Measure the loss on the same new text
# before and after (paired, so that even small differences show), then the tasks that it is for, with intervals; look
# at rare cases, other languages and long texts apart, since an average hides them. And measure memory and speed on the real machine:
# bits in a table are not yet a fast kernel.

# %% [markdown] lang="zh"
# 不能看权重的误差：GPTQ 的权重误差比四舍五入大，损失却更低。要在同一份新文本上比较前后的损失（配对比较，小差别也看得出），
# 再看实际任务，并给出置信区间；罕见情况、其他语言和长文本要分开看，因为平均值会掩盖它们。
# 还要在真实机器上测内存和速度：表里的位数还不等于快的内核。

# %%
for name, quantize_model in (
    ("rounding", lambda model: quantized(model, METHODS["absmax, channel"](2))),
    ("GPTQ", lambda model: quantized_by_gptq(model, 2, "channel")),
):
    model = quantize_model(models[0])
    pairs = zip(linears(model).values(), linears(models[0]).values(), strict=True)
    squares = [((a.weight - b.weight).square().sum().item(), b.weight.square().sum().item()) for a, b in pairs]
    error = (sum(a for a, _ in squares) / sum(b for _, b in squares)) ** 0.5
    print(f"  2 bits, {name}: weights off by {error:.2f} of their size, loss {loss_of(model) - before[0]:+.4f}")
