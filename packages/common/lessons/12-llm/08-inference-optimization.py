# %% [markdown]
# # Inference optimization · 推理优化

# %% [markdown] lang="en"
# After this lesson you can work out what bounds the speed of a language model, say what batches, shared prefixes, paged caches and
# continuous batching each save, write speculative decoding and prove that it changes nothing in what is written. You need sampling
# and the key-value cache (07/10), the Llama architecture (12/01) and quantization (12/07).

# %% [markdown] lang="zh"
# 学完本课，你能算出语言模型的速度受什么限制，能说出批处理、共享前缀、分页缓存和连续批处理各省下了什么，
# 能写出投机解码，并证明它不改变写出的内容。先修：采样与键值缓存（07/10）、Llama 架构（12/01）、量化（12/07）。

# %%
import random

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, seconds, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.llm.continuous_batching import Request, schedule
from dlcommon.llm.llama import Llama, LlamaConfig
from dlcommon.llm.model_size import count_parameters, forward_flops, kv_cache_bytes
from dlcommon.llm.paged_cache import PagedKVCache, decode, prefill
from dlcommon.llm.quantization import quantize_absmax
from dlcommon.llm.speculative_decoding import (
    acceptance_probability,
    expected_tokens,
    residual_distribution,
    speculative_generate,
    verify,
)
from dlcommon.transformer.kv_cache import KVCache
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A GPU that can do a thousand trillion operations a second writes about two hundred tokens a second with a model of 8 billion weights,
# each of which takes two operations. That is 3 trillion operations a second: 0.3 % of what was paid for. Where is the rest?
#
# And a second question. Sixty users write at once, answers of ten tokens and of a thousand. How are they put into one batch
# when nobody knows which answer ends when, and where do their caches go?

# %% [markdown] lang="zh"
# 一块每秒能做一千万亿次运算的 GPU，用 80 亿权重的模型每秒只写约两百个词元，每个权重做两次运算。
# 合起来每秒 3 万亿次，是所买算力的 0.3 %。其余的去哪了？
#
# 还有一个问题：六十个用户同时在写，有的回答十个词元，有的一千个。谁也不知道哪个什么时候结束，怎样把它们放进同一批，它们的缓存放在哪里？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Bandwidth*: 8 billion weights of 2 bytes are 16 GB. At 3,350 GB/s, reading them takes 4.8 ms; that is the time of one token, or 209
# tokens/s. The arithmetic, 16 billion operations at 989 trillion a second, takes 0.016 ms. A batch of 16 reads the weights once for
# 16 tokens: 3,350 tokens/s.
#
# *Speculative decoding*, three tokens: the target says $p = (0.5, 0.3, 0.2)$, the draft $q = (0.7, 0.1, 0.2)$. A token drawn from
# $q$ is kept with probability $\min(1, p/q)$: token 0 with $5/7$, the others always. Kept: $0.7 \cdot 5/7 = 0.5$, $0.1$, $0.2$; together $\alpha = 0.8$.
# In the other cases, 0.2, the token is drawn anew from what is missing, $\max(p - q, 0) = (0, 0.2, 0)$: always token 1. Together
# $(0.5, 0.1 + 0.2, 0.2) = p$, exactly.
#
# With $\alpha = 0.8$ and four guesses, one call of the target yields $1 + 0.8 + 0.64 + 0.512 + 0.41 = 3.36$ tokens.
#
# *Paging*: answers of 5, 9 and 2 tokens. Reserved for 16 each: 48 places for 16 tokens, a third is used. In blocks of 4: 2 + 3 + 1 blocks,
# 24 places, two thirds.
#
# *Batching*: two slots; answers of 4, 1, 2 and 1 tokens. Static: the first two take 4 steps, the next two 2 more: 6. Continuous: when
# the second is done after one step, the third takes its slot, then the fourth: 4 steps.

# %% [markdown] lang="zh"
# *带宽*：80 亿个 2 字节的权重是 16 GB。以 3,350 GB/s 读一遍要 4.8 ms，这就是一个词元的时间，即 209 词元/秒。
# 运算是 160 亿次，以每秒 989 万亿次计只要 0.016 ms。16 个一批，读一遍权重写 16 个词元：3,350 词元/秒。
#
# *投机解码*，三个词元：目标模型给出 $p = (0.5, 0.3, 0.2)$，草稿模型给出 $q = (0.7, 0.1, 0.2)$。
# 从 $q$ 抽到的词元以概率 $\min(1, p/q)$ 保留：词元 0 是 $5/7$，其余总是保留。
# 保留下来的：$0.7 \cdot 5/7 = 0.5$、$0.1$、$0.2$，合计 $\alpha = 0.8$。
# 其余 0.2 的情况，从缺少的部分 $\max(p - q, 0) = (0, 0.2, 0)$ 重新抽，总是词元 1。合起来正好是 $(0.5, 0.1 + 0.2, 0.2) = p$。
#
# $\alpha = 0.8$、猜四个时，目标模型每次调用得到 $1 + 0.8 + 0.64 + 0.512 + 0.41 = 3.36$ 个词元。
#
# *分页*：回答有 5、9、2 个词元。各预留 16 个位置：48 个位置放 16 个词元，用了三分之一。
# 以 4 个为一块：2 + 3 + 1 块，24 个位置，用了三分之二。
#
# *批处理*：两个槽位，回答有 4、1、2、1 个词元。静态：前两个用 4 步，后两个再用 2 步，共 6 步。
# 连续：第二个一步之后写完，第三个接替它的槽位，然后是第四个，共 4 步。

# %%
by_hand_p, by_hand_q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.7, 0.1, 0.2])
by_hand_alpha = acceptance_probability(by_hand_p, by_hand_q)
by_hand_result = torch.minimum(by_hand_p, by_hand_q) + (1 - by_hand_alpha) * residual_distribution(by_hand_p, by_hand_q)
by_hand_blocks = [sum(-(-length // size) * size for length in (5, 9, 2)) for size in (16, 4)]
by_hand_requests = [Request(0, count) for count in (4, 1, 2, 1)]
by_hand_steps = [schedule(by_hand_requests, 2, continuous).busy_steps for continuous in (False, True)]
table(
    ["what", "result"],
    [
        ("one token: reading 16 GB, ms", 16 / 3350 * 1000),
        ("acceptance", by_hand_alpha.item()),
        ("distribution of the token", [round(value, 3) for value in by_hand_result.tolist()]),
        ("tokens for each call, four guesses", expected_tokens(0.8, 4)),
        ("places reserved: 16 each, blocks of 4", by_hand_blocks),
        ("steps: static, continuous", by_hand_steps),
    ],
)

drawing = Schematic(13.6, 4.6, "Block tables: sequences A and B share their first block")
for name, x, y, text, kind, width in (
    ("a", 1.6, 3.6, "A: The cat sat | on the", "data", 2.7),
    ("b", 1.6, 1.2, "B: The cat sat | down", "data", 2.7),
    ("ta", 5.3, 3.6, "table of A: 2, 0", "parameter", 2.0),
    ("tb", 5.3, 1.2, "table of B: 2, 3", "parameter", 2.0),
    ("b0", 9.8, 4.0, "block 0: on the _", "operation", 2.6),
    ("b1", 9.8, 3.0, "block 1: free", "operation", 2.6),
    ("b2", 9.8, 2.0, "block 2: The cat sat", "operation", 2.6),
    ("b3", 9.8, 1.0, "block 3: down _ _", "operation", 2.6),
):
    drawing.box(name, x, y, text, kind, width)
for start, end in (("a", "ta"), ("b", "tb"), ("ta", "b2"), ("ta", "b0"), ("tb", "b2"), ("tb", "b3")):
    drawing.arrow(start, end)
show(drawing.figure, "blocks")

# %% [markdown]
# ## Formula · 公式
#
# $$t_{\mathrm{step}} \ge \max\left( \frac{B \, F}{P}, \; \frac{W + B \, C}{M} \right), \qquad I = \frac{B \, F}{W + B \, C}$$
#
# $$a(x) = \min\left( 1, \frac{p(x)}{q(x)} \right), \qquad p'(x) = \frac{\max(p(x) - q(x), 0)}{\sum_y \max(p(y) - q(y), 0)}$$
#
# $$q(x)\, a(x) + (1 - \alpha)\, p'(x) = \min(p, q) + \max(p - q, 0) = p(x), \qquad \alpha = \sum_x \min(p(x), q(x))$$
#
# $$\mathbb{E}[\mathrm{tokens\ per\ call}] = \frac{1 - \alpha^{\gamma + 1}}{1 - \alpha}, \qquad \mathrm{speedup} = \frac{1 - \alpha^{\gamma + 1}}{(1 - \alpha)(\gamma c + 1)}$$
#
# $$\mathrm{places} = S \left\lceil \frac{n}{S} \right\rceil < n + S$$

# %% [markdown] lang="en"
# - $B$: sequences in the batch; $F$: operations for one token; $W$: bytes of the weights; $C$: bytes of one sequence's cache.
# - $P$: operations a second that the processor can do; $M$: bytes a second that its memory delivers; $t_{\mathrm{step}}$: time of one
#   call, which writes $B$ tokens.
# - $I$: arithmetic intensity, operations for each byte. Where $I < P / M$, memory is what one waits for.
# - $p, q$: the target's and the draft's distribution of the next token, `[vocab]`; $a(x)$: probability that a drawn token is
#   accepted; $p'$: what a rejected one is replaced from (Leviathan et al. 2023, section 2.3).
# - $\alpha$: probability that a token is accepted (corollary 3.6); $\gamma$: how many are guessed; $c$: time of a draft call over that
#   of a target call (equation 1 and theorem 3.8).
# - $S$: tokens in a block; $n$: tokens of a sequence (Kwon et al. 2023).

# %% [markdown] lang="zh"
# - $B$：一批中的序列数；$F$：一个词元的运算次数；$W$：权重的字节数；$C$：一个序列的缓存的字节数。
# - $P$：处理器每秒能做的运算；$M$：内存每秒能送来的字节；$t_{\mathrm{step}}$：一次调用的时间，写出 $B$ 个词元。
# - $I$：运算强度，每读一个字节做几次运算。$I < P / M$ 时，等的是内存。
# - $p, q$：目标模型和草稿模型对下一个词元的分布，`[vocab]`；$a(x)$：抽到的词元被接受的概率；
#   $p'$：被拒绝时改从它抽（Leviathan 等 2023，第 2.3 节）。
# - $\alpha$：一个词元被接受的概率（推论 3.6）；$\gamma$：一次猜几个；$c$：草稿模型一次调用的时间与目标模型之比（式 1 与定理 3.8）。
# - $S$：一块放几个词元；$n$：一个序列的词元数（Kwon 等 2023）。

# %% [markdown]
# ## Code · 代码

# %%
source(residual_distribution)
source(verify)
source(speculative_generate)
source(PagedKVCache.append)
source(PagedKVCache.gather)
source(schedule)

# %% [markdown] lang="en"
# `verify` compares without dividing: $u\,q < p$ instead of $u < p / q$, so that $q = 0$ does no harm. The running product of the decisions
# `[batch, proposed]` is 1 up to the first rejection; its sum is the number accepted. The draft is padded with a row of zeros: after the last
# guess nothing was proposed, and the residual $\max(p - 0, 0)$ is $p$ itself. That gives a token for free.
#
# `speculative_generate` lets each model read what its cache has not seen. After a rejection, the caches hold keys of tokens that were
# never written; they are cut off. `PagedKVCache.append` takes a new block when the last is full, and copies a shared one before it
# writes. `gather` uses the table as an index into the pool: `pool[blocks]` is `[batch, blocks, layers, heads, block_size, head_dim]`,
# and blocks and their places are flattened into one axis of tokens.
#
# In `schedule` one condition tells static from continuous batching: may a slot be filled while others are still writing?

# %% [markdown] lang="zh"
# `verify` 不做除法：比较 $u\,q < p$ 而不是 $u < p / q$，$q = 0$ 就没有害处。各个决定 `[batch, proposed]` 的累积乘积在第一次拒绝之前都是 1，
# 求和就是接受的个数。草稿的分布补一行零：最后一个猜测之后没有提议，剩余 $\max(p - 0, 0)$ 就是 $p$ 本身，白得一个词元。
#
# `speculative_generate` 让每个模型读它的缓存还没有的部分。拒绝之后，缓存里有从未写出的词元的键，要截掉。
# `PagedKVCache.append` 在最后一块满了时取一个新块，共享的块在写之前先复制。
# `gather` 用块表去索引整个池：`pool[blocks]` 是 `[batch, blocks, layers, heads, block_size, head_dim]`，
# 再把块和块内位置展平成词元的一个轴。
#
# 在 `schedule` 里，区别静态与连续批处理的只有一个条件：别的槽位还在写时，空出来的可不可以填？

# %% [markdown]
# ## Experiment: what is one waiting for? · 实验：在等什么？

# %% [markdown] lang="en"
# Llama 3 8B on an H100 (989 trillion operations and 3,350 GB a second by its data sheet), 2,048 tokens in each cache: counted, not
# measured. Beside it, a small Llama on this machine, measured: tokens a second with batches of different size.

# %% [markdown] lang="zh"
# Llama 3 8B 在 H100 上（数据表：每秒 989 万亿次运算、3,350 GB），每个缓存 2,048 个词元：是算出来的，不是测的。
# 旁边是一个小 Llama 在这台机器上的实测：不同批大小下每秒写多少词元。

# %%
quiz(
    "intensity",
    en="Llama 3 8B, 2,048 tokens in each cache: up to which batch is memory the bound?",
    zh="Llama 3 8B，每个缓存 2,048 个词元：批大小到多少为止，瓶颈都是内存？",
    choices={"8": "8", "64": "64", "always": "always · 始终是"},
)
quiz(
    "guesses",
    en="A draft guesses four tokens, each is accepted with probability 0.6. How many tokens does a call of the target yield?",
    zh="草稿模型猜四个词元，每个以 0.6 的概率被接受。目标模型的一次调用得到几个词元？",
)

# %%
OPERATIONS, BANDWIDTH, CONTEXT = 989e12, 3.35e12, 2048
LLAMA3 = LlamaConfig(128_256, 4096, 32, 32, 8, 128, 14_336, rope_theta=5e5)
weight_bytes = (
    2 * count_parameters(LLAMA3).active - 2 * LLAMA3.vocab_size * LLAMA3.dim
)  # of the embedding, a row is read
cache_bytes, flops = kv_cache_bytes(LLAMA3, CONTEXT), forward_flops(LLAMA3, CONTEXT)
BATCHES = (1, 4, 16, 64, 256, 1024)


def intensity(batch: int) -> float:
    """Operations for each byte that is read."""
    return batch * flops / (weight_bytes + batch * cache_bytes)


def tokens_per_second(batch: int) -> float:
    return batch / max(batch * flops / OPERATIONS, (weight_bytes + batch * cache_bytes) / BANDWIDTH)


table(
    ["batch", "operations per byte", "of 295 needed", "tokens/s at most", "share of it cache"],
    [
        (
            batch,
            intensity(batch),
            f"{intensity(batch) / (OPERATIONS / BANDWIDTH):.1%}",
            round(tokens_per_second(batch)),
            f"{batch * cache_bytes / (weight_bytes + batch * cache_bytes):.0%}",
        )
        for batch in BATCHES
    ],
)
bound = [batch for batch in range(1, 20_000) if intensity(batch) >= OPERATIONS / BANDWIDTH]
settle("intensity", "always" if not bound else "64" if bound[0] > 64 else "8")
settle("guesses", expected_tokens(0.6, 4), tolerance=0.15)

torch.manual_seed(0)
measured_model = Llama(LlamaConfig(512, 256, 4, 4, 2, 64, 512)).eval()
MEASURED = (1, 4, 16, 64)


@torch.no_grad()
def step_seconds(batch: int) -> float:
    state = measured_model.initial_state(batch)
    _, state = measured_model.step(torch.randint(512, (batch, 32)), state)
    return seconds(lambda: measured_model.step(torch.zeros(batch, 1, dtype=torch.long), state), repeats=3)


measured = {batch: batch / step_seconds(batch) for batch in MEASURED}
table(["batch, this machine", "tokens/s"], [(batch, round(rate)) for batch, rate in measured.items()])
figure, axes = plt.subplots(1, 2, figsize=(12, 3.9), layout="constrained")
grid = [2**power for power in range(11)]
axes[0].plot(grid, [tokens_per_second(batch) for batch in grid], ".-", label=f"{CONTEXT} tokens in each cache")
axes[0].plot(
    grid, [batch / max(batch * flops / OPERATIONS, weight_bytes / BANDWIDTH) for batch in grid], ":", label="no caches"
)
axes[0].set(
    xscale="log", yscale="log", xlabel="batch", ylabel="tokens/s at most", title="Llama 3 8B on an H100, counted"
)
axes[0].legend()
axes[1].plot(list(measured), list(measured.values()), ".-")
axes[1].set(
    xscale="log", yscale="log", xlabel="batch", ylabel="tokens/s", title="A small Llama on this machine, measured"
)
show(figure, "throughput")

# %% [markdown] lang="en"
# One sequence uses 0.4 % of the arithmetic. A larger batch is nearly free as long as the weights make up most of what is read: 64
# sequences get 30 times the tokens. But each brings a cache of its own, which nobody shares, and its intensity is low and stays low:
# however large the batch, at 2,048 tokens the H100 never gets to the 295 operations for each byte that would keep it busy. So the cache is
# the second thing to save: by shared heads (12/01), by fewer bits, by shared prefixes.

# %% [markdown] lang="zh"
# 一个序列只用到算力的 0.4 %。只要读的大部分是权重，加大批几乎不花钱：64 个序列得到 30 倍的词元。
# 但每个序列都带来自己的缓存，无人共用，它的运算强度低，而且一直低：批再大，在 2,048 个词元时，
# H100 也到不了让它忙起来所需的每字节 295 次运算。所以缓存是第二件要省的东西：共用头（12/01），减少位数，共享前缀。

# %% [markdown]
# ## Experiment: guessing without changing anything · 实验：只猜，不改变结果

# %% [markdown] lang="en"
# Two Llamas learn the same text, characters, for a few seconds: a *target* with two layers of width 64, and a *draft* with one layer of
# width 24. Then the draft guesses for the target. Three claims are to be tested: at temperature 0 the text is the target's, token for
# token; the distribution is the target's, exactly; and the number of calls follows from the acceptance.

# %% [markdown] lang="zh"
# 两个 Llama 用几秒钟学同一份文本的字符：*目标模型*两层、宽 64，*草稿模型*一层、宽 24。然后让草稿模型替目标模型猜。
# 要检验三个断言：温度为 0 时，写出的文字与目标模型逐词元相同；分布与目标模型完全相同；调用次数由接受率决定。

# %%
corpus = data("tinyshakespeare", "python-manual")
alphabet = sorted(set(corpus.train + corpus.test))
number_of = {character: number for number, character in enumerate(alphabet)}
train_tokens, test_tokens = (
    torch.tensor([number_of[character] for character in text])
    for text in (corpus.train[:200_000], corpus.test[: 32 * 65])
)
test_windows = test_tokens.view(-1, 65)


def learn(config: LlamaConfig, steps: int) -> Llama:
    torch.manual_seed(0)
    model, draws = Llama(config), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3, betas=(0.9, 0.99), fused=True)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 8e-3 * min(1, (step + 1) / 20) * (1 - step / steps)
        starts = torch.randint(len(train_tokens) - 64, (8,), generator=draws)
        windows = train_tokens[starts[:, None] + torch.arange(65)]  # [batch, tokens + 1]
        loss = F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


target = learn(LlamaConfig(len(alphabet), 64, 2, 4, 2, 16, 128), 90)
draft = learn(LlamaConfig(len(alphabet), 24, 1, 2, 1, 12, 48), 90)
cost = count_parameters(draft.config).active / count_parameters(target.config).active  # bytes read, draft over target
p, q = (model(test_windows[:, :-1]).softmax(dim=2) for model in (target, draft))
alpha = acceptance_probability(p, q).mean().item()

prompt = test_tokens[:16].tolist()
by_target = list(prompt)
state, unread = target.initial_state(1), prompt
for _ in range(48):
    logits, state = target.step(torch.tensor([unread]), state)
    unread = [int(logits[0, -1].argmax())]
    by_target += unread
greedy = {count: speculative_generate(target, draft, prompt, 48, count, temperature=0) for count in (1, 4)}

LOOKAHEADS, rows, sampled = (1, 2, 4, 8), [], {}
for lookahead in LOOKAHEADS:
    draws = torch.Generator().manual_seed(0)
    calls = sum(
        speculative_generate(target, draft, window[:16].tolist(), 48, lookahead, generator=draws).target_calls
        for window in test_windows[:3]
    )
    sampled[lookahead] = 3 * 48 / calls
    expected = expected_tokens(alpha, lookahead)
    rows.append((lookahead, calls, sampled[lookahead], expected, expected / (lookahead * cost + 1)))
print(f"  acceptance on new text: {alpha:.2f}; the draft reads {cost:.0%} of the target's weights")
table(
    [
        "guesses",
        "target calls for 144 tokens",
        "tokens for each call",
        "expected",
        "speedup where reading weights is all",
    ],
    rows,
)

# %% [markdown] lang="en"
# Now the distribution, with nothing drawn at all. For two thousand places of the test text, each possible guess is followed to its end: the
# probability of each token under the rule is the sum over how it can come out. Beside it the same for two rules that look plausible:
# a rejected token is drawn anew from $p$ (instead of the residual), or a guess is accepted if it is at least as probable for
# the target as for the draft, and else drawn anew from the residual.

# %% [markdown] lang="zh"
# 现在看分布，完全不抽样。在测试文本的两千多个位置上，把每个可能的猜测都跟到底：一个词元在这条规则下的概率，
# 是它所有可能出现方式的概率之和。旁边是两条看似合理的规则的同样结果：被拒绝时从 $p$（而不是剩余分布）重新抽；
# 或者猜测在目标模型看来至少与草稿模型一样可能就接受，否则从剩余分布重新抽。

# %%
p, q = p.flatten(0, 1).double(), q.flatten(0, 1).double()  # [places, vocab]
p, q = (each / each.sum(dim=1, keepdim=True) for each in (p, q))
RULES = {
    "min(1, p / q), then the residual": ((p / q).clamp(max=1), residual_distribution(p, q)),
    "min(1, p / q), then p": ((p / q).clamp(max=1), p),
    "accepted if p ≥ q, then the residual": ((p >= q).double(), residual_distribution(p, q)),
}
distances = {}
for name, (accept, replacement) in RULES.items():
    comes_out = q * accept + (q * (1 - accept)).sum(dim=1, keepdim=True) * replacement
    distances[name] = 0.5 * (comes_out - p).abs().sum(dim=1)
table(
    ["rule", "total variation from the target: mean", "largest"],
    [(name, each.mean().item(), each.max().item()) for name, each in distances.items()],
)
SAMPLES = 40_000
place = (1 - acceptance_probability(p, q)).argsort()[len(p) // 2]  # one of middling disagreement
proposed = torch.multinomial(q[place], SAMPLES, replacement=True)[:, None]
verdict = verify(
    p[place].expand(SAMPLES, 2, -1), q[place].expand(SAMPLES, 1, -1), proposed, torch.Generator().manual_seed(0)
)
written = torch.where(verdict.accepted > 0, proposed[:, 0], verdict.next_token)
counts = torch.bincount(written, minlength=len(alphabet)).double()
by_frequency = p[place].argsort(descending=True)
frequent = int((p[place] * SAMPLES >= 5).sum())
observed, wanted = counts[by_frequency], p[place][by_frequency] * SAMPLES
for each in (observed, wanted):  # rarer tokens are counted with the rarest frequent one, as chi-square needs
    each[frequent - 1] += each[frequent:].sum()
observed, wanted = observed[:frequent], wanted[:frequent]
chi_square = ((observed - wanted).square() / wanted).sum().item()
degrees = len(observed) - 1
print(f"  {SAMPLES:,} draws at one place: chi-square {chi_square:.1f} with {degrees} degrees of freedom")

figure, axes = plt.subplots(1, 2, figsize=(12, 3.9), layout="constrained")
curve = torch.linspace(0.05, 0.95, 50).tolist()
for lookahead in LOOKAHEADS:
    (line,) = axes[0].plot(curve, [expected_tokens(each, lookahead) for each in curve], label=f"γ = {lookahead}")
    axes[0].plot(alpha, sampled[lookahead], "o", color=line.get_color())
axes[0].set(xlabel="acceptance α", ylabel="tokens for each target call", title="Lines: equation 1; dots: measured")
axes[0].legend()
order = p[place].argsort(descending=True)[:8]
for offset, (name, values) in enumerate((("draft q", q[place]), ("target p", p[place]), ("written", counts / SAMPLES))):
    axes[1].bar([bar + 0.27 * (offset - 1) for bar in range(8)], values[order].tolist(), width=0.25, label=name)
axes[1].set_xticks(range(8), [repr(alphabet[token]) for token in order.tolist()])
axes[1].set(ylabel="probability", title="The eight likeliest tokens at one place")
axes[1].legend()
show(figure, "speculative")

# %% [markdown] lang="en"
# The rule is exact up to rounding; the two that look like it are not. Nothing is lost by a bad draft except time, so that a draft
# may be anything: a smaller model, an n-gram table, extra heads of the target itself.

# %% [markdown] lang="zh"
# 这条规则精确到舍入误差，两条貌似的规则则不然。草稿模型差，损失的只是时间，所以什么都可以当草稿：
# 更小的模型、n-gram 表、目标模型自己的附加头。

# %% [markdown]
# ## Experiment: many users · 实验：许多用户

# %% [markdown] lang="en"
# 48 requests arrive over time; most answers are short, a few long. First the schedule alone, counted in steps: eight slots, static against
# continuous. Then memory: the same answers in caches reserved for the longest possible answer, and in blocks. Last, the real thing:
# the target model answers 12 prompts that begin with the same 32 characters, through the paged cache, with sequences joining and leaving
# the batch. What it writes is compared with what it writes for each alone.

# %% [markdown] lang="zh"
# 48 个请求陆续到达；多数回答短，少数很长。先只看调度，以步数计：八个槽位，静态对连续。
# 再看内存：同样的回答，放在按最长可能预留的缓存里，和放在块里。
# 最后动真格：目标模型回答 12 个以同样 32 个字符开头的提示，用分页缓存，序列随时加入和离开这一批。写出的内容与各自单独写的比较。

# %%
quiz(
    "waste",
    en="Reserved for 256 tokens each, what share of the cache do these answers use?",
    zh="每个预留 256 个词元时，这些回答用到缓存的百分之几？",
    choices={
        "75": "about 3 in 4 · 约四分之三",
        "50": "about half · 约一半",
        "25": "less than a quarter · 不到四分之一",
    },
)

# %%
chance, SLOTS, LONGEST = random.Random(0), 8, 256
requests = [Request(2 * number, min(LONGEST, 1 + int(chance.expovariate(1 / 40)))) for number in range(48)]
schedules = {name: schedule(requests, SLOTS, name == "continuous") for name in ("static", "continuous")}
table(
    ["batching", "busy steps", "slots used", "mean latency, steps"],
    [
        (name, each.busy_steps, f"{each.utilization:.0%}", each.mean_latency(requests))
        for name, each in schedules.items()
    ],
)
tokens_written = [request.num_tokens for request in requests]
SIZES = (LONGEST, 64, 16, 4, 1)
fill = {size: sum(tokens_written) / sum(-(-count // size) * size for count in tokens_written) for size in SIZES}
table(
    ["block size", "share of the places used", "blocks in the tables"],
    [(size, f"{share:.0%}", sum(-(-count // size) for count in tokens_written)) for size, share in fill.items()],
)
settle("waste", "25" if fill[LONGEST] < 0.25 else "50" if fill[LONGEST] < 0.6 else "75")

shared = test_tokens[:32].tolist()
prompts = [shared + test_windows[number, : 3 + number].tolist() for number in range(12)]
lengths = [4 + 5 * (number % 4) for number in range(12)]
BLOCK = 8


def serve(share_prefix: bool, slots: int) -> tuple[list[list[int]], int, int, int]:
    """Greedy answers of all prompts; model calls, tokens read in prompts, and the most blocks in use at a time."""
    cache, answers = PagedKVCache(target.config, 200, BLOCK), [[] for _ in prompts]
    calls, tokens_read, most = 0, 0, 0
    if share_prefix:
        cache.add(-1)
        prefill(target, cache, -1, shared)
        calls, tokens_read = 1, len(shared)
    waiting, running = list(range(len(prompts))), []
    while waiting or running:
        while waiting and len(running) < slots:
            number = waiting.pop(0)
            if share_prefix:
                cache.fork(-1, number)
            else:
                cache.add(number)
            rest = prompts[number][cache.lengths[number] :]
            answers[number].append(int(prefill(target, cache, number, rest).argmax()))
            calls, tokens_read = calls + 1, tokens_read + len(rest)
            running.append(number)
        logits = decode(target, cache, running, [answers[number][-1] for number in running])
        calls, most = calls + 1, max(most, cache.blocks_used)
        for number, following in zip(running, logits.argmax(dim=1).tolist(), strict=True):
            answers[number].append(following)
        for number in [each for each in running if len(answers[each]) >= lengths[each]]:
            running.remove(number)
            cache.release(number)
    return answers, calls, tokens_read, most


served = {
    name: serve(share_prefix, slots)
    for name, share_prefix, slots in (
        ("one at a time", False, 1),
        ("six slots", False, 6),
        ("six slots, prefix shared", True, 6),
    )
}
table(
    ["serving 12 prompts", "model calls", "prompt tokens read", "most blocks in use"],
    [(name, *each[1:]) for name, each in served.items()],
)
alone = []
for number, text in enumerate(prompts):
    tokens = list(text)
    for _ in range(lengths[number]):
        tokens.append(int(target(torch.tensor([tokens]))[0, -1].argmax()))
    alone.append(tokens[len(text) :])

# %% [markdown] lang="en"
# Static batching waits for the longest answer of each batch; continuous batching answers sooner, with the same model and the same slots. In
# blocks of 16 more than eight places in ten are used, reserved less than one in five: more than four times as many users fit. A
# shared prefix is read once and stored once; the block in which a sequence goes its own way is copied, the full ones never.

# %% [markdown] lang="zh"
# 静态批处理要等每批中最长的回答；连续批处理用同样的模型、同样的槽位，回答得更早。16 个一块时，八成以上的位置用上了，
# 预留时不到五分之一：同样的内存能容纳四倍以上的用户。共享的前缀只读一次、只存一次；序列分道扬镳处的那一块要复制，写满的块永远不用。

# %% [markdown]
# ## Experiment: a smaller cache · 实验：更小的缓存

# %% [markdown] lang="en"
# Keys and values can be quantized like weights, each token's head with a scale of its own. The target reads the first half of each test
# window into its cache, the cache is rounded, and the predictions on the second half are compared with those from the exact cache: the KL
# divergence between the two. (Not the loss: so small a model hardly looks at more than the last few characters.)

# %% [markdown] lang="zh"
# 键和值可以像权重一样量化，每个词元的每个头有自己的缩放因子。目标模型把每个测试窗口的前一半读进缓存，把缓存舍入，
# 再把后一半上的预测与用精确缓存的预测比较：两者的 KL 散度。（不比较损失：这么小的模型几乎只看最后几个字符。）

# %%
_, first_half = target.features(test_windows[:, :32])


def predictions_with(cache: KVCache) -> torch.Tensor:
    """Log-probabilities on the second half of the windows after a cache of the first."""
    return target.step(test_windows[:, 32:64], cache)[0].log_softmax(dim=2).flatten(0, 1)


HEAD = target.config.head_dim
exact = predictions_with(first_half)
divergences, rows = {}, []
for bits in (8, 6, 4, 3, 2):
    rounded = KVCache(*(quantize_absmax(each, bits, HEAD).dequantize() for each in first_half))
    divergences[bits] = F.kl_div(predictions_with(rounded), exact, log_target=True, reduction="batchmean").item()
    with_scales = bits + 16 / 128
    rows.append((bits, with_scales, divergences[bits], cache_bytes / 2**20 * with_scales / 16))
table(["bits", "with the scales, heads of 128", "KL of the predictions", "Llama 3 8B, 2,048 tokens: MiB"], rows)
print(f"  in 16 bits: {cache_bytes / 2**20:.0f} MiB")

# %% [markdown] lang="en"
# Eight bits halve the cache and change next to nothing; each bit less multiplies the divergence. Where keys have outliers in a
# few coordinates, as in large models, one scale for a coordinate over many tokens does better for keys (KIVI).

# %% [markdown] lang="zh"
# 八位使缓存减半，几乎什么也不变；每少一位，散度就成倍增大。大模型的键在少数坐标上有离群值，
# 这时对键来说，一个坐标在许多词元上共用一个缩放因子更好（KIVI）。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# The reference of every trick is the plain model: a full forward pass without any cache, and torch's own attention over the keys
# in one piece. The paged cache must give `scaled_dot_product_attention` the same keys in the same order; steps with it must give the
# logits of the full pass.

# %% [markdown] lang="zh"
# 每个技巧的参照都是朴素的模型：不用任何缓存的完整前向，以及 torch 自己对连成一片的键做的注意力。
# 分页缓存必须把同样的键按同样的次序交给 `scaled_dot_product_attention`；用它一步步算，必须得到完整前向的 logits。

# %%
text = test_windows[0, :40]
paged = PagedKVCache(target.config, 32, 8)
for name in (0, 1):  # a stranger's blocks lie between
    paged.add(name)
prefill(target, paged, 0, text[:13].tolist())
prefill(target, paged, 1, test_windows[1, :20].tolist())
stepwise = torch.stack([decode(target, paged, [0], [token])[0] for token in text[13:].tolist()])
full_logits = target(text[None])[0, 13:]
_, contiguous = target.features(text[None])
gathered = paged.gather([0]).cache
query = torch.randn(1, 4, 1, HEAD, generator=torch.Generator().manual_seed(0))
attended = [
    F.scaled_dot_product_attention(query, each.keys[:, 0], each.values[:, 0], enable_gqa=True)
    for each in (gathered, contiguous)
]

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: what is written has the target's distribution", by_hand_result, by_hand_p)
check_close("by hand: 3.36 tokens for each call", expected_tokens(0.8, 4), 3.3616)
check("by hand: 48 places and 24", by_hand_blocks == [48, 24])
check("by hand: 6 steps and 4", by_hand_steps == [6, 4])
check_close("the paged cache's attention is torch's over keys in one piece", *attended, 1e-5)
check_close("decoding through blocks gives the logits of a full pass", stepwise, full_logits, 1e-4)
check("memory bounds Llama 3 8B at every batch with 2,048 tokens in each cache", not bound)
check("64 sequences get more than 25 times the tokens of one", tokens_per_second(64) > 25 * tokens_per_second(1))
check(
    "greedy: the draft changes no token",
    all(prompt + found.tokens == by_target for found in greedy.values()),
)
check("and saves calls", greedy[4].target_calls < greedy[1].target_calls < 48)
check("the rule's distribution is the target's, to 1e-12", distances["min(1, p / q), then the residual"].max() < 1e-12)
check(
    "the two others are not",
    min(each.max() for name, each in distances.items() if "p / q), then the" not in name) > 0.01,
)
check("draws at one place pass chi-square (mean + 5 deviations)", chi_square < degrees + 5 * (2 * degrees) ** 0.5)
check(
    "measured tokens for each call are within 30 % of equation 1",
    all(abs(sampled[each] / expected_tokens(alpha, each) - 1) < 0.3 for each in LOOKAHEADS),
)
check("continuous batching needs fewer steps", schedules["continuous"].busy_steps < schedules["static"].busy_steps)
check(
    "and answers sooner",
    schedules["continuous"].mean_latency(requests) < schedules["static"].mean_latency(requests) / 1.5,
)
check("blocks of 16 use more than 80 % of their places", fill[16] > 0.8 > 0.25 > fill[LONGEST])
check(
    "in batches, in blocks, with a shared prefix: every answer is what the model writes alone",
    all(each[0] == alone for each in served.values()),
)
check(
    "a shared prefix is read once", served["six slots"][2] - served["six slots, prefix shared"][2] == 11 * len(shared)
)
check("and takes fewer blocks", served["six slots, prefix shared"][3] < served["six slots"][3] - 10)
check(
    "each step to fewer bits changes the predictions more", sorted(divergences.values()) == list(divergences.values())
)
check("8 bits a hundred times less than 2", divergences[8] < divergences[2] / 100)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `llm-lora` serves with continuous batching and a key-value cache: `uv run --package llm-lora serve`. Engines such as vLLM,
# SGLang and TensorRT-LLM do all that is in this lesson, with kernels that read the blocks in place.
#
# Papers: [Leviathan et al. 2023](https://arxiv.org/abs/2211.17192) and [Chen et al. 2023](https://arxiv.org/abs/2302.01318), speculative
# decoding; [Kwon et al. 2023](https://arxiv.org/abs/2309.06180), paged attention and vLLM; [Yu et al.
# 2022](https://www.usenix.org/conference/osdi22/presentation/yu), Orca; [Pope et al. 2022](https://arxiv.org/abs/2211.05102), what bounds
# inference; [Liu et al. 2024](https://arxiv.org/abs/2402.02750), KIVI, caches of 2 bits. Next: pictures and text, 12/09.

# %% [markdown] lang="zh"
# 实战项目 `llm-lora` 用连续批处理和键值缓存提供服务：`uv run --package llm-lora serve`。
# vLLM、SGLang、TensorRT-LLM 等引擎包含本课的全部内容，并有直接读取块的算子。
#
# 论文：[Leviathan 等 2023](https://arxiv.org/abs/2211.17192) 与 [Chen 等 2023](https://arxiv.org/abs/2302.01318)，投机解码；
# [Kwon 等 2023](https://arxiv.org/abs/2309.06180)，分页注意力与 vLLM；
# [Yu 等 2022](https://www.usenix.org/conference/osdi22/presentation/yu)，Orca；
# [Pope 等 2022](https://arxiv.org/abs/2211.05102)，推理受什么限制；[Liu 等 2024](https://arxiv.org/abs/2402.02750)，KIVI，2 位缓存。
# 下一课：图像与文字，12/09。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `acceptance_probability`, `residual_distribution`, `verify` and `expected_tokens` yourself. `uv run lesson exercise 12/08` makes a file
# with their signatures, `uv run lesson check 12/08` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `acceptance_probability`、`residual_distribution`、`verify` 和 `expected_tokens`。
# `uv run lesson exercise 12/08` 生成带有签名的文件，`uv run lesson check 12/08` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. The probability that a drawn token is kept: sum $q \cdot \min(1, p/q)$ over the tokens, and simplify.
# 2. In the residual, clamp the difference at 0 and divide by its sum. If the two distributions are equal the sum is 0; return the target then.
# 3. In `verify`, pick the probabilities of the proposed tokens with `gather`, `[batch, proposed]`. Compare $u\,q < p$.
# 4. `cumprod` of the decisions stays 1 until the first rejection; its sum is the number accepted, which is also the place of the next token.
# 5. After the last proposed token there is no draft: pad its distributions with zeros, and the residual there is the target.

# %% [markdown] lang="zh"
# 1. 抽到的词元被保留的概率：把 $q \cdot \min(1, p/q)$ 对词元求和，再化简。
# 2. 剩余分布：差值在 0 处截断，再除以它的和。两个分布相等时和为 0，这时返回目标分布。
# 3. 在 `verify` 里用 `gather` 取出被提议词元的概率，`[batch, proposed]`。比较 $u\,q < p$。
# 4. 各决定的 `cumprod` 在第一次拒绝之前一直是 1；它的和就是接受的个数，也是下一个词元所在的位置。
# 5. 最后一个提议之后没有草稿：把草稿分布补零，那里的剩余分布就是目标分布。


# %%
@exercise(acceptance_probability, residual_distribution, verify, expected_tokens)
def judge(yours, reference):
    draws = torch.Generator().manual_seed(0)
    p, q = (torch.randn(20, 6, generator=draws, dtype=torch.float64).softmax(dim=1) for _ in range(2))
    check_close(
        "acceptance_probability is [...]", yours.acceptance_probability(p, q), reference.acceptance_probability(p, q)
    )
    mine = yours.residual_distribution(p, q)
    check_close("the residual sums to 1", mine.sum(dim=1), torch.ones(20))
    check_close("residual_distribution", mine, reference.residual_distribution(p, q))
    check_close("of two equal distributions it is the target", yours.residual_distribution(p, p), p)

    samples = 30_000
    p, q = (torch.randn(n, 4, generator=draws, dtype=torch.float64).softmax(dim=1) for n in (3, 2))
    proposed = torch.stack([torch.multinomial(row, samples, True, generator=draws) for row in q], dim=1)
    found = yours.verify(p.expand(samples, 3, 4), q.expand(samples, 2, 4), proposed, draws)
    check("verify: accepted and next_token are [batch]", found.accepted.shape == found.next_token.shape == (samples,))
    check("accepted is from 0 to the number of proposed tokens", set(found.accepted.unique().tolist()) <= {0, 1, 2})
    alphas = reference.acceptance_probability(p[:2], q)
    check_close("the share of first tokens accepted", (found.accepted > 0).double().mean(), alphas[0], 0.015)
    check_close("the share of both accepted", (found.accepted == 2).double().mean(), alphas.prod(), 0.015)
    for place in range(3):
        chosen = torch.where(found.accepted > place, F.pad(proposed, (0, 1))[:, place], found.next_token)
        chosen = chosen[found.accepted >= place]
        shares = torch.bincount(chosen, minlength=4).double() / len(chosen)
        check_close(f"the distribution of token {place} is the target's", shares, p[place], 0.025)

    for acceptance, lookahead in ((0.0, 3), (0.6, 4), (0.9, 1), (1.0, 5)):
        mine, theirs = (each.expected_tokens(acceptance, lookahead) for each in (yours, reference))
        check_close(f"expected_tokens({acceptance}, {lookahead})", mine, theirs)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why does speculative decoding not change the output? · 投机解码为什么不改变输出？

# %% [markdown] lang="en"
# A token $x$ can come out in two ways: drawn from $q$ and accepted, with probability $q \min(1, p/q) = \min(p, q)$; or as the replacement after a
# rejection, with probability $(1 - \alpha)\, p'$. The residual $p'$ is built so that the second is $\max(p - q, 0)$. The sum is $p$, whatever
# $q$ is. With temperature 0 both are one-hot: a guess is accepted if it is the target's own choice, and else replaced by it.

# %% [markdown] lang="zh"
# 词元 $x$ 有两种出现方式：从 $q$ 抽到并被接受，概率 $q \min(1, p/q) = \min(p, q)$；或者在拒绝之后作为替换，概率 $(1 - \alpha)\, p'$。
# 剩余分布 $p'$ 正是为了使后者等于 $\max(p - q, 0)$ 而构造的。两者之和是 $p$，与 $q$ 无关。
# 温度为 0 时两者都是 one-hot：猜的与目标模型的选择相同就接受，否则换成目标模型的选择。

# %%
for sharpness in (0.0, 1.0, 3.0):
    any_draft = (sharpness * torch.tensor([1.0, -1.0, 0.5])).softmax(dim=0)
    kept = acceptance_probability(by_hand_p, any_draft)
    out = torch.minimum(by_hand_p, any_draft) + (1 - kept) * residual_distribution(by_hand_p, any_draft)
    print(
        f"  draft {[round(each, 2) for each in any_draft.tolist()]}: accepted {kept:.2f}, written {[round(each, 3) for each in out.tolist()]}"
    )

# %% [markdown]
# ### When does speculative decoding not pay? · 什么时候投机解码不划算？

# %% [markdown] lang="en"
# It spends idle arithmetic to save reading. With a large batch the arithmetic is no longer idle, and checking guesses that are thrown
# away costs real time. It does not pay either with a draft that is rarely right, or is not much cheaper, or with too many guesses: later
# ones are only reached if all before were right. At high temperature the acceptance falls, if the draft is more or less sure than the target.

# %% [markdown] lang="zh"
# 它用闲置的算力换取少读内存。批很大时算力不再闲置，检查那些最终扔掉的猜测要花真实的时间。
# 草稿模型常猜错、或便宜不了多少、或一次猜太多个，也不划算：后面的猜测只有前面全对才用得上。
# 温度高时，如果草稿模型与目标模型的把握程度不同，接受率也会下降。

# %%
for acceptance in (0.5, 0.8):
    for ratio in (0.05, 0.3):
        gains = {count: expected_tokens(acceptance, count) / (count * ratio + 1) for count in (1, 2, 4, 8, 16)}
        best = max(gains, key=gains.get)
        print(
            f"  α = {acceptance}, draft costs {ratio:.0%}: best with {best} guesses, {gains[best]:.2f} times as fast; with 16 {gains[16]:.2f}"
        )

# %% [markdown]
# ### Why do prefill and decoding behave so differently? · 预填充和解码为什么差别这么大？

# %% [markdown] lang="en"
# Reading a prompt multiplies every weight with all its tokens at once: hundreds of operations for each byte, bound by arithmetic.
# Decoding multiplies every weight with one token for each sequence: bound by memory until the batch is large. So the time to the first token
# depends on the processor and the prompt, the time for each later one on bandwidth and caches. Servers mix the two in one step (chunked
# prefill), or give them different machines.

# %% [markdown] lang="zh"
# 读提示时，每个权重一次与提示的所有词元相乘：每字节几百次运算，瓶颈是算力。解码时，每个权重只与每个序列的一个词元相乘：
# 在批很大之前，瓶颈都是内存。所以首个词元的时间取决于处理器和提示长度，之后每个词元的时间取决于带宽和缓存。
# 服务器要么把两者混在一步里（分块预填充），要么交给不同的机器。

# %%
for name, tokens in (("decoding one token", 1), ("prefill of 2,048 tokens", 2048)):
    operations = tokens * forward_flops(LLAMA3, 1024)
    print(
        f"  {name}: {operations / (weight_bytes + cache_bytes):.0f} operations for each byte; the H100 needs {OPERATIONS / BANDWIDTH:.0f}"
    )

# %% [markdown]
# ### What problem does paged attention solve? · 分页注意力解决什么问题？

# %% [markdown] lang="en"
# A cache in one piece must be reserved for the longest answer that might come, since it cannot grow where the next one begins. Most of it
# stays empty, and the number of sequences in a batch is bounded by memory that nobody uses. In blocks, a sequence takes memory as it grows; at most
# one block is partly empty. Blocks with reference counts also let sequences share a prompt, with copy on write. The price is an
# indirection in the attention kernel.

# %% [markdown] lang="zh"
# 连成一片的缓存必须按可能的最长回答预留，因为后面紧挨着别人的，不能再长。大部分是空的，批的大小却受这些没人用的内存限制。
# 分块之后，序列长到哪里就取到哪里，至多一块没有填满。带引用计数的块还能让序列共享提示，写时复制。代价是注意力算子里多一次间接寻址。

# %%
for size, share in fill.items():
    print(f"  blocks of {size}: {1 - share:.0%} of the places are empty")

# %% [markdown]
# ### Static, dynamic and continuous batching: what is the difference? · 静态、动态和连续批处理有什么区别？

# %% [markdown] lang="en"
# Static: a fixed batch, answered together. Dynamic: the batch is collected from requests that arrive within a short time, which suits models
# that answer in one call, but for generation it still ends with its longest answer. Continuous: after each token, finished sequences leave and
# waiting ones enter. Slots are idle only when nobody waits. The caches then have different lengths, which is why it came
# together with paging.

# %% [markdown] lang="zh"
# 静态：固定的一批，一起回答。动态：把短时间内到达的请求凑成一批，适合一次调用就有答案的模型；用于生成时，仍要等最长的回答。
# 连续：每写一个词元，写完的离开，等待的进来。只有没人等时槽位才空。这时各缓存长度不同，所以它与分页是一起出现的。

# %%
for spread in ("all of 40 tokens", "1 to 256 tokens"):
    same = spread.startswith("all")
    waiting = [Request(0, 40 if same else request.num_tokens) for request in requests]
    steps = [schedule(waiting, SLOTS, continuous).busy_steps for continuous in (False, True)]
    print(f"  48 waiting requests, {spread}: static {steps[0]} steps, continuous {steps[1]}")

# %% [markdown]
# ### Does batching change what a model answers? · 批处理会改变模型的回答吗？

# %% [markdown] lang="en"
# In exact arithmetic it does not, if masks and positions are right: padding hidden, positions counted for each sequence. In floating point the
# order of sums may change with the shape of the batch, and logits with it by a rounding error; where two tokens are almost equally likely, the greedy
# choice may flip. Who needs the same answer bit for bit needs kernels whose order of sums does not depend on the batch.

# %% [markdown] lang="zh"
# 掩码和位置都正确时（填充被遮住，位置按各序列自己数），精确运算下不会。浮点运算中，求和次序可能随批的形状而变，logits 相差一点舍入误差；
# 两个词元几乎同样可能时，贪心的选择可能翻转。要求逐位相同的回答，就需要求和次序与批无关的算子。

# %%
for name, first, second in (
    ("a batch of 32 and one alone", target(test_windows[:, :40])[:1], target(test_windows[:1, :40])),
    ("a token at a time and all at once", stepwise, full_logits),
):
    print(f"  {name}: logits differ by at most {(first - second).abs().max():.1e}")
