# %% [markdown]
# # The Transformer's decoder · Transformer 解码器

# %% [markdown] lang="en"
# After this lesson you can write a decoder layer from memory, explain the causal mask and notice when it is missing, say
# where cross-attention takes its queries, keys and values from, and decode with a cache that you have shown to change
# nothing. You need the encoder (07/04) and sequence-to-sequence models (06/07).

# %% [markdown] lang="zh"
# 学完本课，你能默写一个解码器层，能解释因果掩码、并在它缺失时有所察觉，能说清交叉注意力的查询、键、值各来自哪里，
# 还能用缓存解码，并证明缓存不改变结果。先修：编码器（07/04）和序列到序列模型（06/07）。

# %%
import math
from unittest import mock

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, seconds, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.pytorch_core.optimizers import AdamW
from dlcommon.runtime.flops import flops_of
from dlcommon.transformer import decoder as decoder_module
from dlcommon.transformer.attention import causal_mask, padding_mask, scaled_dot_product_attention
from dlcommon.transformer.decoder import DecoderState, TransformerDecoder, TransformerDecoderLayer
from dlcommon.transformer.kv_cache import KVCache
from dlcommon.transformer.positional_encoding import sinusoidal_encoding
from dlcommon.transformer.torch_names import torch_names
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# The encoder has read a sentence; now a translation is to be written, word by word. Each word depends on the source and on
# the words written so far. An RNN decoder (06/07) does this one step after the other, in use and in training.
#
# In training we would like to be faster. The whole target is known, so feed it in at once and let every place predict the
# next word. But then the place that must predict word 5 can see word 5, in the input, one place further on. It will copy it;
# the loss will be wonderful, and the model will have learned nothing that helps when word 5 is not written yet.
#
# In use there is the opposite trouble. Words come one at a time, and for each new word the whole prefix would be computed
# again: for word 100, ninety-nine words whose results have not changed.
#
# A mask solves the first, and because of the mask, a cache solves the second.

# %% [markdown] lang="zh"
# 编码器已经读完一句话，现在要逐词写出译文。每个词取决于原文和已写出的词。RNN 解码器（06/07）无论训练还是使用，都只能一步一步来。
#
# 训练时我们想快一些：整个目标句已知，那就一次全部输入，让每个位置预测下一个词。
# 但这样一来，负责预测第 5 个词的位置，在输入里往后一格就能看到第 5 个词。它会照抄；损失会好得惊人，
# 而到了第 5 个词还没写出来的时候，模型学到的东西毫无用处。
#
# 使用时的麻烦正好相反：词一个一个地来，每来一个新词就要把整个前缀重算一遍，写第 100 个词时，前 99 个词的结果其实都没变。
#
# 掩码解决第一个问题；而正因为有了掩码，缓存才能解决第二个问题。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# Three tokens, all scores equal, with the values 3, 6 and 0. Without a mask each token gets the average of all, 3. With
# the causal mask the first sees only itself and gets 3, the second $(3 + 6) / 2 = 4.5$, the third $(3 + 6 + 0) / 3 = 3$.
# If a fourth token is written, none of these three changes: that is why they can be kept.
#
# Cross-attention: the tokens look at the encoder's output, which is called the memory. Let it have two places, with values
# 1 and 5. For a query that scores them 0 and $\log 3$ the weights are $1 / 4$ and $3 / 4$, the output is $0.25 \cdot 1 +
# 0.75 \cdot 5 = 4$.
#
# What does the cache save? Writing four tokens without it computes $1 + 2 + 3 + 4 = 10$ tokens, with it 4. For $T$ tokens
# it is $T (T + 1) / 2$ against $T$.

# %% [markdown] lang="zh"
# 三个词元（token），打分全都相等，值为 3、6、0。没有掩码时，每个词元得到全部的平均值 3。
# 有因果掩码时，第一个只看到自己，得 3；第二个得 $(3 + 6) / 2 = 4.5$；第三个得 $(3 + 6 + 0) / 3 = 3$。
# 再写第四个词元，这三个结果都不变：所以才可以把它们存起来。
#
# 交叉注意力：词元去看编码器的输出，它称为 memory（记忆）。设它有两个位置，值为 1 和 5。
# 若查询给它们打分 0 和 $\log 3$，
# 权重就是 $1 / 4$ 和 $3 / 4$，输出为 $0.25 \cdot 1 + 0.75 \cdot 5 = 4$。
#
# 缓存省了多少？不用缓存写四个词元要计算 $1 + 2 + 3 + 4 = 10$ 个词元，用缓存只要 4 个。
# 写 $T$ 个词元，就是 $T (T + 1) / 2$ 比 $T$。

# %%
zeros, hand_values = torch.zeros(3, 1), torch.tensor([[3.0], [6.0], [0.0]])
unmasked, _ = scaled_dot_product_attention(zeros, zeros, hand_values)
masked, masked_weights = scaled_dot_product_attention(zeros, zeros, hand_values, causal_mask(3))
looked_up, _ = scaled_dot_product_attention(
    torch.ones(1, 1), torch.tensor([[0.0], [math.log(3)]]), torch.tensor([[1.0], [5.0]])
)
table(
    ["token", "weights with the mask", "output with it", "without"],
    [
        (t + 1, " ".join(f"{weight:.3f}" for weight in masked_weights[t]), masked[t].item(), unmasked[t].item())
        for t in range(3)
    ],
)

drawing = Schematic(13.4, 4.6, "One decoder layer (pre-norm; the norm before each sublayer is not drawn)")
drawing.box("x", 0.9, 1.6, "target\nso far", "data", width=1.3)
drawing.box("self", 3.1, 1.6, "causal\nself-attention", "parameter", width=1.8)
drawing.box("+1", 4.9, 1.6, "+", width=0.6)
drawing.box("cross", 6.7, 1.6, "cross-\nattention", "parameter", width=1.8)
drawing.box("+2", 8.5, 1.6, "+", width=0.6)
drawing.box("ffn", 10.2, 1.6, "feed-\nforward", "parameter", width=1.5)
drawing.box("+3", 11.7, 1.6, "+", width=0.6)
drawing.box("out", 12.8, 1.6, "output", "data", width=0.9)
drawing.box("cache", 3.1, 3.5, "cache: keys, values\nof earlier tokens", "data", width=2.4)
drawing.box("memory", 6.7, 3.5, "keys, values of the\nencoder's output", "data", width=2.4)
for start, end in (
    ("x", "self"), ("self", "+1"), ("+1", "cross"), ("cross", "+2"), ("+2", "ffn"), ("ffn", "+3"), ("+3", "out"),
    ("cache", "self"), ("memory", "cross"),
):  # fmt: skip
    drawing.arrow(start, end)
for start, end in (("x", "+1"), ("+1", "+2"), ("+2", "+3")):
    drawing.arrow(start, end, bend=-0.42)
show(drawing.figure, "layer")

# %% [markdown]
# ## Formula · 公式
#
# $$p(y_1, \dots, y_T \mid s) = \prod_{t=1}^{T} p(y_t \mid y_1, \dots, y_{t-1}, s)$$
#
# $$A = \mathrm{softmax}\left(\frac{Q K^\top}{\sqrt{d_h}} + M\right) V, \qquad M_{ij} = 0 \text{ for } j \le i, \quad M_{ij} = -\infty \text{ for } j > i$$
#
# $$y = x + A(\mathrm{LN}(x)), \qquad z = y + C(\mathrm{LN}(y), m), \qquad \mathrm{output} = z + \mathrm{FFN}(\mathrm{LN}(z))$$
#
# $$\text{without cache:} \quad L \sum_{t=1}^{T} \left(4 S d^2 + t \, (28 d^2 + 4 S d) + 4 t^2 d\right)$$
#
# $$\text{with cache:} \quad L \left(4 S d^2 + \sum_{t=1}^{T} (28 d^2 + 4 S d + 4 t d)\right)$$

# %% [markdown] lang="en"
# - $s$: the source, of $S$ tokens; $y_t$: token $t$ of the target, of $T$ tokens.
# - $Q, K, V$: queries, keys and values of one head, `[tokens, head_dim]`; $d_h$: the width of a head.
# - $M$: the causal mask, `[tokens, tokens]`: token $i$ may attend to $j \le i$; $e^{-\infty} = 0$, so the rest gets no
#   weight (section 3.2.3 of Vaswani et al. 2017).
# - $A$: causal self-attention; $C$: cross-attention, whose queries come from the target and whose keys and values come from
#   $m$, the memory, which is the encoder's output, `[batch, S, dim]`. It has no causal mask: all of the source is known.
# - $x$: the features of the target that enter the layer, `[batch, tokens, dim]`; $\mathrm{LN}$, $\mathrm{FFN}$: layer
#   normalization and feed-forward network, as in the encoder.
# - $L$: the number of layers; $d$: the width of the features; the hidden layer is $4d$ wide.
#
# The last two lines count the operations of writing $T$ tokens. A token costs $28 d^2$ in matrices: six projections, four
# of self-attention and cross-attention's for query and output, $12 d^2$, and the feed-forward network, $16 d^2$. The
# memory's keys and values cost $4 S d^2$. Without a cache step $t$ computes all $t$ tokens again.
#
# The cache holds $2 L d$ numbers for each token of the target, and as many for each of the source.

# %% [markdown] lang="zh"
# - $s$：原文，共 $S$ 个词元；$y_t$：目标的第 $t$ 个词元，共 $T$ 个。
# - $Q, K, V$：一个头的查询、键、值，`[tokens, head_dim]`；$d_h$：一个头的宽度。
# - $M$：因果掩码，`[tokens, tokens]`：第 $i$ 个词元可以看 $j \le i$；
#   $e^{-\infty} = 0$，其余位置没有权重（Vaswani 等 2017，第 3.2.3 节）。
# - $A$：因果自注意力；$C$：交叉注意力，查询来自目标，键和值来自 $m$；
#   $m$ 称为 memory，就是编码器的输出，`[batch, S, dim]`。它不需要因果掩码：原文全部已知。
# - $x$：进入本层的目标特征，`[batch, tokens, dim]`；$\mathrm{LN}$、$\mathrm{FFN}$：层归一化和前馈网络，与编码器相同。
# - $L$：层数；$d$：特征宽度；前馈网络的隐藏层宽 $4d$。
#
# 最后两行是写 $T$ 个词元的运算量。每个词元的矩阵运算是 $28 d^2$：
# 六个投影（自注意力四个，交叉注意力的查询和输出）共 $12 d^2$，前馈网络 $16 d^2$。memory 的键和值要 $4 S d^2$。
# 不用缓存时，第 $t$ 步要把 $t$ 个词元全部重算。
#
# 缓存中，目标的每个词元占 $2 L d$ 个数，原文的每个词元也占这么多。

# %% [markdown]
# ## Code · 代码

# %%
source(TransformerDecoderLayer.step)
source(TransformerDecoderLayer.forward)
source(TransformerDecoder.start)

# %% [markdown] lang="en"
# One method does both jobs. In training `forward` hands `step` the whole target and no cache, and `causal_mask(tokens)` is
# the triangle of the formula. While writing, `x` is one token, `[batch, 1, dim]`, the cache holds the earlier ones, and
# `causal_mask(1, cached)` is a row of true: the newest token may look at everything before it.
#
# Self-attention's new keys and values, `[batch, heads, tokens, head_dim]`, are appended to the cache, which is returned; the
# old one is left as it was. Cross-attention gets keys and values that `start` has computed once for the source. Both times
# only the query is new. `TransformerDecoder.step` does this for all layers and keeps their caches stacked, `[batch, layers,
# heads, tokens, head_dim]`, so that one index reorders the sequences of a batch.

# %% [markdown] lang="zh"
# 同一个方法做两件事。训练时，`forward` 把整个目标交给 `step`，没有缓存，`causal_mask(tokens)` 就是公式里的三角形。
# 写的时候，`x` 只有一个词元，`[batch, 1, dim]`，缓存里是之前的词元，`causal_mask(1, cached)` 是一行全真：
# 最新的词元可以看之前的一切。
#
# 自注意力新算出的键和值（`[batch, heads, tokens, head_dim]`）接到缓存后面并返回，旧缓存保持不变。
# 交叉注意力用的键和值，由 `start` 为原文一次算好。两处都只有查询是新的。
# `TransformerDecoder.step` 对所有层做这件事，并把各层的缓存叠在一起，`[batch, layers, heads, tokens, head_dim]`，
# 于是用一个下标就能重排批次里的序列。

# %% [markdown]
# ## Experiment: looking ahead · 实验：偷看答案

# %% [markdown] lang="en"
# The task: write a word of six letters backwards, each letter as a capital or small, as a coin decides. Nobody can foresee
# the coin. An honest model can learn the letters, but of upper and lower case it knows nothing: its loss cannot fall below
# that of a coin, $\log 2 = 0.693$ a letter.
#
# We train a decoder of one layer on it with the causal mask, and once more with a mask that is true everywhere, three seeds
# each. The memory is simply the embedded source, since its letters need no context. Then both write by themselves.

# %% [markdown] lang="zh"
# 任务：把一个六个字母的词倒着写出来，每个字母大写还是小写由抛硬币决定。硬币没有人能预知。
# 诚实的模型可以学会字母，但对大小写一无所知：损失不可能低于抛硬币的损失，每个字母 $\log 2 = 0.693$。
#
# 我们用因果掩码训练一层解码器，再用处处为真的掩码训练一次，各三个种子。memory 就是原文的嵌入，因为这里的字母不需要上下文。
# 然后让两者自己写。

# %%
quiz(
    "without mask",
    en="Without the causal mask, where does the training loss end?",
    zh="没有因果掩码，训练损失最终会在哪里？",
    choices={
        "above": "above log 2, it trains worse · 高于 log 2，训练更差",
        "coin": "at about log 2 · 约等于 log 2",
        "below": "well below log 2 · 明显低于 log 2",
    },
)

# %%
LETTERS, LENGTH, SEEDS, BOS = 10, 6, (0, 1, 2), 0


class Writer(nn.Module):
    """Writes letters: tokens 1 to 10 are small, 11 to 20 capital, 0 begins."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1 + 2 * LETTERS, 32)
        self.decoder = TransformerDecoder(32, 2, 64, 1, dropout=0.0)
        self.output = nn.Linear(32, 1 + 2 * LETTERS)

    def embed(self, tokens: torch.Tensor, start: int = 0) -> torch.Tensor:
        positions = torch.arange(start, start + tokens.size(1))
        return self.embedding(tokens) + sinusoidal_encoding(positions, 32)  # [batch, tokens, 32]

    def forward(self, word: torch.Tensor, target_in: torch.Tensor) -> torch.Tensor:
        return self.output(self.decoder(self.embed(target_in), self.embed(word))[0])

    @torch.no_grad()
    def write(self, word: torch.Tensor) -> torch.Tensor:
        """Writes by itself, with the cache: each token that it chooses is its next input."""
        state, token, written = self.decoder.start(self.embed(word)), torch.full((len(word), 1), BOS), []
        for position in range(LENGTH):
            features, state, _ = self.decoder.step(self.embed(token, position), state)
            token = self.output(features).argmax(dim=2)  # [batch, 1]
            written.append(token)
        return torch.cat(written, dim=1)


def words(count: int, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws words, and their reversals in random case without and with the begin token: each [count, 6]."""
    word = torch.randint(1, 1 + LETTERS, (count, LENGTH), generator=random)
    target = word.flip(1) + LETTERS * torch.randint(2, (count, LENGTH), generator=random)
    return word, target, F.pad(target[:, :-1], (1, 0), value=BOS)


def all_true(tokens: int, cached: int = 0, device: torch.device | None = None) -> torch.Tensor:
    return torch.ones(tokens, cached + tokens, dtype=torch.bool)


def train(seed: int, mask) -> tuple[Writer, list[float]]:
    torch.manual_seed(seed)
    writer, random, losses = Writer(), torch.Generator().manual_seed(seed), []
    optimizer = AdamW(writer.parameters(), lr=1e-2)
    with mock.patch.object(decoder_module, "causal_mask", mask):  # the one line that is changed
        for _ in range(200):
            word, target, target_in = words(32, random)
            optimizer.zero_grad()
            loss = cross_entropy(writer(word, target_in).flatten(0, 1), target.flatten())
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return writer.eval(), losses


MASKS = {"causal mask": causal_mask, "no mask": all_true}
runs = {name: [train(seed, mask) for seed in SEEDS] for name, mask in MASKS.items()}
test_word, test_target, test_in = words(300, torch.Generator().manual_seed(99))
final_losses = {name: [sum(losses[-20:]) / 20 for _, losses in trained] for name, trained in runs.items()}
letters_right = {
    name: [((writer.write(test_word) - test_target) % LETTERS == 0).float().mean().item() for writer, _ in trained]
    for name, trained in runs.items()
}
coin = math.log(2)
highest = max(final_losses["no mask"])
settle("without mask", "below" if highest < 0.5 * coin else "coin" if highest < 1.2 * coin else "above")
table(
    ["trained with", "training loss (coin: 0.693), three seeds", "letters right, writing by itself"],
    [
        (name, *(", ".join(f"{value:.2f}" for value in figures[name]) for figures in (final_losses, letters_right)))
        for name in MASKS
    ],
)

# %% [markdown] lang="en"
# A loss below what is possible is no success but a leak. What is left of it comes from the last letter, which has no place
# behind it to copy from: $\log 2 / 6 = 0.12$. Writing by itself the copier finds nothing to copy.
#
# The honest decoder has learned where to look. Its cross-attention at step $t$ goes to the letter $t$ from the end.

# %% [markdown] lang="zh"
# 低于理论极限的损失不是成功，而是泄漏。剩下的损失来自最后一个字母，它后面没有位置可抄：$\log 2 / 6 = 0.12$。
# 轮到自己写时，只会照抄的模型就没有东西可抄了。
#
# 诚实的解码器学会了往哪里看：第 $t$ 步，它的交叉注意力指向倒数第 $t$ 个字母。

# %%
looked_at = []  # for each seed, the attention of the head that looks most at the letter to be written, [6, 6]
with torch.no_grad():
    for writer, _ in runs["causal mask"]:
        _, weights = writer.decoder(writer.embed(test_in), writer.embed(test_word), need_weights=True)
        heads = weights.mean(dim=0)[0]  # [batch, layers, heads, tokens, source tokens] to [heads, 6, 6]
        looked_at.append(max(heads, key=lambda head: head.flip(1).diagonal().mean().item()))
at_the_letter = [head.flip(1).diagonal().mean().item() for head in looked_at]
print(f"  attention to the letter to be written, three seeds: {', '.join(f'{w:.2f}' for w in at_the_letter)}")

# %% [markdown]
# ## Experiment: the cache · 实验：缓存

# %% [markdown] lang="en"
# A decoder of two layers, $d = 64$, with a source of 32 tokens, writes $T$ tokens: once with everything computed again at
# each step, once with the cache. The results must be the same; the operations are counted as they run. By hand we have
# counted tokens; here all operations count, those of attention and of the memory too.

# %% [markdown] lang="zh"
# 一个两层、$d = 64$ 的解码器，原文 32 个词元，写 $T$ 个词元：一次每步全部重算，一次用缓存。
# 结果必须相同，运算次数在运行时清点。手算时数的是词元，这里把注意力和 memory 的运算也都算上。

# %%
quiz(
    "saved",
    en="Writing 64 tokens takes how many times as many operations without the cache as with it?",
    zh="写 64 个词元，不用缓存的运算次数是用缓存的多少倍？",
)

# %%
torch.manual_seed(0)
d, layers, source_tokens = 64, 2, 32
measured = TransformerDecoder(d, 4, 4 * d, layers).eval()
memory = torch.randn(1, source_tokens, d)


def write_again(x: torch.Tensor) -> torch.Tensor:
    """Computes the whole prefix for each token, and keeps the last token's features."""
    prefixes = [x[:, :t] for t in range(1, x.size(1) + 1)]
    return torch.cat([measured(prefix, memory, need_weights=True)[0][:, -1:] for prefix in prefixes], dim=1)


def write_cached(x: torch.Tensor) -> torch.Tensor:
    state, outputs = measured.start(memory), []
    for token in x.split(1, dim=1):
        features, state, _ = measured.step(token, state, need_weights=True)
        outputs.append(features)
    return torch.cat(outputs, dim=1)


counts, formulas = [], []
with torch.no_grad():
    for T in (1, 4, 16, 64):
        x = torch.randn(1, T, d)
        again, cached = (flops_of(lambda x=x, write=write: write(x)) for write in (write_again, write_cached))
        counts.append((T, again, cached, again / cached))
        steps, S = range(1, T + 1), source_tokens
        formulas.append(
            (
                layers * sum(4 * S * d * d + t * (28 * d * d + 4 * S * d) + 4 * t * t * d for t in steps),
                layers * (4 * S * d * d + sum(28 * d * d + 4 * S * d + 4 * t * d for t in steps)),
            )
        )
    by_again, by_cache = write_again(x), write_cached(x)  # 64 tokens
    at_once = measured(x, memory)[0]
    speed = seconds(lambda: write_again(x), 2) / seconds(lambda: write_cached(x), 2)
settle("saved", counts[-1][3], tolerance=0.15)
table(["tokens", "operations without cache", "with cache", "ratio"], counts)
print(f"  time, 64 tokens, this machine: {speed:.1f} times as long without the cache")

# %% [markdown] lang="en"
# The ratio grows like $T / 2$: half a thousand for a thousand tokens. In time a network as small as this gains much less,
# because each call has a cost of its own; large ones come near the ratio.

# %% [markdown] lang="zh"
# 这个比值约按 $T / 2$ 增长：写一千个词元约为五百倍。在时间上，这么小的网络得益要少得多，因为每次调用本身就有固定开销；
# 网络越大，越接近这个比值。

# %%
figure, axes = plt.subplots(1, 3, figsize=(13.5, 3.9), layout="constrained")
for number, (name, trained) in enumerate(runs.items()):
    for seed, (_, losses) in enumerate(trained):
        axes[0].plot(losses, color=f"C{number}", linewidth=0.8, label=name if seed == 0 else None)
axes[0].axhline(coin, color="black", linestyle=":", label="a coin: log 2")
axes[0].set(xlabel="step", ylabel="training loss", title="Without the mask the loss is too good", ylim=(0, 3.2))
axes[0].legend()
axes[1].imshow(looked_at[0].numpy(), cmap="Blues", vmin=0, vmax=1)
axes[1].set(xlabel="letter of the source", ylabel="letter written", title="Cross-attention: the word backwards")
axes[2].loglog([row[0] for row in counts], [row[1] for row in counts], "o-", label="without cache")
axes[2].loglog([row[0] for row in counts], [row[2] for row in counts], "s--", label="with cache")
axes[2].set(xlabel="tokens written", ylabel="operations", title="What the cache saves")
axes[2].legend()
show(figure, "mask-and-cache")

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# `torch.nn.TransformerDecoder` with the same weights, both orders of the norm, two layers, sources of different lengths:
# outputs and the gradients of all weights must agree. torch's layer is not causal by itself: the mask is an argument,
# `tgt_mask`, true where attention is forbidden. And it has no cache: to write with it, one computes the prefix again.

# %% [markdown] lang="zh"
# 用同样的权重与 `torch.nn.TransformerDecoder` 比较：两种归一化顺序，两层，原文长度不同；输出和所有权重的梯度都必须一致。
# torch 的层本身不是因果的：掩码要作为参数 `tgt_mask` 传入，为真表示禁止看。它也没有缓存：用它来写，就得每次重算前缀。

# %%
torch.manual_seed(0)
target_features = torch.randn(2, 5, 12, dtype=torch.float64)
encoded, keep = torch.randn(2, 6, 12, dtype=torch.float64), padding_mask(torch.tensor([6, 4]), 6)
upstream = torch.randn(2, 5, 12, dtype=torch.float64)
library = {}
for norm_first in (True, False):
    ours = TransformerDecoder(12, 3, 40, 2, dropout=0.0, norm_first=norm_first).double()
    layer = nn.TransformerDecoderLayer(12, 3, 40, 0.0, batch_first=True, norm_first=norm_first)
    theirs = nn.TransformerDecoder(layer, 2, nn.LayerNorm(12) if norm_first else None).double()
    theirs.load_state_dict(torch_names(ours.state_dict()))
    output, _ = ours(target_features, encoded, memory_mask=keep)
    expected = theirs(target_features, encoded, tgt_mask=~causal_mask(5), memory_key_padding_mask=~keep[:, 0, 0])
    output.backward(upstream)
    expected.backward(upstream)
    our_gradients = torch_names({name: parameter.grad for name, parameter in ours.named_parameters()})
    pairs = [(our_gradients[name].flatten(), parameter.grad.flatten()) for name, parameter in theirs.named_parameters()]
    library[norm_first] = (output, expected, *(torch.cat(side) for side in zip(*pairs, strict=True)))

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: with the mask 3, 4.5, 3", masked[:, 0], [3.0, 4.5, 3.0])
check_close("by hand: cross-attention gives 4", looked_up, [[4.0]])
for norm_first, (output, expected, our_gradient, their_gradient) in library.items():
    name = "pre-norm" if norm_first else "post-norm"
    check_close(f"{name}: outputs equal torch's TransformerDecoder, source padding masked", output, expected, 1e-10)
    check_close(f"{name}: and so do the gradients of all weights", our_gradient, their_gradient, 1e-9)
check(
    "with the mask the loss stays at the coin's or above, with every seed",
    min(final_losses["causal mask"]) > 0.97 * coin,
)
check("without it the loss falls below half of the coin's, with every seed", highest < 0.5 * coin)
check("with the mask nearly all letters are right, writing alone", min(letters_right["causal mask"]) > 0.95)
check("without it a third and more are wrong, with every seed", max(letters_right["no mask"]) < 0.67)
check("the decoder looks mostly at the letter to be written, with every seed", min(at_the_letter) > 0.5)
check_close("with the cache: the same features as without", by_cache, by_again, 1e-4)
check_close("and as all tokens at once", by_cache, at_once, 1e-4)
check_close("operations counted equal the formulas", [row[1:3] for row in counts], formulas, 1e-12)
check("64 tokens: the cache saves more than nine operations of ten", counts[-1][3] > 10)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `translator` writes with this decoder; its exported graph has the cache as inputs and outputs: `uv run
# --package translator demo`. GPT (07/09) is the decoder without cross-attention.
#
# Read the paper with code in
# [docs/ATTENTION_IS_ALL_YOU_NEED.md](../../../../docs/ATTENTION_IS_ALL_YOU_NEED.md). Papers: [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), sections 3.1 and 3.2.3; [Pope et al.
# 2022](https://arxiv.org/abs/2211.05102) on what the cache costs in large models; [Ainslie et al.
# 2023](https://arxiv.org/abs/2305.13245) on heads that share keys and values. Next: encoder and decoder together, 07/06.

# %% [markdown] lang="zh"
# 实战项目 `translator` 用这个解码器写译文，导出的计算图以缓存作为输入和输出：`uv run --package translator demo`。
# GPT（07/09）就是没有交叉注意力的解码器。
#
# 对照代码精读论文：
# [docs/ATTENTION_IS_ALL_YOU_NEED.md](../../../../docs/ATTENTION_IS_ALL_YOU_NEED.md)。
# 论文：[Vaswani 等 2017](https://arxiv.org/abs/1706.03762) 第 3.1、3.2.3 节；
# [Pope 等 2022](https://arxiv.org/abs/2211.05102) 讨论大模型中缓存的代价；
# [Ainslie 等 2023](https://arxiv.org/abs/2305.13245) 让多个头共用键和值。下一课：编码器与解码器合在一起，07/06。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `TransformerDecoderLayer.step`, its `forward`, and `TransformerDecoder.step`, which does it for all layers. `uv run
# lesson exercise 07/05` makes a file with their signatures, `uv run lesson check 07/05` judges values and gradients, with
# the cache and without.

# %% [markdown] lang="zh"
# 实现 `TransformerDecoderLayer.step`、它的 `forward`，以及对所有层做同样事情的 `TransformerDecoder.step`。
# `uv run lesson exercise 07/05` 生成带有签名的文件，`uv run lesson check 07/05` 检查有缓存和没有缓存时的数值与梯度。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Each of the three sublayers goes as in the encoder: `sublayer_input`, compute, `add`. Each has a `Residual` of its own.
# 2. Self-attention: `project_keys_values` of what the sublayer sees, appended to the cache if there is one; then
#    `attend(queries, extended, mask=…)`. Keys are taken from the normalized features, like the queries.
# 3. `causal_mask(tokens, cached=…)` needs the number of tokens that were cached before: `extended.keys.size(2) - tokens`.
# 4. Cross-attention attends to `memory_cache`, with `memory_mask`; nothing is appended to it. `forward` calls `step` with
#    `None` for the cache and the projected memory.
# 5. In `TransformerDecoder.step`, layer number i has the cache `KVCache(state.keys[:, i], state.values[:, i])`, and the
#    same for the memory. `_stack` joins the extended caches; `state._replace(keys=…, values=…)` makes the new state. Do not
#    forget `self.norm`.

# %% [markdown] lang="zh"
# 1. 三个子层都与编码器里一样：`sublayer_input`，计算，`add`。每个子层有自己的 `Residual`。
# 2. 自注意力：对子层看到的内容调用 `project_keys_values`，如有缓存就接在后面；再调用 `attend(queries, extended, mask=…)`。
#    键和查询一样，来自归一化之后的特征。
# 3. `causal_mask(tokens, cached=…)` 需要知道之前缓存了多少个词元：`extended.keys.size(2) - tokens`。
# 4. 交叉注意力看的是 `memory_cache`，用 `memory_mask`；它不会变长。`forward` 调用 `step`，缓存传 `None`，memory 先投影。
# 5. 在 `TransformerDecoder.step` 中，第 i 层的缓存是 `KVCache(state.keys[:, i], state.values[:, i])`，memory 同理。
#    `_stack` 把延长后的缓存叠起来；`state._replace(keys=…, values=…)` 得到新的状态。别忘了 `self.norm`。


# %%
@exercise(TransformerDecoderLayer.forward, TransformerDecoderLayer.step, TransformerDecoder.step)
def judge(yours, reference):
    def drawn(*shape, seed=0):
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def both(build):
        """Builds the learner's module and the reference's, with the same random weights."""
        pair = [build(module).double().eval() for module in (yours, reference)]
        random = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in pair[1].parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=random, dtype=torch.float64))
        pair[0].load_state_dict(pair[1].state_dict())
        return pair

    x, memory = drawn(2, 4, 8), drawn(2, 5, 8, seed=1)  # [batch, tokens, dim]
    mask = padding_mask(torch.tensor([5, 3]), 5)
    for norm_first, name in ((True, "pre-norm"), (False, "post-norm")):
        mine, expected = both(lambda module, n=norm_first: module.TransformerDecoderLayer(8, 2, 12, norm_first=n))
        read = expected.cross_attention.project_keys_values(memory)
        one = x[:, :1]
        result = mine.step(one, None, read)
        check("the layer's step returns three things: features, cache, weights", len(result) == 3)
        check_close(f"{name}: the first token, no cache", result[0], expected.step(one, None, read)[0], 1e-10)
        check("its cache holds one token", result[1].keys.shape == (2, 2, 1, 4))
        check("without need_weights the weights are None", result[2] is None)
        together, wanted = mine.step(x, None, read), expected.step(x, None, read)
        check_close(f"{name}: four tokens at once, none sees the next", together[0], wanted[0], 1e-10)
        check_close(f"{name}: the keys that are cached", together[1].keys, wanted[1].keys, 1e-10)
        check_close(f"{name}: the values that are cached", together[1].values, wanted[1].values, 1e-10)
        _, start, _ = expected.step(x[:, :2], None, read)
        before = KVCache(start.keys.clone(), start.values.clone())
        rest, wanted = mine.step(x[:, 2:], start, read), expected.step(x[:, 2:], before, read)
        check("the cache grows by the new tokens", rest[1].keys.shape == (2, 2, 4, 4))
        check_close(f"{name}: two tokens after two cached ones", rest[0], wanted[0], 1e-10)
        check("the cache that was given is left as it was", torch.equal(start.keys, before.keys))
        options = {"memory_mask": mask, "need_weights": True}
        check_close(
            f"{name}: with a mask of the memory",
            mine.step(x, None, read, **options)[0],
            expected.step(x, None, read, **options)[0],
            1e-10,
        )
        weights = mine.step(x, None, read, **options)[2]
        check("with need_weights the weights are a tensor", isinstance(weights, torch.Tensor))
        check_close("the cross-attention weights", weights, expected.step(x, None, read, **options)[2], 1e-10)
        found, wanted = mine(x, memory, **options), expected(x, memory, **options)
        check("the layer's forward returns two things: features and weights", len(found) == 2)
        check_close(f"{name}: the whole target", found[0], wanted[0], 1e-10)
        check_close("and its weights", found[1], wanted[1], 1e-10)
        gradients = []
        for module in (mine, expected):
            leaves = [x.clone().requires_grad_(), memory.clone().requires_grad_()]
            output = module(*leaves, memory_mask=mask)[0]
            gradients.append(torch.autograd.grad(output.pow(3).sum(), [*leaves, *module.parameters()]))
        names = ["the input", "the memory", *(parameter for parameter, _ in expected.named_parameters())]
        for parameter, *pair in zip(names, *gradients, strict=True):
            check_close(f"{name}: the gradient of {parameter}", *pair, 1e-8)

        mine, expected = both(lambda module, n=norm_first: module.TransformerDecoder(8, 2, 12, 3, norm_first=n))
        states = [expected.start(memory, mask)] * 2
        for t in range(3):
            token = x[:, t : t + 1]
            found, wanted = (
                mine.step(token, states[0], need_weights=True),
                expected.step(token, states[1], need_weights=True),
            )
            check("the decoder's step returns three things: features, state, weights", len(found) == 3)
            check(f"step {t}: the state is a DecoderState", getattr(found[1], "_fields", ()) == DecoderState._fields)
            check_close(f"{name}: step {t}: the features", found[0], wanted[0], 1e-10)
            check_close(f"{name}: step {t}: the cached keys of all layers", found[1].keys, wanted[1].keys, 1e-10)
            check_close(f"{name}: step {t}: the cached values", found[1].values, wanted[1].values, 1e-10)
            check("the memory's keys stay", torch.equal(found[1].memory_keys, states[0].memory_keys))
            check_close(f"{name}: step {t}: the weights of all layers", found[2], wanted[2], 1e-10)
            states = [found[1], wanted[1]]


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why can a Transformer train on all tokens at once but only write one at a time? · 为什么训练可以并行，生成只能逐个？

# %% [markdown] lang="en"
# In training the target is known, so the input of every place is there from the start; the causal mask makes each place
# compute exactly what it would have computed if the rest were not written yet. While writing, the next input is the token
# just chosen, so a step cannot begin before the one before it has ended. The numbers are the same either way.

# %% [markdown] lang="zh"
# 训练时目标已知，每个位置的输入一开始就齐了；因果掩码让每个位置算出的结果，与后文尚未写出时完全一样。
# 生成时，下一步的输入是刚选出的词元，上一步不结束，下一步就无法开始。两种方式算出的数相同。

# %%
print(f"  64 tokens at once and one by one differ by {(at_once - by_cache).abs().max().item():.1g}")

# %% [markdown]
# ### How would you notice that the causal mask is missing? · 如何发现因果掩码漏掉了？

# %% [markdown] lang="en"
# The training loss is too good, perhaps below the entropy of the data, validation by teacher forcing is just as good, and
# what the model writes is rubbish. The test takes one line: change a later token and see whether an earlier output changes.
# An off-by-one of the shift between input and target shows the same signs.

# %% [markdown] lang="zh"
# 训练损失好得离谱，甚至低于数据的熵；用教师强制做验证也一样好；而模型自己写出来的是乱码。
# 检验只要一行：改动后面的一个词元，看前面的输出变不变。输入与目标错位一格时，症状相同。

# %%
changed = test_in.clone()
changed[:, 5] = 1 + changed[:, 5] % 20
with torch.no_grad():
    for name, (writer, _) in ((name, trained[0]) for name, trained in runs.items()):
        with mock.patch.object(decoder_module, "causal_mask", MASKS[name]):
            moved = (writer(test_word, changed) - writer(test_word, test_in))[:, :5].abs().max().item()
        print(f"  {name}: changing the last token changes the outputs before it by {moved:.2g}")

# %% [markdown]
# ### What is kept in a KV cache, and why not the queries? · KV 缓存里存什么？为什么不存查询？

# %% [markdown] lang="en"
# The keys and values of every token so far, for each layer and head, after projection. A later token attends to them, so
# they are needed again, and the causal mask guarantees that they do not change. A query is used once, by its own token at
# its own step. Without the causal mask no cache is possible: each new token would change the features of all before it.

# %% [markdown] lang="zh"
# 存的是到目前为止每个词元在每层、每个头上投影之后的键和值。后来的词元还要看它们，因果掩码保证它们不再变化。
# 查询只被它自己的词元在自己那一步用一次。没有因果掩码就不可能有缓存：每个新词元都会改变前面所有词元的特征。

# %%
with torch.no_grad():
    _, state, _ = measured.step(torch.randn(1, 10, d), measured.start(memory))
table(
    ["tensor of the state after 10 tokens", "shape"],
    [(name, list(part.shape)) for name, part in state._asdict().items()],
)

# %% [markdown]
# ### How large does the cache of a large language model get? · 大语言模型的 KV 缓存有多大？

# %% [markdown] lang="en"
# Two tensors, layers × dim numbers each, per token: a model of 32 layers and dim 4096, with two bytes a number, takes
# 512 KiB per token, 2 GiB for 4,096 tokens, for each sequence of the batch. At long contexts it exceeds the weights, and
# reading it, not arithmetic, sets the speed. Remedies: fewer heads of keys and values (grouped-query attention: 8 instead of
# 32 is a quarter), fewer bits, a sliding window, pages instead of one block.

# %% [markdown] lang="zh"
# 每个词元两个张量，各有 层数 × dim 个数：32 层、dim 4096、每个数两字节的模型，每个词元占 512 KiB，
# 4096 个词元占 2 GiB，批次里每个序列都要这么多。上下文很长时，它比权重还大，决定速度的是读取它，而不是算术。
# 办法：减少键和值的头数（分组查询注意力：32 个头只留 8 组，就是四分之一），降低位数，滑动窗口，用分页代替整块内存。

# %%
for name, kv_heads in (("32 heads of keys and values", 32), ("8 of them, shared by groups", 8)):
    per_token = 2 * 32 * kv_heads * 128 * 2  # keys and values, layers, heads, head_dim, bytes
    print(f"  {name}: {per_token / 2**10:.0f} KiB a token, {per_token * 4096 / 2**30:.1f} GiB for 4,096")

# %% [markdown]
# ### In cross-attention, where do queries, keys and values come from? · 交叉注意力的查询、键、值各来自哪里？

# %% [markdown] lang="en"
# Queries from the decoder's features, keys and values from the encoder's output, the same output for every decoder layer, but
# projected by each layer's own matrices. The weights are [target tokens, source tokens]; they are masked for the source's
# padding, but not causally. Keys and values depend on the source alone and are computed once per sentence.

# %% [markdown] lang="zh"
# 查询来自解码器的特征，键和值来自编码器的输出；每个解码器层用的是同一个输出，但各用自己的投影矩阵。
# 权重的形状是 [目标词元数, 原文词元数]；要屏蔽原文的填充，但不需要因果掩码。键和值只取决于原文，每句只算一次。

# %%
with torch.no_grad():
    _, weights = measured(torch.randn(1, 5, d), memory, need_weights=True)
print(f"  weights [batch, layers, heads, target tokens, source tokens]: {list(weights.shape)}, rows add up to 1")

# %% [markdown]
# ### Why does the target need no padding mask in training? · 训练时目标为什么不需要填充掩码？

# %% [markdown] lang="en"
# Padding stands at the end, and the causal mask keeps every real token from looking there. What is computed at the padded
# places is meaningless, and the loss ignores it. This holds for padding on the right only: decoders that generate in
# batches often pad the prompt on the left, and then the mask is needed, and positions must be counted from the first real
# token.

# %% [markdown] lang="zh"
# 填充在末尾，因果掩码使真实的词元看不到那里。填充位置算出的东西没有意义，损失会忽略它。
# 这只对右侧填充成立：批量生成时，提示词常在左侧填充，那时就需要掩码，位置也必须从第一个真实词元数起。

# %%
with torch.no_grad():
    short, padded = torch.randn(1, 4, d), torch.randn(1, 7, d)
    padded[:, :4] = short
    moved = (measured(padded, memory)[0][:, :4] - measured(short, memory)[0]).abs().max().item()
print(f"  three tokens of anything behind the target change what is before by {moved:.1g}")
