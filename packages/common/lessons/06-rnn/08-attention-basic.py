# %% [markdown]
# # Attention · 注意力机制
#
# A decoder that starts from the encoder's last state has to find everything in one vector. Attention lets it look at
# all of the encoder's states, and learn where to look: each step scores every source position, a softmax turns the
# scores into weights, and the weighted sum of the states joins the step.
#
# There are two classic forms. Bahdanau's asks with the state before the step and scores with a small network; Luong's
# asks with the state after the step and scores with a product. The lesson holds both to their formulas, trains them
# beside the decoder without attention, on the Roman numerals of the lesson before, and draws where they look. Nobody
# tells them which symbols make which digit.
#
# 如果解码器只能从编码器的最后一个状态出发，所有信息都必须挤进一个向量。注意力让它能看到编码器的全部状态，
# 并学会往哪里看：每一步给每个源位置打分，softmax 把分数变成权重，状态的加权和参与这一步的计算。
# 两种经典形式：Bahdanau 用这一步之前的状态提问，用小网络打分；Luong 用这一步之后的状态提问，用乘积打分。
# 本课验证两者与公式一致，与没有注意力的解码器一起在罗马数字任务上训练，并画出它们看向哪里：
# 没有人告诉它们哪些符号构成哪一位数字。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, show, table
from dlcommon.rnn.attention import AdditiveAttention, DotProductAttention, GeneralAttention
from dlcommon.rnn.roman import VOCAB_SIZE, decode, encode, to_roman
from dlcommon.rnn.seq2seq import PAD, BahdanauDecoder, Decoder, Encoder, LuongDecoder, Seq2Seq
from torch import nn
from torch.nn import functional as F

random = torch.Generator().manual_seed(0)

# %% [markdown]
# ## Three scores · 三种打分
#
# For a query q and a key k: additive vᵀ tanh(W q + U k) (Bahdanau), dot qᵀ k and general qᵀ W k (Luong). All three go
# through the same softmax, in which places beyond a source's end get no weight.

# %%
query = torch.randn(2, 3, 8, generator=random, dtype=torch.float64)
keys = torch.randn(2, 5, 8, generator=random, dtype=torch.float64)
mask = torch.arange(5) < torch.tensor([5, 3])[:, None]
additive, dot, general = AdditiveAttention(8, 8, 16).double(), DotProductAttention(), GeneralAttention(8, 8).double()

context, weights = additive(query, keys, mask)
alone, _ = additive(query[1:], keys[1:, :3], mask[1:, :3])  # without the places beyond its end
q, row = query[1, 2], keys[1, :3]  # the second source ends after three states
scores = torch.stack(
    [
        additive.score.weight[0] @ torch.tanh(additive.query_proj.weight @ q + additive.key_proj.weight @ key)
        for key in row
    ]
)
by_hand = scores.softmax(dim=0) @ row
dot_context, _ = dot(query, keys, mask)
by_torch = F.scaled_dot_product_attention(query, keys, keys, mask[:, None], scale=1.0)
general_context, _ = general(query, keys, mask)
as_dot, _ = dot(query @ general.key_proj.weight, keys, mask)

# %% [markdown]
# ## The same task, the same training · 同样的任务与训练
#
# Each decoder is trained from three starts, since a single one can mislead.
# 每种解码器都从三个初始值训练，因为只看一次结果可能误导人。

# %%
numbers = torch.randperm(3999, generator=random) + 1
source, lengths, target = encode(numbers.tolist())
train, test = torch.arange(3000), torch.arange(3000, 3999)


# %%
def translate(decoder, seed, epochs=4):
    """Trains on the numerals; returns the model, its losses, and the share of whole numbers right, of those unseen."""
    torch.manual_seed(seed)
    draws, losses = torch.Generator().manual_seed(1), []
    model = Seq2Seq(Encoder(VOCAB_SIZE, 64), decoder(VOCAB_SIZE, 64))
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * 30)
    for _ in range(epochs):
        for rows in train[torch.randperm(len(train), generator=draws)].split(100):
            logits = model(source[rows], lengths[rows], target[rows, :-1]).logits
            loss = F.cross_entropy(logits.flatten(0, 1), target[rows, 1:].flatten(), ignore_index=PAD)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    said, _ = model.greedy_decode(source[test], lengths[test], max_length=target.shape[1] - 1)
    right = [answer == truth for answer, truth in zip(decode(said), decode(target[test, 1:]), strict=True)]
    return model, losses, sum(right) / len(right)


decoders = {"no attention": Decoder, "Luong": LuongDecoder, "Bahdanau": BahdanauDecoder}
runs = {name: [translate(decoder, seed) for seed in range(3)] for name, decoder in decoders.items()}
trained = {name: starts[0] for name, starts in runs.items()}
shares = {name: [share for _, _, share in starts] for name, starts in runs.items()}
table(
    ("decoder", "weights", *(f"numbers right, seed {seed}" for seed in range(3))),
    [
        (name, sum(parameter.numel() for parameter in trained[name][0].parameters()), *right)
        for name, right in shares.items()
    ],
)

# %% [markdown]
# Attention by itself is no gain here: Luong's decoder does not learn the numerals either. Bahdanau's learns the
# numerals, with every seed. The two differ in two things, in how they score and in whether what was found enters the
# state; this comparison does not tell which of the two matters.
#
# 注意力本身在这里并不带来收益：Luong 的解码器同样没有学会；Bahdanau 的解码器在每个随机种子下都学会了。
# 两者有两处不同（打分方式、看到的内容是否进入状态），这个比较并不能说明是哪一处在起作用。
#
# ## Where it looks · 它看向哪里
#
# One row for each digit said, one column for each symbol read. In MCMXCIV the 1 comes from M, the first 9 from CM, the
# second from XC and the 4 from IV. The encoder's state at a symbol also knows what came before it, so the weight often
# lies at the last symbol of a digit, or just behind it.

# %%
shown = (1994, 2888, 3649)
sources, shown_lengths, truths = encode(shown)
said, looked = trained["Bahdanau"][0].greedy_decode(sources, shown_lengths, max_length=5)
answers = decode(said)
fig, axes = plt.subplots(1, 4, figsize=(17, 3.8), width_ratios=(1.4, 0.8, 1.2, 1.2), layout="constrained")
for name, (_, losses, share) in trained.items():
    axes[0].plot(losses, label=f"{name}: {share:.0%} right")
axes[0].set(yscale="log", xlabel="update", ylabel="cross-entropy, nats", title="The same updates, three decoders")
axes[0].legend()
for axis, number, answer, weight in zip(axes[1:], shown, answers, looked, strict=True):
    numeral = to_roman(number)
    axis.imshow(weight[: len(answer), : len(numeral)].numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(numeral)), numeral)
    axis.set_yticks(range(len(answer)), answer)
    axis.set(title=f"{numeral} → {answer}")
axes[1].set_ylabel("said (Bahdanau)")
show(fig, "where-it-looks")

# %% [markdown]
# ## It looks from left to right · 从左看到右
#
# For each digit the centre of its weights: the mean position, over all four-digit numbers of the test.

# %%
four = test[numbers[test] >= 1000]
said, looked = trained["Bahdanau"][0].greedy_decode(source[four], lengths[four], max_length=4)
ends = (lengths[four, None] - 1).clamp(min=1)
centres = ((looked * torch.arange(looked.shape[2])).sum(dim=2) / ends).mean(dim=0)  # [4], from 0 to 1
table(("digit", "looks at (0: first symbol, 1: last)"), list(enumerate(centres.tolist(), start=1)))

# %%
check_close("additive attention is its formula", context[1, 2], by_hand, 1e-12)
check_close("dot attention is torch's scaled_dot_product_attention at scale 1", dot_context, by_torch, 1e-12)
check_close("general attention is the dot attention of a mapped query", general_context, as_dot, 1e-12)
check("nothing is looked at beyond a source's end", weights[1, :, 3:].abs().max() == 0)
check_close("padding changes nothing: the shorter source alone gives the same", context[1], alone[0], 1e-12)
others = max(shares["no attention"] + shares["Luong"])
check("Bahdanau's decoder has learned the numerals in four epochs, with every seed", min(shares["Bahdanau"]) > 0.8)
check("the other two have not, with any", others < 0.6)
check("it looks from left to right, digit by digit", bool((centres.diff() > 0).all()))
