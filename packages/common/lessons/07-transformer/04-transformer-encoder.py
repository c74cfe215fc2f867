# %% [markdown]
# # The Transformer's encoder · Transformer 编码器

# %% [markdown] lang="en"
# After this lesson you can write an encoder layer from memory, in pre-norm and in post-norm, say what each of its parts
# is for and show what happens without it, and count its parameters and operations. You need multi-head attention
# (07/02), positional encodings (07/03) and residual connections (05/07).

# %% [markdown] lang="zh"
# 学完本课，你能默写一个编码器层（pre-norm 与 post-norm 两种），能说清每个部件的作用、拿掉它会怎样，
# 并能算出它的参数量和运算量。先修：多头注意力（07/02）、位置编码（07/03）和残差连接（05/07）。

# %%
import itertools

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.pytorch_core.optimizers import AdamW
from dlcommon.runtime.flops import flops_of
from dlcommon.transformer.attention import padding_mask
from dlcommon.transformer.encoder import FeedForward, Residual, TransformerEncoder, TransformerEncoderLayer
from dlcommon.transformer.torch_names import torch_names
from torch import nn

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# Attention lets every token of a sentence collect information from all others. One layer of it is not yet a reader: to
# find out what "it" refers to in "the cup is on the table, it is hot" takes several rounds of looking and thinking. So
# stack it: twelve layers of attention, one after the other?
#
# That fails, and at once. What attention returns for a token is an average of the values of all tokens. Averages of
# averages become alike, and after a few layers all tokens are the same vector: nothing is left to read. Besides,
# nobody has thought yet: an average collects what is there, and nothing is computed from what was collected.
#
# The encoder layer answers both: it adds what attention finds to the token instead of replacing the token by it, and
# after each round of collecting it lets every token compute by itself.

# %% [markdown] lang="zh"
# 注意力让句子里的每个词元（token）都能从其他所有词元那里收集信息。但只有一层还读不懂句子：
# 要弄清“杯子在桌上，它很烫”里的“它”指什么，需要几轮“看”和“想”。那就叠起来：连续十二层注意力？
#
# 这样做马上就会失败。注意力给每个词元的输出，是所有词元的值的平均。对平均再求平均，结果越来越像，
# 几层之后所有词元变成同一个向量，什么也读不出来了。而且到此还没有“想”：平均只是收集已有的内容，没有在此基础上算出新东西。
#
# 编码器层同时解决这两点：它把注意力找到的内容加到词元上，而不是用它取代词元；
# 每收集一轮之后，再让每个词元各自计算一次。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# Two tokens with two features, $(1, 3)$ and $(2, 0)$, one head, all weight matrices the identity, all biases 0.
#
# - Layer normalization subtracts the token's mean and divides by its standard deviation. $(1, 3)$ has mean 2 and
#   deviation 1 and becomes $(-1, 1)$; $(2, 0)$ becomes $(1, -1)$.
# - Attention of the first token: its dot product with itself is 2, with the other −2; divided by $\sqrt 2$ they are
#   ±1.414, and the softmax gives the weights 0.944 and 0.056. The average is $0.944 \cdot (-1, 1) + 0.056 \cdot (1,
#   -1) = (-0.888, 0.888)$.
# - It is added to the token as it was before the normalization: $(1, 3) + (-0.888, 0.888) = (0.112, 3.888)$.
# - Normalized again, $(-1, 1)$; the feed-forward network with its ReLU gives $(0, 1)$, and the sum is $(0.112, 4.888)$.
#
# That was pre-norm: normalize what goes into a sublayer, and leave the path of the sums alone. Post-norm, the order of
# the original paper, normalizes each sum instead, so that the layer's output is $(-1, 1)$ again.

# %% [markdown] lang="zh"
# 两个词元，各两个特征：$(1, 3)$ 和 $(2, 0)$；一个头，所有权重矩阵都是单位阵，偏置都是 0。
#
# - 层归一化减去该词元的均值，再除以它的标准差。$(1, 3)$ 均值 2、标准差 1，变成 $(-1, 1)$；
#   $(2, 0)$ 变成 $(1, -1)$。
# - 第一个词元的注意力：与自己的点积是 2，与另一个的点积是 −2；除以 $\sqrt 2$ 得 ±1.414，softmax 给出权重 0.944 和 0.056。
#   加权平均为 $0.944 \cdot (-1, 1) + 0.056 \cdot (1, -1) = (-0.888, 0.888)$。
# - 把它加到归一化之前的词元上：$(1, 3) + (-0.888, 0.888) = (0.112, 3.888)$。
# - 再归一化得 $(-1, 1)$；带 ReLU 的前馈网络给出 $(0, 1)$，相加得 $(0.112, 4.888)$。
#
# 以上是 pre-norm：只归一化进入子层的内容，求和的那条主路不动。原论文的顺序是 post-norm，它归一化的是每次求和的结果，
# 因此这一层的输出又是 $(-1, 1)$。

# %%
tokens = torch.tensor([[[1.0, 3.0], [2.0, 0.0]]], dtype=torch.float64)  # [batch 1, tokens 2, dim 2]


def with_identity_weights(layer: TransformerEncoderLayer) -> TransformerEncoderLayer:
    for name, parameter in layer.named_parameters():
        if parameter.dim() == 2:
            nn.init.eye_(parameter)
        elif not name.endswith("norm.weight"):
            nn.init.zeros_(parameter)
    return layer.double().eval()


pre = with_identity_weights(TransformerEncoderLayer(2, 1, 2, norm_first=True))
post = with_identity_weights(TransformerEncoderLayer(2, 1, 2, norm_first=False))
with torch.no_grad():
    normalized = pre.attention_residual.sublayer_input(tokens)
    attended, hand_weights = pre.self_attention(normalized, need_weights=True)
    summed = pre.attention_residual.add(tokens, attended)
    pre_output, post_output = pre(tokens)[0], post(tokens)[0]
stages = {"x": tokens, "norm(x)": normalized, "attention": attended, "x + attention": summed, "layer": pre_output}
table(
    ["pre-norm", "token 1", "token 2"],
    [
        (name, *("({:.3f}, {:.3f})".format(*token) for token in stage[0].tolist()))
        for name, stage in {**stages, "post-norm layer": post_output}.items()
    ],
)

drawing = Schematic(13.2, 5.0, "One encoder layer: pre-norm above, post-norm below")
PARTS = {
    "pre": (3.6, ["norm", "attention", "+", "norm", "feed-forward", "+"]),
    "post": (1.2, ["attention", "+", "norm", "feed-forward", "+", "norm"]),
}
for order, (height, parts) in PARTS.items():
    names = [f"{order} x", *(f"{order} {number}" for number in range(6)), f"{order} out"]
    for number, (name, text) in enumerate(zip(names, ["x", *parts, "output"], strict=True)):
        kind = "operation" if text in ("+", "norm") else "data" if text in ("x", "output") else "parameter"
        drawing.box(name, 0.9 + 1.63 * number, height, text, kind, width=0.6 if text == "+" else 1.25)
    for start, end in itertools.pairwise(names):
        drawing.arrow(start, end)
    plus = [number + 1 for number, text in enumerate(parts) if text == "+"]
    after = [plus[0] if order == "pre" else plus[0] + 1]  # where the second residual connection leaves
    for start, end in ((0, plus[0]), (after[0], plus[1])):
        drawing.arrow(names[start], names[end], bend=0.25)
show(drawing.figure, "layer")

# %% [markdown]
# ## Formula · 公式
#
# $$\mathrm{LN}(x) = \gamma \odot \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta, \qquad \mathrm{FFN}(x) = W_2 \, a(W_1 x + b_1) + b_2$$
#
# $$\text{pre-norm:} \quad y = x + \mathrm{MHA}(\mathrm{LN}(x)), \qquad z = y + \mathrm{FFN}(\mathrm{LN}(y))$$
#
# $$\text{post-norm:} \quad y = \mathrm{LN}(x + \mathrm{MHA}(x)), \qquad z = \mathrm{LN}(y + \mathrm{FFN}(y))$$
#
# $$\text{parameters} = 4d^2 + 2df + 9d + f, \qquad \text{operations per token} = 2(4d^2 + 2df) + 4nd$$

# %% [markdown] lang="en"
# - $x, y, z$: the features of the tokens before, within and after the layer, `[batch, tokens, dim]`.
# - $\mu, \sigma^2$: mean and variance of one token's own features; $\varepsilon = 10^{-5}$ avoids a division by 0.
# - $\gamma, \beta$: learned scale and shift, `[dim]`; $\odot$: the product of elements.
# - $\mathrm{MHA}$: multi-head self-attention (07/02); $\mathrm{LN}$: layer normalization (Ba et al. 2016).
# - $W_1$: `[f, d]`, $W_2$: `[d, f]`, $b_1, b_2$: weights and biases of the feed-forward network, the same for every
#   token; $a$: the activation, ReLU in the paper (equation 2), GELU in BERT.
# - $d$: the width of the features; $f$: the hidden width, usually $4d$; $n$: the number of tokens in the sequence.
#
# The parameters are those of the four projections of attention, $4d^2 + 4d$, of the two matrices, $2df + f + d$, and of
# two norms, $4d$. With $f = 4d$ that is about $12d^2$: a third in attention, two thirds in the feed-forward network.
#
# A product with a matrix takes two operations (multiply, add) for each of its numbers and each token. Scores and
# averages take $2nd$ each: only these grow with the sequence. They equal the rest when $4nd = 2(4d^2 + 2df)$, that is
# for $n = 2d + f$, which is $6d$ if $f = 4d$. In shorter sequences, "attention is quadratic" is true and does not
# matter.

# %% [markdown] lang="zh"
# - $x, y, z$：进入本层、层中间、离开本层的词元特征，`[batch, tokens, dim]`。
# - $\mu, \sigma^2$：同一个词元自身各特征的均值和方差；$\varepsilon = 10^{-5}$ 避免除以 0。
# - $\gamma, \beta$：学习到的缩放和平移，`[dim]`；$\odot$：逐元素相乘。
# - $\mathrm{MHA}$：多头自注意力（07/02）；$\mathrm{LN}$：层归一化（Ba 等 2016）。
# - $W_1$：`[f, d]`，$W_2$：`[d, f]`，$b_1, b_2$：前馈网络的权重和偏置，所有词元共用；
#   $a$：激活函数，论文用 ReLU（式 2），BERT 用 GELU。
# - $d$：特征的宽度；$f$：隐藏层的宽度，通常是 $4d$；$n$：序列里的词元数。
#
# 参数包括：注意力的四个投影 $4d^2 + 4d$，前馈网络的两个矩阵 $2df + f + d$，两个归一化 $4d$。
# 当 $f = 4d$ 时约为 $12d^2$：三分之一在注意力，三分之二在前馈网络。
#
# 与矩阵相乘时，每个词元对矩阵的每个数要做两次运算（一次乘、一次加）。打分和加权平均各需 $2nd$ 次，只有它们随序列变长。
# 当 $4nd = 2(4d^2 + 2df)$，即 $n = 2d + f$（$f = 4d$ 时为 $6d$）时，两者相等。
# 序列比这短时，“注意力是平方复杂度”这句话没错，但无关紧要。

# %% [markdown]
# ## Code · 代码

# %%
source(FeedForward.forward)
source(Residual)
source(TransformerEncoderLayer.forward)

# %% [markdown] lang="en"
# `Residual` holds the only difference between the two orders, so the layer is written once. `sublayer_input` is what
# the sublayer sees; `add` is what happens to its output. In pre-norm the way of `x` through the layer is two additions
# and nothing else.
#
# In the layer, attention is the only line in which tokens meet: `[batch, tokens, dim]` to the same, weights `[batch,
# heads, queries, keys]`. The feed-forward network goes `[batch, tokens, dim]` → `[batch, tokens, hidden_dim]` → `[batch,
# tokens, dim]`, each token by itself. `TransformerEncoder` calls the layers in turn; in pre-norm, where the sums were
# never normalized, it adds a last `LayerNorm`.

# %% [markdown] lang="zh"
# 两种顺序的全部差别都在 `Residual` 里，所以层本身只写一遍。`sublayer_input` 决定子层看到什么，`add` 决定子层的输出怎么用。
# 在 pre-norm 中，`x` 穿过这一层只经过两次加法，再没有别的。
#
# 在这一层里，只有注意力那一行让词元彼此接触：`[batch, tokens, dim]` 变为同样形状，权重为 `[batch, heads, queries, keys]`。
# 前馈网络是 `[batch, tokens, dim]` → `[batch, tokens, hidden_dim]` → `[batch, tokens, dim]`，每个词元各算各的。
# `TransformerEncoder` 依次调用各层；在 pre-norm 中，求和的主路从未归一化过，所以最后再加一个 `LayerNorm`。

# %% [markdown]
# ## Experiment: attention alone · 实验：只有注意力

# %% [markdown] lang="en"
# Sixteen random tokens go through untrained layers. After each layer we measure how different the tokens still are: the
# length of their deviations from the mean token, relative to the length of all. At 1 they have nothing in common, at 0
# they are all the same vector.

# %% [markdown] lang="zh"
# 十六个随机词元穿过未训练的若干层。每层之后测量词元之间还剩多少差异：
# 各词元与平均词元之差的长度，除以全部特征的长度。为 1 表示毫无共同之处，为 0 表示全是同一个向量。

# %%
quiz(
    "collapse",
    en="What is left of the difference between tokens after three layers of attention alone?",
    zh="只有注意力，三层之后，词元之间的差异还剩多少？",
    choices={
        "half": "more than half · 一半以上",
        "tenth": "about a tenth · 约十分之一",
        "none": "less than a ten-thousandth · 不到万分之一",
    },
)

# %%
DEPTH, SEEDS = 12, (0, 1, 2)


def difference_left(x: torch.Tensor) -> float:
    return ((x - x.mean(dim=1, keepdim=True)).norm() / x.norm()).item()


def differences(seed: int, advance) -> list[float]:
    """Measures the difference between tokens before the first layer and after each."""
    torch.manual_seed(seed)
    encoder = TransformerEncoder(64, 4, 256, DEPTH).double().eval()
    x = torch.randn(8, 16, 64, dtype=torch.float64)  # [batch, tokens, dim]
    found = [difference_left(x)]
    with torch.no_grad():
        for layer in encoder.layers:
            x = advance(layer, x)
            found.append(difference_left(x))
    return found


def attention_with_residual(layer: TransformerEncoderLayer, x: torch.Tensor) -> torch.Tensor:
    attended, _ = layer.self_attention(layer.attention_residual.sublayer_input(x))
    return layer.attention_residual.add(x, attended)


WAYS = {
    "attention alone": lambda layer, x: layer.self_attention(x)[0],
    "attention, residual": attention_with_residual,
    "whole layer": lambda layer, x: layer(x)[0],
}
left = {name: [differences(seed, advance) for seed in SEEDS] for name, advance in WAYS.items()}
after_three = max(curve[3] for curve in left["attention alone"])
settle("collapse", "none" if after_three < 1e-4 else "tenth" if after_three < 0.3 else "half")
table(
    ["difference left after", "1 layer", "2 layers", "3 layers", "4 layers", "12 layers"],
    [(name, *(curves[0][depth] for depth in (1, 2, 3, 4, 12))) for name, curves in left.items()],
)

# %% [markdown] lang="en"
# The collapse is faster than exponential. Tokens that are alike give alike scores, so the next average is more even
# still: what a layer leaves is in proportion to the cube of what it got (Dong et al. 2021 prove it), here about a tenth
# of the cube, $0.72^3 / 10 = 0.037$ and $0.037^3 / 10 = 5 \cdot 10^{-6}$, until only rounding is left. With the
# residual connection the tokens stay apart: each keeps itself and adds to it.

# %% [markdown] lang="zh"
# 坍缩比指数还快。词元越像，打分也越像，下一次平均就越均匀：
# 一层剩下的差异与它收到的差异的立方成正比（Dong 等 2021 给出了证明），这里约为立方的十分之一：$0.72^3 / 10 = 0.037$，$0.037^3 / 10 = 5 \cdot 10^{-6}$，
# 直到只剩舍入误差。有了残差连接，词元就不会混为一谈：每个词元保留自己，再往上加。

# %% [markdown]
# ## Experiment: who does what · 实验：各司其职

# %% [markdown] lang="en"
# A secret message: one of its tokens, anywhere, is the key; every other token is a letter, and what it stands for is
# written in a code book, a table of random letters with a row for each letter and a column for each key. Ten letters, ten
# keys, a hundred entries to learn by heart; messages of three to eight tokens, padded to eight.
#
# Deciphering takes two things: to learn the key, a letter must look at another token; to use it, it must look up (letter,
# key) in the book. One encoder layer is trained whole, without its feed-forward network, and without attention, three
# seeds each. A part is switched off by fixing its last matrix at 0, so that it adds nothing.

# %% [markdown] lang="zh"
# 一封密信：其中某个位置的词元是密钥，其余都是字母；每个字母代表什么，写在密码本里：
# 一张随机字母表，每个字母一行，每个密钥一列。十个字母、十个密钥，要记住一百个格子；信长三到八个词元，补齐到八个。
#
# 解密需要两件事：为了知道密钥，字母必须去看另一个词元；为了用上它，必须按（字母, 密钥）查密码本。
# 我们训练一层编码器：完整的、没有前馈网络的、没有注意力的，各三个种子。
# 关掉某个部件的办法是把它最后一个矩阵固定为 0，它就什么也不加。

# %%
LETTERS = 10
book = torch.randint(LETTERS, (LETTERS, LETTERS), generator=torch.Generator().manual_seed(7))  # [letter, key]


def messages(count: int, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws messages: tokens [count, 8], the mask of padding, the deciphered letters (−100: not counted), the place of the key."""
    lengths = torch.randint(3, 9, (count,), generator=random)
    letters = torch.randint(LETTERS, (count, 8), generator=random)
    key = torch.randint(LETTERS, (count, 1), generator=random)
    place = (torch.rand(count, 1, generator=random) * lengths[:, None]).long()  # [count, 1]
    mask = padding_mask(lengths, 8)  # [count, 1, 1, 8]
    counted = mask[:, 0, 0].scatter(1, place, False)
    tokens = (1 + letters).scatter(1, place, 1 + LETTERS + key).where(mask[:, 0, 0], 0)  # 0: padding
    return tokens, mask, book[letters, key].where(counted, -100), place


class Decipherer(nn.Module):
    """Reads letters and key: embedding, one encoder layer, a linear layer."""

    def __init__(self, without: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1 + 2 * LETTERS, 32)
        self.encoder = TransformerEncoder(32, 2, 128, 1, dropout=0.0)
        self.output = nn.Linear(32, LETTERS)
        layer = self.encoder.layers[0]
        last = {"feed-forward": layer.feed_forward.down_proj, "attention": layer.self_attention.out_proj}
        for parameter in last[without].parameters() if without else ():
            nn.init.zeros_(parameter).requires_grad_(False)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features, weights = self.encoder(self.embedding(tokens), mask, need_weights=True)
        return self.output(features), weights[:, 0]  # weights of the only layer


def train(without: str, seed: int) -> Decipherer:
    torch.manual_seed(seed)
    network, random = Decipherer(without), torch.Generator().manual_seed(seed)
    optimizer = AdamW([parameter for parameter in network.parameters() if parameter.requires_grad], lr=1e-2)
    for _ in range(150):
        tokens, mask, targets, _ = messages(32, random)
        optimizer.zero_grad()
        cross_entropy(network(tokens, mask)[0].flatten(0, 1), targets.flatten()).backward()
        optimizer.step()
    return network.eval()


# %%
quiz(
    "no attention",
    en="Which fraction of the letters can be deciphered at best without attention? (0 to 1; a guess of chance is 0.1)",
    zh="没有注意力，最多能解出多大比例的字母？（0 到 1；瞎猜是 0.1）",
)

# %%
test_tokens, test_mask, test_targets, test_places = messages(500, torch.Generator().manual_seed(99))
counted = test_targets >= 0
VARIANTS = {"whole layer": "", "without feed-forward": "feed-forward", "without attention": "attention"}
networks = {name: [train(without, seed) for seed in SEEDS] for name, without in VARIANTS.items()}
accuracies = {}
with torch.no_grad():
    for name, trained in networks.items():
        outputs = [network(test_tokens, test_mask)[0].argmax(dim=2) for network in trained]
        accuracies[name] = [(output == test_targets)[counted].float().mean().item() for output in outputs]
best_guess = torch.stack([row.bincount(minlength=LETTERS).max() for row in book]).double().mean().item() / LETTERS
settle("no attention", best_guess)
table(["right on 500 new messages", *(f"seed {seed}" for seed in SEEDS)], [(n, *a) for n, a in accuracies.items()])

# %% [markdown] lang="en"
# Without attention a letter does not know the key; the best that it can say is the most frequent entry of its row of the
# book, which is right as often as the quiz's answer says. Without the feed-forward network, attention fetches the key and
# even combines the two to some degree, since its weights depend on both; but it does not learn all hundred entries in the
# same training. The whole layer does.
#
# Where does it look? No one told it what a key is. In the picture, of one message and one head, most letters look at the
# key; over all messages a letter gives it more than half of its attention.

# %% [markdown] lang="zh"
# 没有注意力，字母不知道密钥，最好的办法是回答密码本那一行里最常见的字母，正确率正是小测的答案。
# 没有前馈网络，注意力能取来密钥，甚至在一定程度上把两者结合起来（权重同时取决于两者），
# 但用同样的训练学不全一百个格子。完整的一层可以。
#
# 它看向哪里？没有人告诉它什么是密钥。图中是一封信、一个头：多数字母看向密钥；在所有信上平均，字母把一半以上的注意力给了密钥。

# %%
letters_looking = counted[:, None, :].expand(-1, 2, -1)  # [batch, heads, queries]
at_key = []
with torch.no_grad():
    for network in networks["whole layer"]:
        _, weights = network(test_tokens, test_mask)  # [batch, heads, queries, keys]
        place = test_places[:, None, None, :].expand(-1, 2, 8, 1)
        heads = weights.gather(3, place)[..., 0]  # [batch, heads, queries]: the weight at the key
        at_key.append(max(heads[:, head][counted].mean().item() for head in range(2)))
evenly = (1.0 / test_mask.sum(dim=3)[:, 0]).expand(-1, 8)[counted].mean().item()

figure, axes = plt.subplots(1, 3, figsize=(13.5, 3.8), layout="constrained")
for name, curves in left.items():
    for seed, curve in enumerate(curves):
        axes[0].semilogy(curve, color=f"C{list(left).index(name)}", label=name if seed == 0 else None)
axes[0].set(
    xlabel="layer", ylabel="difference between tokens", title="Attention alone makes all tokens alike", ylim=(1e-17, 3)
)
axes[0].legend()
for number, (name, found) in enumerate(accuracies.items()):
    axes[1].bar([seed + 0.25 * number for seed in SEEDS], found, 0.25, label=name)
axes[1].axhline(best_guess, color="black", linestyle=":", label="best guess without the key")
axes[1].set(
    xticks=[0.25, 1.25, 2.25], xticklabels=[f"seed {seed}" for seed in SEEDS], ylabel="letters right", ylim=(0, 1.5)
)
axes[1].set_title("The code book")
axes[1].legend(fontsize=8, loc="upper left")
shown = int((test_mask.sum(dim=3)[:, 0, 0] == 8).nonzero()[0])
head = int(torch.stack([heads[:, number][counted].mean() for number in range(2)]).argmax())
names = ["key" if place == int(test_places[shown]) else "letter" for place in range(8)]
axes[2].imshow(weights[shown, head].numpy(), cmap="Blues", vmin=0, vmax=1)
axes[2].set(
    xticks=range(8),
    yticks=range(8),
    yticklabels=names,
    xlabel="looked at",
    ylabel="looks",
    title="Most letters look at the key",
)
axes[2].set_xticklabels(names, rotation=60)
show(figure, "what-each-part-does")
print(f"  attention of a letter to the key, in the head that gives it most: {', '.join(f'{w:.2f}' for w in at_key)}")
print(f"  if it were spread evenly: {evenly:.2f}")

# %% [markdown]
# ## Experiment: what it costs · 实验：代价

# %% [markdown] lang="en"
# The operations of one layer are counted as they run, for sequences of different lengths, and compared with the formula.
# The layer has $d = 64$ and $f = 256$.

# %% [markdown] lang="zh"
# 在运行时清点一层的运算次数，取不同的序列长度，与公式比较。这一层 $d = 64$，$f = 256$。

# %%
quiz(
    "crossover",
    en="From which number of tokens do scores and averages cost more than all weight matrices (d = 64, f = 256)?",
    zh="从多少个词元起，打分和加权平均的代价超过所有权重矩阵（d = 64，f = 256）？",
)

# %%
d, f = 64, 256
measured_layer = TransformerEncoderLayer(d, 4, f).eval()
costs = []
with torch.no_grad():
    for n in (16, 64, 256, 384, 1024):
        x = torch.randn(1, n, d)
        total = flops_of(lambda x=x: measured_layer(x, need_weights=True))  # spelled out, so that all is counted
        matrices = flops_of(lambda x=x: [linear(x) for linear in measured_layer.self_attention.children()])
        matrices += flops_of(lambda x=x: measured_layer.feed_forward(x))
        costs.append((n, total, matrices, total - matrices, n * (2 * (4 * d * d + 2 * d * f) + 4 * n * d)))
crossover = next(n for n in range(1, 2000) if 4 * n * d >= 2 * (4 * d * d + 2 * d * f))
settle("crossover", crossover)
table(["tokens", "operations", "of weight matrices", "of scores and averages", "the formula's total"], costs)

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# `torch.nn.TransformerEncoder` with the same weights: both orders of the norm, two layers, sequences of different lengths
# in a batch; outputs and all gradients must agree. `torch_names` renames our weights to torch's. Mind the masks: ours is
# true where a token may be attended to, torch's `src_key_padding_mask` is true where it may not.

# %% [markdown] lang="zh"
# 用同样的权重与 `torch.nn.TransformerEncoder` 比较：两种归一化顺序，两层，一个批次里序列长度不同；输出和所有梯度都必须一致。
# `torch_names` 把我们的权重改成 torch 的名字。注意掩码：我们的掩码为真表示可以看，
# torch 的 `src_key_padding_mask` 为真表示不可以看。

# %%
torch.manual_seed(0)
x = torch.randn(3, 7, 12, dtype=torch.float64)
keep = padding_mask(torch.tensor([7, 4, 5]), 7)
inside = keep[:, 0, 0]
upstream = torch.randn(16, 12, dtype=torch.float64)  # the gradient that arrives at the 7 + 4 + 5 tokens
library = {}
for norm_first in (True, False):
    ours = TransformerEncoder(12, 3, 40, 2, dropout=0.0, norm_first=norm_first).double()
    layer = nn.TransformerEncoderLayer(12, 3, 40, 0.0, batch_first=True, norm_first=norm_first)
    norm = nn.LayerNorm(12) if norm_first else None
    theirs = nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False).double()
    theirs.load_state_dict(torch_names(ours.state_dict()))
    output, expected = ours(x, keep)[0][inside], theirs(x, src_key_padding_mask=~inside)[inside]
    output.backward(upstream)
    expected.backward(upstream)
    our_gradients = torch_names({name: parameter.grad for name, parameter in ours.named_parameters()})
    pairs = [(our_gradients[name].flatten(), parameter.grad.flatten()) for name, parameter in theirs.named_parameters()]
    library[norm_first] = (output, expected, *(torch.cat(side) for side in zip(*pairs, strict=True)))

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the weights of the first token", hand_weights[0, 0, 0], [0.9442, 0.0558], 1e-3)
check_close("by hand: pre-norm", pre_output[0], [[0.1116, 4.8884], [3.8884, -0.8884]], 1e-3)
check_close("by hand: post-norm", post_output[0], [[-1.0, 1.0], [1.0, -1.0]], 1e-3)
for norm_first, (output, expected, our_gradient, their_gradient) in library.items():
    name = "pre-norm" if norm_first else "post-norm"
    check_close(f"{name}: outputs equal torch's TransformerEncoder, padding masked", output, expected, 1e-10)
    check_close(f"{name}: and so do the gradients of all weights", our_gradient, their_gradient, 1e-9)
check(
    "attention alone leaves less than a ten-thousandth of the difference after three layers, with every seed",
    max(curve[3] for curve in left["attention alone"]) < 1e-4,
)
check(
    "with the residual connection more than a fifth is left after twelve, with every seed",
    min(curve[12] for name in ("attention, residual", "whole layer") for curve in left[name]) > 0.2,
)
check(
    "without attention nothing beats the best guess by more than chance, with any seed",
    max(accuracies["without attention"]) < best_guess + 0.05,
)
check("the whole layer deciphers 98 % and more, with every seed", min(accuracies["whole layer"]) > 0.98)
check(
    "without the feed-forward network it is less, with every seed",
    max(accuracies["without feed-forward"]) < min(accuracies["whole layer"]) - 0.01,
)
check("letters look at the key far more than evenly, with every seed", min(at_key) > 2 * evenly)
check_close("operations counted equal the formula", [row[1] for row in costs], [row[4] for row in costs], 1e-12)
check("at 2d + f tokens both parts cost the same", costs[3][0] == 2 * d + f and costs[3][2] == costs[3][3])
check(
    "parameters: 4d² + 2df + 9d + f",
    sum(p.numel() for p in measured_layer.parameters()) == 4 * d * d + 2 * d * f + 9 * d + f,
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `translator` reads its source sentences with this encoder: `uv run --package translator train
# --max-minutes 5`. BERT (07/07) is the post-norm encoder with GELU, trained on text with gaps.
#
# Read the paper with code in
# [docs/ATTENTION_IS_ALL_YOU_NEED.md](../../../../docs/ATTENTION_IS_ALL_YOU_NEED.md). Papers: [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), sections 3.1 and 3.3; [Ba et al.
# 2016](https://arxiv.org/abs/1607.06450), layer normalization; [Xiong et al. 2020](https://arxiv.org/abs/2002.04745),
# pre-norm and post-norm, and [Liu et al. 2020](https://arxiv.org/abs/2004.08249), why the latter is hard to train; [Dong et
# al. 2021](https://arxiv.org/abs/2103.03404), the collapse. Next: the decoder, which writes, 07/05.

# %% [markdown] lang="zh"
# 实战项目 `translator` 用这个编码器读原文：`uv run --package translator train --max-minutes 5`。
# BERT（07/07）就是带 GELU 的 post-norm 编码器，用挖空的文本训练。
#
# 对照代码精读论文：
# [docs/ATTENTION_IS_ALL_YOU_NEED.md](../../../../docs/ATTENTION_IS_ALL_YOU_NEED.md)。
# 论文：[Vaswani 等 2017](https://arxiv.org/abs/1706.03762) 第 3.1、3.3 节；
# [Ba 等 2016](https://arxiv.org/abs/1607.06450) 提出层归一化；
# [Xiong 等 2020](https://arxiv.org/abs/2002.04745) 比较 pre-norm 与 post-norm；
# [Liu 等 2020](https://arxiv.org/abs/2004.08249) 分析后者为什么难训练；
# [Dong 等 2021](https://arxiv.org/abs/2103.03404) 讨论坍缩。下一课：负责写的解码器，07/05。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write the four methods that make an encoder layer: `FeedForward.forward`, `Residual.sublayer_input`, `Residual.add` and
# `TransformerEncoderLayer.forward`. `uv run lesson exercise 07/04` makes a file with their signatures, `uv run lesson
# check 07/04` judges values and gradients with weights of its own.

# %% [markdown] lang="zh"
# 实现构成编码器层的四个方法：`FeedForward.forward`、`Residual.sublayer_input`、`Residual.add` 和 `TransformerEncoderLayer.forward`。
# `uv run lesson exercise 07/04` 生成带有签名的文件，`uv run lesson check 07/04` 用另外的权重检查数值与梯度。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `FeedForward.forward`: `up_proj`, then `activation`, then `dropout`, then `down_proj`.
# 2. `Residual` asks `self.norm_first` twice. In pre-norm the norm is applied in `sublayer_input` only, in post-norm in
#    `add` only, and there to the sum.
# 3. Dropout belongs to the sublayer's output, not to `x`: what a token already holds is never dropped.
# 4. In the layer, the sum starts from `x` as it came in, not from the normalized one. `self.self_attention(…, mask=mask,
#    need_weights=need_weights)` returns two things; return the features and those weights.

# %% [markdown] lang="zh"
# 1. `FeedForward.forward`：先 `up_proj`，再 `activation`，再 `dropout`，最后 `down_proj`。
# 2. `Residual` 两次用到 `self.norm_first`。pre-norm 只在 `sublayer_input` 里归一化，post-norm 只在 `add` 里归一化，
#    而且是对求和的结果。
# 3. dropout 作用于子层的输出，不作用于 `x`：词元已经拥有的内容不会被丢掉。
# 4. 在层里，相加时用的是进来的 `x`，不是归一化之后的。`self.self_attention(…, mask=mask, need_weights=need_weights)`
#    返回两样东西；把特征和这个权重一起返回。


# %%
@exercise(FeedForward.forward, Residual.sublayer_input, Residual.add, TransformerEncoderLayer.forward)
def judge(yours, reference):
    def drawn(*shape, seed=0):
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def both(build):
        """Builds the learner's module and the reference's, with the same random weights."""
        pair = [build(module).double() for module in (yours, reference)]
        random = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in pair[1].parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=random, dtype=torch.float64))
        pair[0].load_state_dict(pair[1].state_dict())
        return pair

    x, y = drawn(2, 5, 8), drawn(2, 5, 8, seed=1)  # [batch 2, tokens 5, dim 8]
    for activation in ("relu", "gelu"):
        mine, expected = both(lambda module, a=activation: module.FeedForward(8, 20, dropout=0.0, activation=a))
        check("FeedForward returns [batch, tokens, dim]", mine(x).shape == (2, 5, 8))
        check_close(f"the feed-forward network with {activation}", mine(x), expected(x), 1e-10)
    mine, _ = both(lambda module: module.FeedForward(8, 400, dropout=0.5))
    hidden = []
    mine.down_proj.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0]))
    mine(x)
    active = (hidden[0] != 0).double().mean().item()  # half are cut by the ReLU, half of the rest dropped
    check("while training, dropout zeroes hidden units behind the activation", 0.15 < active < 0.35)

    for norm_first, name in ((True, "pre-norm"), (False, "post-norm")):
        mine, expected = both(lambda module, n=norm_first: module.Residual(8, dropout=0.0, norm_first=n))
        check_close(f"{name}: what the sublayer sees", mine.sublayer_input(x), expected.sublayer_input(x), 1e-10)
        check_close(f"{name}: the sum", mine.add(x, y), expected.add(x, y), 1e-10)
    mine = yours.Residual(8, dropout=1.0, norm_first=True).double()
    check_close("with dropout of 1 the input itself is left, while training", mine.add(x, y), x, 1e-12)

    mask = padding_mask(torch.tensor([5, 3]), 5)
    for norm_first, name in ((True, "pre-norm"), (False, "post-norm")):
        mine, expected = both(
            lambda module, n=norm_first: module.TransformerEncoderLayer(8, 2, 12, dropout=0.0, norm_first=n)
        )
        result = mine(x)
        check("the layer returns two things: features and weights", isinstance(result, tuple) and len(result) == 2)
        check("without need_weights the second is None", result[1] is None)
        check_close(f"{name}: the layer's features", result[0], expected(x)[0], 1e-10)
        check_close(f"{name}: with a mask", mine(x, mask)[0], expected(x, mask)[0], 1e-10)
        weights = mine(x, mask, need_weights=True)[1]
        check("with need_weights the second is a tensor", isinstance(weights, torch.Tensor))
        check_close(f"{name}: the attention weights", weights, expected(x, mask, need_weights=True)[1], 1e-10)
        gradients = []
        for module in (mine, expected):
            leaf = x.clone().requires_grad_()
            output = module(leaf, mask)[0]
            gradients.append(torch.autograd.grad(output.pow(3).sum(), [leaf, *module.parameters()]))
        for (parameter, _), *pair in zip([("the input", x), *expected.named_parameters()], *gradients, strict=True):
            check_close(f"{name}: the gradient of {parameter}", *pair, 1e-8)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why is there a feed-forward network after attention? · 注意力之后为什么还要前馈网络？

# %% [markdown] lang="en"
# Attention moves information between tokens: each output is an average of values. The feed-forward network computes with
# what has arrived, for each token by itself, nonlinearly, and most of what a model knows by heart is in its weights: it
# holds two thirds of a layer's parameters. Without it a layer learns less of a table of facts; without attention it
# cannot know what stands elsewhere.

# %% [markdown] lang="zh"
# 注意力在词元之间搬运信息：每个输出都是值的加权平均。前馈网络则对搬来的内容做计算，逐词元进行，带非线性；
# 模型记住的知识大多在它的权重里，它占一层参数的三分之二。没有它，一张知识表就记不全；没有注意力，就不知道别处写了什么。

# %%
for name, found in accuracies.items():
    print(f"  {name}: {', '.join(f'{value:.1%}' for value in found)} of the letters")

# %% [markdown]
# ### What is the difference between pre-norm and post-norm? · pre-norm 和 post-norm 有什么区别？

# %% [markdown] lang="en"
# Pre-norm computes x + f(norm(x)): from the first layer to the last there is a path of additions alone, along which the
# gradient arrives unchanged; deep stacks train without warm-up. The features grow with depth, since nothing normalizes the
# sums, so a final norm is needed. Post-norm, norm(x + f(x)), keeps every layer's output at one size, and divides the path
# of the gradient by a standard deviation at each layer: it needs warm-up (07/06). Where it trains, it is reported to end
# slightly better (Liu et al. 2020).

# %% [markdown] lang="zh"
# pre-norm 计算 x + f(norm(x))：从第一层到最后一层有一条只有加法的路，梯度沿它原样传回，很深的网络不用预热也能训练。
# 因为没有什么来归一化求和的结果，特征会随深度变大，所以最后要再加一个归一化。
# post-norm 计算 norm(x + f(x))，每层输出的大小都一样，但梯度的主路在每一层都要除以一个标准差：
# 需要预热（07/06）。
# 有研究报告，训练得起来时它的最终效果略好（Liu 等 2020）。

# %%
with torch.no_grad():
    for norm_first in (True, False):
        torch.manual_seed(0)
        stack, x = TransformerEncoder(64, 4, 256, DEPTH, norm_first=norm_first).eval(), torch.randn(4, 16, 64)
        sizes = []
        for layer in stack.layers:
            x, _ = layer(x)
            sizes.append(x.std().item())
        print(
            f"  {'pre' if norm_first else 'post'}-norm: features after layer 1: {sizes[0]:.2f}, after 12: {sizes[-1]:.2f}"
        )

# %% [markdown]
# ### Why layer normalization and not batch normalization? · 为什么用层归一化而不用批归一化？

# %% [markdown] lang="en"
# Layer normalization takes mean and variance over the features of one token. So the result does not depend on the other
# sentences of the batch, nor on padding, nor on the batch size; it is the same in training and in use, and works for one
# token at a time. Batch normalization would average over tokens of all sentences, with their different lengths, and would
# need running averages that fit poorly.

# %% [markdown] lang="zh"
# 层归一化的均值和方差取自同一个词元的特征。结果与批次里的其他句子、填充、批大小都无关；
# 训练和使用时完全一样，一次只处理一个词元也行。
# 批归一化要对所有句子的词元求平均，而句子长短不一，还需要并不合适的滑动平均。

# %%
features = torch.randn(4, 10, 8, generator=torch.Generator().manual_seed(0))
with_padding = torch.cat([features, torch.zeros(4, 10, 8)], dim=1)  # ten tokens of padding behind each
by_layer = nn.LayerNorm(8)(with_padding)[:, :10] - nn.LayerNorm(8)(features)
by_batch = nn.BatchNorm1d(8)(with_padding.flatten(0, 1)).view(4, 20, 8)[:, :10] - nn.BatchNorm1d(8)(
    features.flatten(0, 1)
).view(4, 10, 8)
print(f"  padding changes layer norm by {by_layer.abs().max():.2g}, batch norm by {by_batch.abs().max():.2g}")

# %% [markdown]
# ### How many parameters does an encoder layer have, and where? · 一个编码器层有多少参数，分布在哪里？

# %% [markdown] lang="en"
# 4d² in attention (query, key, value, output), 2df in the feed-forward network, 8d² with f = 4d, together 12d², besides
# biases and norms. BERT-base has d = 768 and twelve layers: 12 · 12 · 768² = 85 million; its other 24 million are
# embeddings. The number of heads changes nothing: heads share out the same matrices.

# %% [markdown] lang="zh"
# 注意力 4d²（查询、键、值、输出），前馈网络 2df，f = 4d 时为 8d²，合计 12d²，另有偏置和归一化。
# BERT-base 的 d = 768、共十二层：12 · 12 · 768² = 8500 万；其余 2400 万左右是嵌入。
# 头数不影响参数量：各个头只是瓜分同样的矩阵。

# %%
bert_layer = TransformerEncoderLayer(768, 12, 3072, norm_first=False, activation="gelu")
counts = {name: sum(p.numel() for p in part.parameters()) for name, part in bert_layer.named_children()}
table(["part of a layer of BERT-base", "parameters"], [*counts.items(), ("twelve layers", 12 * sum(counts.values()))])

# %% [markdown]
# ### What does the padding mask do, and what if it is forgotten? · 填充掩码有什么用？忘了会怎样？

# %% [markdown] lang="en"
# Sentences of a batch are filled up to one length. The mask sets the scores of padding to −∞, so that it gets weight 0.
# Without it, each sentence attends to its padding, and its result depends on how long the others in the batch are: a
# silent fault, which training even adapts to, and which shows when the sentence is alone. Test it: the sentence alone and
# the sentence padded must give the same. Outputs at padded places are meaningless and must not be counted in the loss.

# %% [markdown] lang="zh"
# 同一批里的句子要补齐到同样长度。掩码把填充位置的打分设为 −∞，权重就是 0。
# 没有掩码，每个句子都会看到自己的填充，结果取决于同批其他句子有多长：这种错误不报错，训练甚至会去适应它，
# 单独处理一个句子时才露馅。检验方法：句子单独处理和补齐之后处理，结果必须相同。填充位置的输出没有意义，不能计入损失。

# %%
with torch.no_grad():
    sentence, padded = torch.randn(1, 5, 64), torch.zeros(1, 9, 64)
    padded[:, :5] = sentence
    alone = measured_layer(sentence)[0]
    for name, mask in (("with the mask", padding_mask(torch.tensor([5]), 9)), ("without", None)):
        change = (measured_layer(padded, mask)[0][:, :5] - alone).abs().max().item()
        print(f"  {name}, four tokens of padding change the result by {change:.2g}")

# %% [markdown]
# ### Does an encoder know the order of its tokens? · 编码器知道词元的顺序吗？

# %% [markdown] lang="en"
# Not by itself: if the tokens are permuted, the outputs are permuted the same way and are otherwise unchanged, since
# attention sums over a set and everything else looks at one token. Order has to be put in, by positional encodings (07/03).
# Where order means nothing, as in sets of points or in our messages, they are left out.

# %% [markdown] lang="zh"
# 它自己不知道：把词元打乱，输出也同样打乱，别的都不变，因为注意力是对集合求和，其他部分只看单个词元。
# 顺序要靠位置编码放进去（07/03）。顺序没有意义时（点的集合，或本课的密信），就不用位置编码。

# %%
with torch.no_grad():
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    x = torch.randn(1, 9, 64)
    moved = (measured_layer(x[:, order])[0] - measured_layer(x)[0][:, order]).abs().max().item()
    print(f"  permuted input and permuted output differ by {moved:.1g}")
