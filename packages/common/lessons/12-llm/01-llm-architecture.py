# %% [markdown]
# # LLM architecture · 大语言模型架构

# %% [markdown] lang="en"
# After this lesson you can write the network that Llama, Mistral, Qwen and SmolLM2 share, say for each of its parts what it
# replaced and why, and work out from a configuration how many parameters, operations and bytes of cache a model needs.
# You need GPT-2 (07/09), rotary embedding (07/03) and the key-value cache (07/10).

# %% [markdown] lang="zh"
# 学完本课，你能写出 Llama、Mistral、Qwen 和 SmolLM2 共用的网络，能说出每个部件取代了什么、为什么，
# 并能从一份配置算出模型要多少参数、多少运算、多少字节的缓存。
# 先修：GPT-2（07/09）、旋转位置编码（07/03）、键值缓存（07/10）。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import asset, check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.llm.gguf_file import open_gguf
from dlcommon.llm.gguf_tokenizer import load_gguf_tokenizer
from dlcommon.llm.gguf_weights import load_gguf
from dlcommon.llm.llama import GroupedQueryAttention, Llama, LlamaConfig, SwiGLU
from dlcommon.llm.llama_weights import load_pretrained
from dlcommon.llm.mixture_of_experts import MixtureOfExperts, Router, collect_router_logits, load_balancing_loss
from dlcommon.llm.model_size import count_parameters, forward_flops, kv_cache_bytes
from dlcommon.llm.rope_scaling import RopeScaling
from dlcommon.transformer.rms_norm import rms_norm
from dlcommon.transformer.rotary_embedding import apply_rotary_emb, rotary_cos_sin, rotary_frequencies
from tokenizers import Tokenizer
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# GPT-2 of 2019 and Llama 3 of 2024 do the same: read tokens, predict the next. Yet hardly a part of the block is left as it
# was. Each change answers a bill that came due as models grew. To write one more token, a server reads *all* weights and the
# keys and values of *all* tokens so far from memory. For a model of seven billion parameters with 32 heads in 32 layers,
# 8,192 tokens of one user take 4 GiB of cache: four users need more memory for their caches than for the model.
#
# What can be taken out of a Transformer without making it worse, and what is worth paying for?

# %% [markdown] lang="zh"
# 2019 年的 GPT-2 和 2024 年的 Llama 3 做的是同一件事：读词元，预测下一个。然而块里几乎没有一个部件保持原样。
# 每处改动都对应模型变大以后到来的一笔账：每写一个新词元，服务器都要从内存读*全部*权重，以及到目前为止*全部*词元的键和值。
# 一个 70 亿参数、32 层、每层 32 个头的模型，一个用户的 8,192 个词元要占 4 GiB 缓存：四个用户的缓存就比模型本身还大。
#
# Transformer 里有什么可以去掉而不变差，又有什么值得多花钱？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *RMSNorm* of $(3, 4)$: the mean of the squares is $12.5$, its root $3.536$, the result $(0.849, 1.131)$. LayerNorm also
# subtracts the mean $3.5$ and gives $(-1, 1)$.
#
# *SwiGLU*, one hidden unit: $\mathrm{silu}(g) = g\,\sigma(g)$. With gate 2 and up 3: $2 \cdot 0.881 \cdot 3 = 5.285$. With gate
# $-2$: $-2 \cdot 0.119 \cdot 3 = -0.715$. The gate decides how much of the other number passes.
#
# *Grouped-query attention* with 4 query heads and 2 key-value heads: query heads 0 and 1 read head 0, query heads 2 and 3
# read head 1. The cache of Llama 3 8B takes, for one token, 2 (keys and values) · 32 layers · 8 heads · 128 numbers · 2
# bytes = 131,072 bytes. With 32 heads it would be four times as much.
#
# *Mixture of experts*: the router gives logits $(2, 1, 0, -1)$ to four experts, and two may work. Their weights are
# $e^2 / (e^2 + e^1) = 0.731$ and $0.269$; the other two are not computed at all.
#
# *Load balancing*, four experts, one for each token: if all tokens go to expert 0 with mean probability 0.7, the loss is
# $4 \cdot 1 \cdot 0.7 = 2.8$; with an even split it is $4 \cdot 4 \cdot \frac14 \cdot \frac14 = 1$.

# %% [markdown] lang="zh"
# $(3, 4)$ 的 *RMSNorm*：平方的均值是 $12.5$，开方得 $3.536$，结果是 $(0.849, 1.131)$。
# LayerNorm 还要减去均值 $3.5$，得 $(-1, 1)$。
#
# *SwiGLU*，一个隐藏单元：$\mathrm{silu}(g) = g\,\sigma(g)$。门是 2、另一路是 3：$2 \cdot 0.881 \cdot 3 = 5.285$。
# 门是 $-2$：$-2 \cdot 0.119 \cdot 3 = -0.715$。门决定另一个数能通过多少。
#
# *分组查询注意力*，4 个查询头、2 个键值头：查询头 0、1 读键值头 0，查询头 2、3 读键值头 1。
# Llama 3 8B 的缓存，每个词元要 2（键和值）· 32 层 · 8 头 · 128 个数 · 2 字节 = 131,072 字节。如果是 32 个头，就是四倍。
#
# *专家混合*：路由器给四个专家的 logits 是 $(2, 1, 0, -1)$，只让两个工作。
# 它们的权重是 $e^2 / (e^2 + e^1) = 0.731$ 和 $0.269$；另外两个根本不计算。
#
# *负载均衡*，四个专家，每个词元选一个：如果所有词元都去专家 0，平均概率 0.7，损失是 $4 \cdot 1 \cdot 0.7 = 2.8$；
# 平均分配时是 $4 \cdot 4 \cdot \frac14 \cdot \frac14 = 1$。

# %%
pair = torch.tensor([3.0, 4.0])
gated = [(F.silu(torch.tensor(gate)) * 3.0).item() for gate in (2.0, -2.0)]
router = Router(4, num_experts=4, experts_per_token=2)
with torch.no_grad():
    router.weight.copy_(torch.eye(4))  # the logits are the features
    _, by_hand_weights, by_hand_chosen = router(torch.tensor([[2.0, 1.0, 0.0, -1.0]]))
all_to_one = torch.tensor([[0.7, 0.1, 0.1, 0.1]]).log()
even = 9.0 * torch.eye(4)  # four tokens, each sure of another expert
table(
    ["what", "result"],
    [
        ("RMSNorm of (3, 4)", [round(value, 3) for value in rms_norm(pair).tolist()]),
        ("LayerNorm of (3, 4)", [round(value, 3) for value in F.layer_norm(pair, (2,)).tolist()]),
        ("SwiGLU, gate 2 and −2, up 3", [round(value, 3) for value in gated]),
        ("experts chosen, and their weights", (by_hand_chosen.tolist(), by_hand_weights)),
        ("balance loss: all to one, even", (load_balancing_loss([all_to_one], 1), load_balancing_loss([even], 1))),
    ],
)

drawing = Schematic(13.6, 5.6, "A block of Llama; in brackets, what GPT-2 has in its place")
for name, x, y, text, kind, width in (
    ("in", 0.9, 2.8, "features", "data", 1.4),
    ("norm1", 2.9, 4.4, "RMSNorm\n(LayerNorm)", "parameter", 1.7),
    ("q", 5.2, 5.1, "queries, 9 heads", "data", 2.0),
    ("k", 5.2, 4.3, "keys, 3 heads (9)", "data", 2.0),
    ("v", 5.2, 3.5, "values, 3 heads (9)", "data", 2.0),
    ("rope", 7.8, 4.7, "rotary: turn both\n(learned positions)", "operation", 2.4),
    ("attend", 10.4, 4.2, "attention", "operation", 1.4),
    ("add1", 12.3, 2.8, "+", "operation", 0.5),
    ("norm2", 10.6, 1.2, "RMSNorm\n(LayerNorm)", "parameter", 1.7),
    ("gate", 7.9, 1.7, "W_gate, silu\n(W_up, GELU)", "parameter", 1.9),
    ("up", 7.9, 0.6, "W_up (none)", "parameter", 1.9),
    ("times", 6.0, 1.2, "×", "operation", 0.5),
    ("down", 4.4, 1.2, "W_down", "parameter", 1.2),
    ("add2", 2.7, 1.2, "+", "operation", 0.5),
    ("out", 0.9, 1.2, "features", "data", 1.4),
):
    drawing.box(name, x, y, text, kind, width, height=0.8 if "\n" in text else 0.5)
for start, end in (
    ("in", "norm1"), ("norm1", "q"), ("norm1", "k"), ("norm1", "v"), ("q", "rope"), ("k", "rope"), ("rope", "attend"),
    ("v", "attend"), ("attend", "add1"), ("in", "add1"), ("add1", "norm2"), ("norm2", "gate"), ("norm2", "up"),
    ("gate", "times"), ("up", "times"), ("times", "down"), ("down", "add2"), ("add1", "add2"), ("add2", "out"),
):  # fmt: skip
    drawing.arrow(start, end, bend=-0.11 if (start, end) == ("add1", "add2") else 0.0)
show(drawing.figure, "block")

# %% [markdown]
# ## Formula · 公式
#
# $$\mathrm{RMSNorm}(x) = \frac{x}{\sqrt{\frac1d \sum_i x_i^2 + \epsilon}} \odot w$$
#
# $$\mathrm{SwiGLU}(x) = W_{\mathrm{down}} \left( \mathrm{silu}(W_{\mathrm{gate}}\, x) \odot W_{\mathrm{up}}\, x \right), \qquad \mathrm{silu}(g) = \frac{g}{1 + e^{-g}}$$
#
# $$o_h = \mathrm{softmax}\left( \frac{(R q_h)(R K_{\lfloor h / G \rfloor})^\top}{\sqrt{d_h}} \right) V_{\lfloor h / G \rfloor}, \qquad G = H / H_{kv}$$
#
# $$\mathrm{MoE}(x) = \sum_{e \in T} \frac{p_e}{\sum_{j \in T} p_j}\, \mathrm{SwiGLU}_e(x), \qquad p = \mathrm{softmax}(W_r\, x), \quad T = \mathrm{top}_K(p)$$
#
# $$L_{\mathrm{balance}} = E \sum_{e=1}^{E} f_e\, P_e$$
#
# $$\mathrm{cache} = 2\, L\, H_{kv}\, d_h\, n\, b, \qquad \mathrm{FLOPs} \approx 2 N_{\mathrm{active}} + 4\, L\, H\, d_h\, n$$

# %% [markdown] lang="en"
# - $x$: features of one token, `[dim]`, $d$ numbers; $w$: learned scale (Zhang & Sennrich 2019, equation 4).
# - $W_{\mathrm{gate}}, W_{\mathrm{up}}$: `[feedforward_dim, dim]`; $W_{\mathrm{down}}$: `[dim, feedforward_dim]`; no biases
#   (Shazeer 2020).
# - $q_h$: query of head $h$, `[head_dim]`; $K, V$: keys and values of a shared head, `[tokens, head_dim]`; $R$: the rotation
#   by each token's position (07/03); values are not turned.
# - $H$: query heads; $H_{kv}$: key-value heads; $G$: query heads that share one (Ainslie et al. 2023). $G = 1$ is
#   multi-head attention, $H_{kv} = 1$ multi-query attention (Shazeer 2019).
# - $W_r$: the router, `[experts, dim]`; $p_e$: probability of expert $e$; $T$: the $K$ most probable of $E$ experts.
# - $f_e$: choices that fall on expert $e$, per token; $P_e$: its mean probability over the tokens (Fedus et al. 2021,
#   equations 4 to 6).
# - $L$: layers; $n$: tokens in the cache; $b$: bytes per number; $N_{\mathrm{active}}$: parameters that a token is multiplied
#   with, and each takes a multiplication and an addition.

# %% [markdown] lang="zh"
# - $x$：一个词元的特征，`[dim]`，共 $d$ 个数；$w$：学到的缩放（Zhang 与 Sennrich 2019，式 4）。
# - $W_{\mathrm{gate}}, W_{\mathrm{up}}$：`[feedforward_dim, dim]`；$W_{\mathrm{down}}$：`[dim, feedforward_dim]`；没有偏置（Shazeer 2020）。
# - $q_h$：第 $h$ 个头的查询，`[head_dim]`；$K, V$：共用的一个头的键和值，`[tokens, head_dim]`；
#   $R$：按每个词元的位置旋转（07/03）；值不转。
# - $H$：查询头数；$H_{kv}$：键值头数；$G$：共用一个键值头的查询头数（Ainslie 等 2023）。
#   $G = 1$ 是多头注意力，$H_{kv} = 1$ 是多查询注意力（Shazeer 2019）。
# - $W_r$：路由器，`[experts, dim]`；$p_e$：专家 $e$ 的概率；$T$：$E$ 个专家中概率最大的 $K$ 个。
# - $f_e$：每个词元平均有多少次选择落在专家 $e$ 上；$P_e$：它的概率对词元的均值（Fedus 等 2021，式 4 到 6）。
# - $L$：层数；$n$：缓存里的词元数；$b$：每个数的字节数；
#   $N_{\mathrm{active}}$：一个词元要与之相乘的参数，每个参数一次乘法、一次加法。

# %% [markdown]
# ## Code · 代码

# %%
source(GroupedQueryAttention.forward)
source(SwiGLU.forward)
source(Router.forward)
source(load_balancing_loss)

# %% [markdown] lang="en"
# `unflatten(-1, (-1, head_dim))` cuts the projection `[batch, tokens, heads · head_dim]` into heads: 9 for the queries of
# SmolLM2, 3 for its keys and values. Both are turned before the keys enter the cache, so that a cached key never needs
# turning again. The cache keeps the 3 heads; `enable_gqa=True` lets each be read by 3 query heads without a copy.
#
# `Router.forward` takes the softmax over *all* experts, keeps the largest $K$ and divides by their sum. `topk` gives the
# numbers, which have no gradient, and the probabilities, which have one: that is how the router learns at all.
# `load_balancing_loss` multiplies $f$, counted and without a gradient, by $P$, which has one: the busiest experts' probabilities
# are pushed down hardest.

# %% [markdown] lang="zh"
# `unflatten(-1, (-1, head_dim))` 把投影 `[batch, tokens, heads · head_dim]` 切成头：SmolLM2 的查询 9 个，键和值 3 个。
# 键在进入缓存之前就已旋转，缓存里的键永远不必再转。缓存只存 3 个头；`enable_gqa=True` 让每个头被 3 个查询头读取，不必复制。
#
# `Router.forward` 对*所有*专家做 softmax，留下最大的 $K$ 个，再除以它们的和。
# `topk` 给出编号（没有梯度）和概率（有梯度）：路由器正是靠后者才学得动。
# `load_balancing_loss` 把数出来、没有梯度的 $f$ 乘以有梯度的 $P$：越忙的专家，概率被压得越狠。

# %% [markdown]
# ## Experiment: what do real models cost? · 实验：真实的模型要花多少？

# %% [markdown] lang="en"
# The published configurations of six models, as one `LlamaConfig` each: Qwen 2.5 adds biases to queries, keys and values,
# Qwen 3 normalizes queries and keys, the two mixtures have experts. Nothing is built: parameters, operations and cache follow
# from the sizes.

# %% [markdown] lang="zh"
# 六个模型公布的配置，各写成一个 `LlamaConfig`：Qwen 2.5 给查询、键、值加偏置，Qwen 3 对查询和键做归一化，两个混合模型有专家。
# 什么也不用建：参数、运算和缓存都能从尺寸算出。

# %%
quiz(
    "cache",
    en="Llama 3 8B has 32 query heads and 8 key-value heads. How many times larger would its cache be without sharing?",
    zh="Llama 3 8B 有 32 个查询头、8 个键值头。如果不共用，缓存会大多少倍？",
)
quiz(
    "active",
    en="Mixtral 8x7B: 8 experts, 2 for each token, 46.7 billion parameters. How many billions does one token use?",
    zh="Mixtral 8x7B：8 个专家，每个词元用 2 个，共 467 亿参数。一个词元用到多少个十亿？",
)

# %%
MODELS = {
    "SmolLM2-135M": LlamaConfig(49_152, 576, 30, 9, 3, 64, 1536, rope_theta=1e5, tie_embeddings=True),
    "Llama 2 7B": LlamaConfig(32_000, 4096, 32, 32, 32, 128, 11_008),
    "Llama 3 8B": LlamaConfig(128_256, 4096, 32, 32, 8, 128, 14_336, rope_theta=5e5),
    "Qwen2.5-7B": LlamaConfig(152_064, 3584, 28, 28, 4, 128, 18_944, rope_theta=1e6, qkv_bias=True),
    "Mixtral 8x7B": LlamaConfig(32_000, 4096, 32, 32, 8, 128, 14_336, rope_theta=1e6, num_experts=8),
    "Qwen3-30B-A3B": LlamaConfig(
        151_936, 2048, 48, 32, 4, 128, 768, rope_theta=1e6, qk_norm=True, num_experts=128, experts_per_token=8
    ),
}
CONTEXT = 8192
counts = {name: count_parameters(config) for name, config in MODELS.items()}
caches = {name: kv_cache_bytes(config, CONTEXT) for name, config in MODELS.items()}


def with_all_heads(config: LlamaConfig) -> int:
    """Bytes of the cache if every query head had its own keys and values."""
    return kv_cache_bytes(config, CONTEXT) * config.num_heads // config.num_kv_heads


table(
    ["model", "parameters", "active", "embeddings", "GFLOP per token", "cache per token", "of 8,192", "… not shared"],
    [
        (
            name,
            f"{counts[name].total / 1e9:.3f} B",
            f"{counts[name].active / 1e9:.3f} B",
            f"{counts[name].embedding / counts[name].total:.0%}",
            forward_flops(config, CONTEXT) / 1e9,
            f"{caches[name] / CONTEXT / 1024:.1f} KiB",
            f"{caches[name] / 2**30:.2f} GiB",
            f"{with_all_heads(config) / 2**30:.2f} GiB",
        )
        for name, config in MODELS.items()
    ],
)
llama3, mixtral = MODELS["Llama 3 8B"], MODELS["Mixtral 8x7B"]
settle("cache", with_all_heads(llama3) / caches["Llama 3 8B"], tolerance=0.1)
settle("active", counts["Mixtral 8x7B"].active / 1e9, tolerance=1.0)

figure, axes = plt.subplots(1, 3, figsize=(16, 4.2), layout="constrained")
lengths = [2**power for power in range(9, 18)]
for name, config in MODELS.items():
    axes[0].plot(
        lengths,
        [kv_cache_bytes(config, length) / 2**30 for length in lengths],
        marker=".",
        linestyle=":" if name == "Mixtral 8x7B" else "-",
        label=name,
    )
axes[0].set(xscale="log", yscale="log", xlabel="tokens", ylabel="GiB, 16-bit", title="Key-value cache of one sequence")
axes[0].legend(fontsize=8)
places = range(len(MODELS))
totals = [counts[name].total / 1e9 for name in MODELS]
axes[1].bar(places, totals, color="0.8", label="stored")
axes[1].bar(places, [counts[name].active / 1e9 for name in MODELS], width=0.5, label="used by one token")
axes[1].set(yscale="log", ylabel="parameters, billions", title="Stored and used")
axes[1].set_xticks(places, MODELS, rotation=25, ha="right", fontsize=8)
axes[1].legend(fontsize=8)
parts = ("embedding", "attention", "feed_forward")
bottom = torch.zeros(len(MODELS))
for part, hatch in zip(parts, ("//", "", ".."), strict=True):
    share = torch.tensor([getattr(counts[name], part) / counts[name].total for name in MODELS])
    axes[2].bar(
        places, share.numpy(), bottom=bottom.numpy(), label=part.replace("_", "-"), hatch=hatch, edgecolor="white"
    )
    bottom += share
axes[2].set(ylabel="share of the parameters", title="Where the parameters are")
axes[2].set_xticks(places, MODELS, rotation=25, ha="right", fontsize=8)
axes[2].legend(fontsize=8, loc="center", framealpha=1)
show(figure, "costs")

# %% [markdown] lang="en"
# Llama 2 7B shares nothing: 4 GiB for one long conversation. Llama 3 8B is larger and needs a quarter; Qwen2.5-7B, with 7
# query heads to each key-value head, a ninth. Sharing saves few parameters: it is for the cache. (Ainslie et al. 2023
# measured that eight shared heads come close to the quality of all.) Mixtral stores 46.7 billion parameters and computes with 12.9: it is as large in memory as its whole and nearly as
# fast as its active part. Not 8 · 7 = 56, since attention and embeddings are there once. The embeddings weigh
# heavily in the small model only, which is why SmolLM2 ties them.

# %% [markdown] lang="zh"
# Llama 2 7B 什么都不共用：一段长对话就要 4 GiB。Llama 3 8B 更大，却只要四分之一；
# Qwen2.5-7B 每 7 个查询头共用一个键值头，只要约九分之一。共用省不了多少参数：它是为缓存而设的。
# （Ainslie 等 2023 测得，八个共用的头质量接近全部的头。）
# Mixtral 存 467 亿参数，每次用 129 亿来算：内存按全部算，速度接近按用到的部分算。
# 不是 8 · 7 = 56，因为注意力和嵌入只有一份。嵌入只在小模型里占大头，所以 SmolLM2 让输入输出共用。

# %% [markdown]
# ## Experiment: a real model · 实验：一个真实的模型

# %% [markdown] lang="en"
# SmolLM2-135M-Instruct (Allal et al. 2025), where it is on this machine: the same class, other sizes, trained weights. The
# cache must change nothing but the work. Without the file, a small network with random weights stands in: the cache can be
# checked with it, the knowledge of course cannot.

# %% [markdown] lang="zh"
# 如果本机有 SmolLM2-135M-Instruct（Allal 等 2025）：还是这个类，换了尺寸，装上训练好的权重。
# 缓存除了减少计算，不应改变任何结果。没有文件时，用一个随机权重的小网络代替：缓存照样可以检验，知识当然没有。

# %%
folder = asset("smollm2-135m-instruct")
files = sorted(folder.glob("*.gguf")) if folder else []
PROMPT = "The capital of France is"
if folder is None:
    torch.manual_seed(0)
    model, prompt = Llama(LlamaConfig(300, 48, 3, 9, 3, 16, 128, tie_embeddings=True)).eval(), [7, 11, 13, 17, 19]
    print("  a network with random weights stands in for SmolLM2")
elif files:
    opened = open_gguf(files[0])
    tokenizer, model = load_gguf_tokenizer(opened), load_gguf(opened)
    prompt = tokenizer.encode(PROMPT)
else:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model, prompt = load_pretrained(folder), tokenizer.encode(PROMPT).ids


@torch.inference_mode()
def write(model: Llama, prompt: list[int], count: int) -> tuple[list[int], torch.Tensor]:
    """Takes the most probable token `count` times, with a cache; returns all tokens and each step's last logits."""
    cache, new, ids, steps = model.initial_state(1), torch.tensor([prompt]), list(prompt), []
    for _ in range(count):
        logits, cache = model.step(new, cache)  # [1, new tokens, vocabulary]
        steps.append(logits[0, -1])
        new = logits[:, -1:].argmax(dim=-1)
        ids.append(int(new))
    return ids, torch.stack(steps)


written, cached_logits = write(model, prompt, 8)
with torch.inference_mode():
    full_logits = model(torch.tensor([written[:-1]]))[0, len(prompt) - 1 :]  # all at once, without a cache
if folder is not None:
    probabilities = full_logits[0].softmax(dim=0)
    best = probabilities.topk(5)
    table(
        [f"after “{PROMPT}”", "probability"],
        [
            (repr(tokenizer.decode([number])), chance)
            for number, chance in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ],
    )
    print(f"  it writes: {tokenizer.decode(written)!r}")
work = {
    "with a cache": sum(forward_flops(model.config, n) for n in range(1, 513)),
    "without": sum(
        n * forward_flops(model.config, n // 2) for n in range(1, 513)
    ),  # n tokens, each sees n / 2 on average
}
table(["512 tokens one by one", "GFLOP"], [(name, flops / 1e9) for name, flops in work.items()])

# %% [markdown]
# ## Experiment: experts that nobody asks · 实验：没人用的专家

# %% [markdown] lang="en"
# A router learns from the experts that it has chosen, and only those experts learn. Who is chosen early gets better and is
# chosen again: routing collapses. The task: inputs from 8 clusters, each with its own linear map, 8 experts, 2 for each token.
# All inputs share a large common part, as features in a real network do, so that at the start a few experts win everywhere.
# 100 updates, three seeds, with and without 0.1 times the balance loss.

# %% [markdown] lang="zh"
# 路由器只从它选中的专家那里学，也只有被选中的专家在学。早被选中的变得更好，于是又被选中：路由塌缩。
# 任务：输入来自 8 个簇，每个簇有自己的线性映射；8 个专家，每个词元用 2 个。
# 所有输入都有一个很大的公共部分（真实网络里的特征也是这样），所以一开始少数专家到处占优。
# 更新 100 次，三个种子，加或不加 0.1 倍的均衡损失。

# %%
quiz(
    "idle",
    en="Without the balance loss, how many of the 8 experts get less than 1 % of the choices (mean of three seeds)?",
    zh="不加均衡损失时，8 个专家里有几个得到的选择不到 1 %（三个种子的均值）？",
)
EXPERTS, SEEDS, WIDTH = 8, (0, 1, 2), 16


def learn(seed: int, balance: float) -> tuple[float, torch.Tensor]:
    """Trains a mixture; returns its last error, and the share of the choices that falls on each expert."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    mixture = MixtureOfExperts(WIDTH, 16, EXPERTS, experts_per_token=2)
    with torch.no_grad():
        for parameter in mixture.parameters():
            parameter.mul_(10)  # a small network wants larger weights than 0.02
    common = 4 * torch.randn(WIDTH, generator=generator)
    centers = torch.randn(EXPERTS, WIDTH, generator=generator) + common
    maps = torch.randn(EXPERTS, WIDTH, WIDTH, generator=generator) / 4
    optimizer = torch.optim.Adam(mixture.parameters(), lr=1e-2, fused=True)
    for _ in range(100):
        cluster = torch.randint(EXPERTS, (256,), generator=generator)
        x = centers[cluster] + 0.3 * torch.randn(256, WIDTH, generator=generator)
        wanted = (maps[cluster].transpose(1, 2) @ x[:, :, None])[:, :, 0]
        with collect_router_logits(mixture) as router_logits:
            error = F.mse_loss(mixture(x), wanted)
        optimizer.zero_grad()
        (error + balance * load_balancing_loss(router_logits, 2)).backward()
        optimizer.step()
    chosen = mixture.gate(x)[2]  # [256, 2]
    return error.item(), F.one_hot(chosen, EXPERTS).sum(dim=1).float().mean(dim=0) / 2


learned = {(balance, seed): learn(seed, balance) for balance in (0.0, 0.1) for seed in SEEDS}
errors = {balance: [learned[balance, seed][0] for seed in SEEDS] for balance in (0.0, 0.1)}
shares = {balance: [learned[balance, seed][1].sort(descending=True).values for seed in SEEDS] for balance in (0.0, 0.1)}
idle = {balance: [int((share < 0.01).sum()) for share in shares[balance]] for balance in (0.0, 0.1)}
table(
    ["balance loss", "error of each seed", "experts under 1 %", "largest share"],
    [
        (
            balance,
            " ".join(f"{error:.2f}" for error in errors[balance]),
            idle[balance],
            " ".join(f"{share[0]:.0%}" for share in shares[balance]),
        )
        for balance in (0.0, 0.1)
    ],
)
settle("idle", sum(idle[0.0]) / len(SEEDS), tolerance=0.7)

figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained", sharey=True)
for axis, balance in zip(axes, (0.0, 0.1), strict=True):
    for seed in SEEDS:
        axis.bar(
            torch.arange(EXPERTS).numpy() + 0.27 * (seed - 1),
            shares[balance][seed].numpy(),
            width=0.25,
            label=f"seed {seed}",
        )
    axis.axhline(1 / EXPERTS, color="grey", linestyle="--", linewidth=1)
    axis.set(xlabel="expert, the busiest first", title=f"balance loss × {balance}")
axes[0].set(ylabel="share of the choices")
axes[1].legend(fontsize=8)
show(figure, "experts")

# %% [markdown] lang="en"
# Without the loss, several experts are never used: memory that was paid for and does nothing. With it, more of them
# work, and the error falls with every seed, since eight maps have more experts to share. The dashed line is an even split;
# 50 % is the most that one expert can get, since each token makes two different choices. A larger factor makes the
# split more even, and in the end bends the router away from what is best for the task.

# %% [markdown] lang="zh"
# 不加均衡损失，好几个专家从来没人用：花了内存却不干活。加上以后，更多专家在工作，每个种子的误差也都下降，
# 因为八个映射有更多专家来分担。虚线是平均分配；50 % 是一个专家能得到的上限，因为每个词元要选两个不同的专家。
# 系数再大，分配会更均匀，但终究会让路由器偏离对任务最好的选择。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# Torch has the parts: `F.rms_norm`, and attention, to which keys and values are given once for each query head. Values and
# gradients must agree. The mixture, with every expert computed for every token and weighted by zero where it was not chosen,
# must equal the sparse one. In this repository's tests the whole model is held against transformers, logits and
# gradients: Llama with plain, linear and Llama 3.1's rotary embedding, Qwen 2, Qwen 3 and Mixtral; and SmolLM2's logits
# against those of `AutoModelForCausalLM` (importing that library takes longer than this lesson).

# %% [markdown] lang="zh"
# torch 有这些部件：`F.rms_norm`，以及注意力，给它的键和值按每个查询头各一份。数值和梯度都必须一致。
# 混合层则与“每个词元都算全部专家、没选中的权重为零”的做法比较，必须与稀疏的相等。
# 本仓库的测试把整个模型与 transformers 比较 logits 和梯度：
# Llama（普通、线性和 Llama 3.1 的旋转编码）、Qwen 2、Qwen 3 和 Mixtral；
# SmolLM2 的 logits 与 `AutoModelForCausalLM` 的比较（导入那个库的时间比整节课还长）。

# %%
generator = torch.Generator().manual_seed(0)
config = LlamaConfig(50, 24, 1, 6, 2, 8, 40)
attention = GroupedQueryAttention(config).double()
x = torch.randn(2, 7, 24, generator=generator, dtype=torch.float64, requires_grad=True)
cos, sin = rotary_cos_sin(torch.arange(7), 8)
ours, our_cache = attention(x, cos, sin)
query, key, value = (
    projection(x).unflatten(-1, (-1, 8)).transpose(1, 2)
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
)
query, key = apply_rotary_emb(query, cos, sin), apply_rotary_emb(key, cos, sin)
repeated = [each.repeat_interleave(3, dim=1) for each in (key, value)]  # heads 0 0 0 1 1 1
by_torch = attention.o_proj(F.scaled_dot_product_attention(query, *repeated, is_causal=True).transpose(1, 2).flatten(2))
parameters = [x, *attention.parameters()]
ours_gradients, torch_gradients = (
    torch.cat([each.flatten() for each in torch.autograd.grad(output.square().sum(), parameters, retain_graph=True)])
    for output in (ours, by_torch)
)
mixture = MixtureOfExperts(24, 40, 4, 2).double()
_, weights, chosen = mixture.gate(x.flatten(0, 1))
all_weights = torch.zeros(14, 4, dtype=torch.float64).scatter(1, chosen, weights.double())  # zero where not chosen
gate, up = torch.einsum("ted,ehd->teh", x.flatten(0, 1)[:, None].expand(-1, 4, -1), mixture.experts.gate_up_proj).chunk(
    2, -1
)
dense = torch.einsum("te,teh,edh->td", all_weights, F.silu(gate) * up, mixture.experts.down_proj).view_as(x)
sparse = mixture(x)

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: RMSNorm of (3, 4)", rms_norm(pair), [0.8485, 1.1314], 1e-4)
check_close("by hand: SwiGLU 5.285 and −0.715", gated, [5.2848, -0.7152], 1e-4)
check_close("by hand: the experts' weights 0.731 and 0.269", by_hand_weights[0], [0.7311, 0.2689], 1e-4)
check_close(
    "by hand: balance loss 2.8 and 1", [load_balancing_loss([each], 1) for each in (all_to_one, even)], [2.8, 1.0], 1e-3
)
check("by hand: Llama 3 8B caches 131,072 bytes for a token", kv_cache_bytes(llama3, 1) == 131_072)
check_close("RMSNorm equals torch's", rms_norm(x), F.rms_norm(x, (24,), eps=1e-6), 1e-6)
check_close("grouped-query attention equals torch's with repeated heads", ours, by_torch, 1e-10)
check_close("so do its gradients, of inputs and weights", ours_gradients, torch_gradients, 1e-9)
check("its cache holds the two heads, not six", our_cache.keys.shape == (2, 2, 7, 8))
check_close("the mixture equals the dense one with zero weights", sparse, dense, 1e-6)
check_close(
    "so do the router's gradients",
    *(torch.autograd.grad(each.square().sum(), mixture.gate.weight, retain_graph=True)[0] for each in (sparse, dense)),
    1e-6,
)
check("Llama 3 8B has 8,030,261,248 parameters", counts["Llama 3 8B"].total == 8_030_261_248)
check("SmolLM2-135M has 134,515,008", counts["SmolLM2-135M"].total == 134_515_008)
check(
    "Mixtral 8x7B stores 46.7 billion and uses 12.9",
    counts["Mixtral 8x7B"].total == 46_702_792_704 and 12.8e9 < counts["Mixtral 8x7B"].active < 13e9,
)
check_close("decoding with a cache gives the logits of decoding without", cached_logits, full_logits, 1e-3)
if folder is not None:
    check("SmolLM2 is the model of the table", sum(each.numel() for each in model.parameters()) == 134_515_008)
    check("SmolLM2 knows the capital of France", "Paris" in tokenizer.decode(written[len(prompt) :]))
check("512 tokens without a cache cost over 100 times the work", work["without"] > 100 * work["with a cache"])
check(
    "the balance loss leaves fewer experts idle, with every seed",
    all(with_loss < without for with_loss, without in zip(idle[0.1], idle[0.0], strict=True)),
)
check(
    "and the error is lower, with every seed",
    all(with_loss < without for with_loss, without in zip(errors[0.1], errors[0.0], strict=True)),
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# `Llama` reads the files of a published model: `load_pretrained(folder)` of its safetensors, `load_gguf(file)` of llama.cpp's
# format; `uv run data fetch smollm2-135m-instruct` brings one of 135 million parameters. It is the network that the rest of this
# phase tokenizes for, quantizes, speeds up and tunes.
#
# Papers: [Touvron et al. 2023](https://arxiv.org/abs/2302.13971), LLaMA; [Grattafiori et al.
# 2024](https://arxiv.org/abs/2407.21783), Llama 3; [Zhang & Sennrich 2019](https://arxiv.org/abs/1910.07467), RMSNorm;
# [Shazeer 2020](https://arxiv.org/abs/2002.05202), SwiGLU; [Ainslie et al. 2023](https://arxiv.org/abs/2305.13245), grouped
# queries; [Shazeer et al. 2017](https://arxiv.org/abs/1701.06538), experts; [Fedus et al.
# 2021](https://arxiv.org/abs/2101.03961), balance loss; [Jiang et al. 2024](https://arxiv.org/abs/2401.04088), Mixtral;
# [Allal et al. 2025](https://arxiv.org/abs/2502.02737), SmolLM2. Next: how text becomes tokens, 12/02.

# %% [markdown] lang="zh"
# `Llama` 能读公开模型的文件：`load_pretrained(folder)` 读 safetensors，`load_gguf(file)` 读 llama.cpp 的格式；
# `uv run data fetch smollm2-135m-instruct` 会取来一个 1.35 亿参数的模型。本阶段后面的课为它分词、给它量化、让它加速、对它微调。
#
# 论文：[Touvron 等 2023](https://arxiv.org/abs/2302.13971)，LLaMA；
# [Grattafiori 等 2024](https://arxiv.org/abs/2407.21783)，Llama 3；
# [Zhang 与 Sennrich 2019](https://arxiv.org/abs/1910.07467)，RMSNorm；[Shazeer 2020](https://arxiv.org/abs/2002.05202)，SwiGLU；
# [Ainslie 等 2023](https://arxiv.org/abs/2305.13245)，分组查询；[Shazeer 等 2017](https://arxiv.org/abs/1701.06538)，专家混合；
# [Fedus 等 2021](https://arxiv.org/abs/2101.03961)，均衡损失；[Jiang 等 2024](https://arxiv.org/abs/2401.04088)，Mixtral；
# [Allal 等 2025](https://arxiv.org/abs/2502.02737)，SmolLM2。下一课：文字怎样变成词元，12/02。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `GroupedQueryAttention.forward`, `SwiGLU.forward` and `Llama.features` yourself. `uv run lesson exercise 12/01` makes a
# file with their signatures, `uv run lesson check 12/01` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `GroupedQueryAttention.forward`、`SwiGLU.forward` 和 `Llama.features`。
# `uv run lesson exercise 12/01` 生成带有签名的文件，`uv run lesson check 12/01` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Project, cut the last axis into heads with `unflatten(-1, (-1, self.head_dim))`, and move the heads before the tokens.
#    Queries have more heads than keys: do not name the number, let −1 find it.
# 2. `q_norm` and `k_norm` (the identity in a Llama) come before the rotation. Values are neither normalized nor turned.
# 3. The cache that is returned holds the turned keys of *all* tokens: `cache.append(new)`, or `new` if there was none.
# 4. `F.scaled_dot_product_attention(..., enable_gqa=True)`, with `is_causal` only where no mask is given.
# 5. In `features`, positions count on from the cache; with a cache and no mask, `causal_mask(tokens, cached)` is the mask.
#    Give `rotary_cos_sin` positions `[batch, 1, tokens]` and the model's own frequencies. Collect each layer's cache, and
#    stack them at the end.

# %% [markdown] lang="zh"
# 1. 先投影，再用 `unflatten(-1, (-1, self.head_dim))` 把最后一轴切成头，并把头移到词元之前。
#    查询的头比键多：不要写死头数，让 −1 去算。
# 2. `q_norm` 和 `k_norm`（在 Llama 里是恒等）在旋转之前。值既不归一化，也不旋转。
# 3. 返回的缓存含有*所有*词元的已旋转的键：`cache.append(new)`，原来没有缓存就是 `new`。
# 4. `F.scaled_dot_product_attention(..., enable_gqa=True)`，只有没给掩码时才用 `is_causal`。
# 5. 在 `features` 中，位置从缓存之后接着数；有缓存而没给掩码时，掩码是 `causal_mask(tokens, cached)`。
#    给 `rotary_cos_sin` 的位置是 `[batch, 1, tokens]`，频率用模型自己的。收集每层的缓存，最后叠起来。


# %%
@exercise(GroupedQueryAttention.forward, SwiGLU.forward, Llama.features)
def judge(yours, reference):
    torch.manual_seed(0)
    for heads, kv_heads, qk_norm in ((4, 4, False), (6, 2, False), (6, 1, True)):
        config = LlamaConfig(31, 20, 1, heads, kv_heads, 8, 36, qk_norm=qk_norm)
        mine, theirs = (each.GroupedQueryAttention(config).double() for each in (yours, reference))
        mine.load_state_dict(theirs.state_dict())
        named = f"{heads} query heads, {kv_heads} key-value heads"
        x = torch.randn(2, 6, 20, dtype=torch.float64)
        cos, sin = rotary_cos_sin(torch.arange(6), 8)
        found, expected = mine(x, cos, sin), theirs(x, cos, sin)
        check(f"attention gives [batch, tokens, dim]: {named}", found[0].shape == (2, 6, 20))
        check(f"the cache has {kv_heads} heads: {named}", found[1].keys.shape == (2, kv_heads, 6, 8))
        check_close(f"the cached values: {named}", found[1].values, expected[1].values)
        check_close(f"the cached keys: {named}", found[1].keys, expected[1].keys)
        check_close(f"attention: {named}", found[0], expected[0])
        mask = torch.ones(6, 6, dtype=torch.bool).tril()
        mask[:, 2] = False
        check_close(f"attention with a mask: {named}", mine(x, cos, sin, mask)[0], theirs(x, cos, sin, mask)[0])
        new, more = torch.randn(2, 3, 20, dtype=torch.float64), rotary_cos_sin(6 + torch.arange(3), 8)
        allowed = torch.ones(3, 9, dtype=torch.bool).tril(6)
        found, expected = mine(new, *more, allowed, found[1]), theirs(new, *more, allowed, expected[1])
        check_close(f"attention after a cache: {named}", found[0], expected[0])
        check_close(f"the cache extended: {named}", found[1].keys, expected[1].keys)
        for each in (found[0], expected[0]):
            each.square().sum().backward()
        check_close(f"the gradient of k_proj: {named}", mine.k_proj.weight.grad, theirs.k_proj.weight.grad)

    mine, theirs = (each.SwiGLU(10, 24) for each in (yours, reference))
    mine.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 5, 10)
    check_close("SwiGLU", mine(x), theirs(x))
    for each in (mine(x), theirs(x)):
        each.square().sum().backward()
    check_close("the gradient of gate_proj", mine.gate_proj.weight.grad, theirs.gate_proj.weight.grad)

    for scaling in (None, RopeScaling("linear", 4.0)):
        config = LlamaConfig(31, 20, 3, 4, 2, 8, 36, rope_theta=500.0, rope_scaling=scaling)
        mine, theirs = (each.Llama(config) for each in (yours, reference))
        for parameter in theirs.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        mine.load_state_dict(theirs.state_dict())
        tokens = torch.randint(31, (2, 9))
        named = "scaled rotary embedding" if scaling else "plain rotary embedding"
        with torch.no_grad():
            found, expected = mine.features(tokens), theirs.features(tokens)
            check_close(f"features: {named}", found[0], expected[0], 1e-4)
            check("the cache is [batch, layers, heads, tokens, head_dim]", found[1].keys.shape == (2, 3, 2, 9, 8))
            found, expected = (each.features(tokens[:, :3], cache=found[1]) for each in (mine, theirs))
            check_close(f"features after a cache: {named}", found[0], expected[0], 1e-4)
            positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]]).expand(2, -1)
            check_close(
                f"features at positions of one's own: {named}",
                mine.features(tokens, positions)[0],
                theirs.features(tokens, positions)[0],
                1e-4,
            )
            read = torch.randn(2, 9, 20)
            check_close(
                f"features of embeddings instead of tokens: {named}",
                mine.features(tokens, embeddings=read)[0],
                theirs.features(tokens, embeddings=read)[0],
                1e-4,
            )


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why grouped-query attention, and not multi-head or multi-query? · 为什么用分组查询注意力，而不用多头或多查询？

# %% [markdown] lang="en"
# While writing, every step reads the whole cache from memory; its size bounds both the speed and the number of users. One
# shared head of keys and values makes it smallest, but loses some quality and cannot be split over several GPUs. Eight heads
# keep nearly the quality of all 32 at a quarter of the cache, and each of eight GPUs can hold one. Parameters and FLOPs change
# little: only W_k and W_v shrink.

# %% [markdown] lang="zh"
# 生成时每一步都要从内存读整个缓存，它的大小既限制速度，也限制能服务多少用户。只共用一个键值头，缓存最小，
# 但质量有所下降，而且无法分到几块 GPU 上。八个头的质量接近全部 32 个，缓存只有四分之一，八块 GPU 正好各放一个。
# 参数和运算量变化不大：只有 W_k 和 W_v 变小。

# %%
for heads in (32, 8, 1):
    config = LlamaConfig(128_256, 4096, 32, 32, heads, 128, 14_336)
    print(
        f"  {heads} key-value heads: {kv_cache_bytes(config, CONTEXT) / 2**30:.3f} GiB of cache, "
        f"{count_parameters(config).total / 1e9:.2f} B parameters, {forward_flops(config, CONTEXT) / 1e9:.1f} GFLOP a token"
    )

# %% [markdown]
# ### Why RMSNorm instead of LayerNorm? · 为什么用 RMSNorm 代替 LayerNorm？

# %% [markdown] lang="en"
# What keeps a deep network stable is that the scale of the features is fixed; subtracting the mean adds little. RMSNorm drops
# the mean and the bias: one statistic instead of two, fewer reads, no worse a result. It is still invariant to the
# scale of its input, but no longer to a shift.

# %% [markdown] lang="zh"
# 让深层网络稳定的是特征的尺度被固定；减均值没有多大帮助。RMSNorm 去掉了均值和偏置：只算一个统计量，读写更少，结果不差。
# 它对输入的缩放仍然不变，但对平移不再不变。

# %%
features = torch.randn(4, 64, generator=generator)
for name, norm in (("RMSNorm", rms_norm), ("LayerNorm", lambda each: F.layer_norm(each, (64,)))):
    scaled, moved = (
        (norm(10 * features) - norm(features)).abs().max(),
        (norm(features + 3) - norm(features)).abs().max(),
    )
    print(f"  {name}: input ten times as large moves the output by {scaled:.1e}, input plus 3 by {moved:.1e}")

# %% [markdown]
# ### Why is Llama 2's feed-forward width 11,008 and not four times 4,096? · Llama 2 的前馈宽度为什么是 11,008，而不是 4 倍的 4,096？

# %% [markdown] lang="en"
# SwiGLU has three matrices where GPT-2 has two. To keep the number of parameters, the width is multiplied by 2/3: two thirds of 16,384
# is 10,923, rounded up to a multiple of 256 it is 11,008. At the same size, a gated network reaches a lower loss
# (Shazeer 2020 found so empirically and offers no explanation). Later models are free in their choice: Llama 3 8B takes 3.5
# times the width.

# %% [markdown] lang="zh"
# SwiGLU 有三个矩阵，GPT-2 的前馈有两个。要保持参数量，宽度乘以 2/3：16,384 的三分之二是 10,923，向上取到 256 的倍数就是 11,008。
# 参数量相同时，带门的网络损失更低（Shazeer 2020 只是由实验发现，没有给出解释）。后来的模型自由选择：Llama 3 8B 取 3.5 倍。

# %%
print(f"  two matrices, 4 × 4,096: {2 * 4096 * 4 * 4096:,} parameters; three, 11,008: {3 * 4096 * 11_008:,}")
print(f"  2/3 of 16,384, up to a multiple of 256: {-(-(2 * 16_384 // 3) // 256) * 256:,}")

# %% [markdown]
# ### A mixture has 47 billion parameters and "the speed of 13". When is that true? · 混合模型有 470 亿参数，“速度相当于 130 亿”。什么时候成立？

# %% [markdown] lang="en"
# In arithmetic, always. In memory it needs all 47 billion. And writing for a single user is bound by reading weights: 13
# billion of them for each token, so the saying holds. With a batch of users, different tokens choose different experts, and soon
# all weights are read at every step; then the mixture is slower than a dense model of 13 billion, until the batch is so large that
# arithmetic counts.

# %% [markdown] lang="zh"
# 就运算量而言总是成立。内存则要装下全部 470 亿。为单个用户生成时，瓶颈是读权重：每个词元读 130 亿，这话成立。
# 一批用户同时生成时，不同词元选不同的专家，很快每一步都要读全部权重；这时它比 130 亿的稠密模型慢，
# 直到批大到瓶颈变成运算为止。

# %%
for batch in (1, 2, 4, 8, 32):
    untouched = (1 - mixtral.experts_per_token / mixtral.num_experts) ** batch  # if choices were even and independent
    print(f"  {batch} tokens at once: {1 - untouched:.0%} of the experts are read")

# %% [markdown]
# ### Why is writing slow although it needs little arithmetic? · 生成的运算量不大，为什么还慢？

# %% [markdown] lang="en"
# Reading a prompt multiplies each weight with many tokens at once: it is bound by arithmetic. Writing multiplies each weight with
# one token: two operations for two bytes, while a GPU can do several hundred in the time it reads one. So the time per token is
# the bytes of weights and cache over the memory bandwidth. That is why quantization, batches, shared heads and speculative
# decoding help, and why faster arithmetic does not.

# %% [markdown] lang="zh"
# 读提示时，每个权重一次与许多词元相乘：瓶颈是运算。写的时候，每个权重只与一个词元相乘：每两个字节做两次运算，
# 而 GPU 读一个字节的时间里能做几百次。所以每个词元的时间等于权重加缓存的字节数除以内存带宽。
# 这就是量化、批处理、共用头和投机解码有用的原因，也是更快的运算没有用的原因。

# %%
moved = 2 * counts["Llama 3 8B"].active + caches["Llama 3 8B"]  # bytes, 16-bit
print(f"  Llama 3 8B after 8,192 tokens: {moved / 1e9:.1f} GB to read for a token")
print(
    f"  {forward_flops(llama3, CONTEXT) / moved:.1f} operations for each byte; at 1,000 GB/s at most {1e12 / moved:.0f} tokens/s"
)

# %% [markdown]
# ### How did Llama 3.1 get from 8,192 to 131,072 tokens? · Llama 3.1 怎样从 8,192 个词元扩展到 131,072 个？

# %% [markdown] lang="en"
# The slow pairs of the rotary embedding, which had not made a full turn within 8,192 tokens, would reach angles that training had never
# shown. They are slowed by the factor 8. The fast pairs, which tell near tokens apart, have shown all angles and are
# kept; those between are blended. Then training continued on long texts. Dividing all frequencies (position
# interpolation, 07/03) would have blurred near positions as well.

# %% [markdown] lang="zh"
# 旋转编码里慢的那些对，在 8,192 个词元之内还没转满一圈，再往后就会到训练中从未见过的角度，所以放慢到 1/8。
# 快的对负责分清相邻词元，所有角度都见过，保持不变；中间的按比例混合。然后再用长文本继续训练。
# 如果把所有频率都除以同一个数（位置内插，07/03），近处的位置也会变得模糊。

# %%
frequencies = rotary_frequencies(128, 500_000.0)
slowed = frequencies / RopeScaling("llama3", 8.0).scale(frequencies)
print(
    f"  64 pairs: {int((slowed < 1.001).sum())} kept, {int((slowed > 7.999).sum())} slowed 8 times, the others between"
)
