# %% [markdown]
# # RLHF basics · RLHF 原理

# %% [markdown] lang="en"
# After this lesson you can train a reward model from preferences, improve a language model against it with PPO and without it
# with DPO, improve one against a checkable reward with GRPO, estimate how far it has moved, and recognize the moment at which a
# learned reward is being cheated. You need sampling from a language model (07/10) and its architecture (12/01).

# %% [markdown] lang="zh"
# 学完本课，你能用偏好数据训练奖励模型，能用 PPO 针对它改进语言模型、用 DPO 绕开它改进，能用 GRPO 针对可检验的奖励改进，
# 能估计模型离出发点多远，也能看出学来的奖励从什么时候起在被钻空子。先修：语言模型的采样（07/10）及其架构（12/01）。

# %%
import copy
import math

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.llm.dpo import dpo_loss, sequence_log_probs
from dlcommon.llm.grpo import group_advantages, grpo_loss
from dlcommon.llm.kl_estimators import k1, k2, k3
from dlcommon.llm.llama import Llama, LlamaConfig
from dlcommon.llm.log_probs import token_log_probs
from dlcommon.llm.ppo import (
    clipped_objective,
    generalized_advantages,
    masked_mean,
    normalize_advantages,
    penalized_rewards,
)
from dlcommon.llm.reward_model import RewardModel, bradley_terry_loss
from dlcommon.llm.rollouts import sample_answers
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A language model continues text as people write it, with their mistakes, and helpfulness is not what its loss measures. We would
# rather have it write *good* answers. But nobody can write down the function that tells a good answer from a bad one, and the
# answer is a sequence of sampled tokens, through which no gradient flows.
#
# What people can do is compare: of these two answers, the second is better. How does one get from comparisons to a better model?
# And if a network learns to give marks in people's place, what happens when another network is trained to get high marks?

# %% [markdown] lang="zh"
# 语言模型按人们写作的样子续写文本，连错误也一起学；它的损失并不衡量“有没有用”。我们更希望它写出*好*的回答。
# 但没有人能写出区分好坏的函数，而且回答是一串抽样得到的词元，梯度传不过去。
#
# 人们能做的是比较：这两个回答里，第二个更好。怎样从比较得到更好的模型？
# 如果让一个网络代替人打分，再训练另一个网络去拿高分，会发生什么？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Reward model*: two answers have rewards 2 and 1. By Bradley and Terry the first is preferred with probability
# $\sigma(2 - 1) = 0.731$; if it was, the loss is $-\ln 0.731 = 0.313$.
#
# *Best policy*: two answers, both with probability 0.5 before; rewards 1 and 0; $\beta = 1$. Each probability is multiplied by
# $e^{r/\beta}$ and the two are normalized: $0.5 e / (0.5 e + 0.5) = 0.731$.
#
# *Advantages*: three tokens, the critic expects 0.5, 0.6, 0.8 before each, and the reward 1 comes after the last. The surprises are
# $0.6 - 0.5 = 0.1$, $0.8 - 0.6 = 0.2$, $1 - 0.8 = 0.2$. With $\lambda = 0.95$: the last advantage is 0.2, the one before
# $0.2 + 0.95 \cdot 0.2 = 0.39$, the first $0.1 + 0.95 \cdot 0.39 = 0.4705$.
#
# *PPO*, $\epsilon = 0.2$: a token has become 1.5 times as probable. With advantage 1 the objective counts only 1.2: nothing is
# left to gain. With advantage −1 it is −1.5: the whole mistake counts.
#
# *KL*: policy $(0.8, 0.2)$, reference $(0.5, 0.5)$. The divergence is $0.8 \ln 1.6 + 0.2 \ln 0.4 = 0.193$. A sample of the first
# token gives $k_1 = 0.470$, $k_2 = 0.110$, $k_3 = 0.095$; of the second $-0.916$, $0.420$, $0.584$. On average: 0.193, 0.172, 0.193.
#
# *DPO*, $\beta = 0.5$: the preferred answer's log-probability has risen by 0.4, the other's fallen by 0.6. The margin is
# $0.5 \cdot (0.4 + 0.6) = 0.5$, the loss $-\ln \sigma(0.5) = 0.474$.
#
# *GRPO*: four answers to one sum, two are right: rewards 1, 0, 0, 1. Less their mean 0.5, over their standard deviation 0.577:
# advantages $0.866, -0.866, -0.866, 0.866$.

# %% [markdown] lang="zh"
# *奖励模型*：两个回答的奖励是 2 和 1。按 Bradley–Terry，第一个被偏好的概率是 $\sigma(2 - 1) = 0.731$；
# 如果人们确实选了它，损失是 $-\ln 0.731 = 0.313$。
#
# *最优策略*：两个回答，原来概率都是 0.5；奖励 1 和 0；$\beta = 1$。各自的概率乘以 $e^{r/\beta}$ 再归一化：
# $0.5 e / (0.5 e + 0.5) = 0.731$。
#
# *优势*：三个词元，评论家在每个之前预期 0.5、0.6、0.8，最后一个之后得到奖励 1。
# 意外之量是 $0.6 - 0.5 = 0.1$、$0.8 - 0.6 = 0.2$、$1 - 0.8 = 0.2$。
# 取 $\lambda = 0.95$：最后一个优势是 0.2，前一个是 $0.2 + 0.95 \cdot 0.2 = 0.39$，第一个是 $0.1 + 0.95 \cdot 0.39 = 0.4705$。
#
# *PPO*，$\epsilon = 0.2$：一个词元的概率变成了 1.5 倍。优势为 1 时，目标只算 1.2：再增大也没有好处。
# 优势为 −1 时是 −1.5：错误全部算上。
#
# *KL*：策略 $(0.8, 0.2)$，参考 $(0.5, 0.5)$。散度是 $0.8 \ln 1.6 + 0.2 \ln 0.4 = 0.193$。
# 抽到第一个词元时 $k_1 = 0.470$、$k_2 = 0.110$、$k_3 = 0.095$；抽到第二个时是 $-0.916$、$0.420$、$0.584$。
# 平均：0.193、0.172、0.193。
#
# *DPO*，$\beta = 0.5$：被偏好的回答的对数概率升了 0.4，另一个降了 0.6。间隔是 $0.5 \cdot (0.4 + 0.6) = 0.5$，
# 损失是 $-\ln \sigma(0.5) = 0.474$。
#
# *GRPO*：对同一道加法题的四个回答，两个正确：奖励 1、0、0、1。减去均值 0.5，除以标准差 0.577：
# 优势 $0.866, -0.866, -0.866, 0.866$。

# %%
by_hand_preference = bradley_terry_loss(torch.tensor([2.0]), torch.tensor([1.0]))
by_hand_best = (torch.tensor([0.5, 0.5]).log() + torch.tensor([1.0, 0.0])).softmax(dim=0)
by_hand_advantages = generalized_advantages(
    torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.6, 0.8]]), torch.ones(1, 3, dtype=torch.bool)
)
by_hand_clipped = clipped_objective(torch.tensor([1.5, 1.5]).log(), torch.zeros(2), torch.tensor([1.0, -1.0]))
log_policy, log_reference = torch.tensor([0.8, 0.2]).log(), torch.tensor([0.5, 0.5]).log()
by_hand_kl = [log_policy.exp() @ estimator(log_policy, log_reference) for estimator in (k1, k2, k3)]
by_hand_dpo = dpo_loss(torch.tensor([0.4]), torch.tensor([-0.6]), torch.zeros(1), torch.zeros(1), beta=0.5)
by_hand_group = group_advantages(torch.tensor([[1.0, 0.0, 0.0, 1.0]]))
table(
    ["what", "result"],
    [
        ("Bradley-Terry loss of rewards 2 and 1", by_hand_preference.item()),
        ("best policy for rewards 1 and 0", [round(value, 3) for value in by_hand_best.tolist()]),
        ("advantages", [round(value, 4) for value in by_hand_advantages[0].tolist()]),
        ("PPO, ratio 1.5, advantages 1 and −1", [round(value, 3) for value in by_hand_clipped.tolist()]),
        ("means of k1, k2, k3", [round(value.item(), 3) for value in by_hand_kl]),
        ("DPO loss", by_hand_dpo.loss.item()),
        ("advantages in the group", [round(value, 3) for value in by_hand_group[0].tolist()]),
    ],
)

drawing = Schematic(13.6, 4.6, "Three ways from comparisons or checks to a better policy")
for name, x, y, text, kind, width in (
    ("pairs", 1.3, 3.4, "preferences:\nA better than B", "data", 2.0),
    ("rm", 4.2, 3.9, "reward model\n(Bradley-Terry)", "parameter", 2.0),
    ("critic", 7.0, 3.9, "critic", "parameter", 1.3),
    ("ppo", 9.4, 3.4, "PPO: clipped\nobjective", "operation", 1.8),
    ("dpo", 6.2, 2.5, "DPO: one supervised loss", "operation", 2.9),
    ("check", 1.3, 1.0, "a program that\nchecks answers", "operation", 2.0),
    ("group", 4.9, 1.0, "several answers,\nless their mean", "operation", 2.0),
    ("grpo", 8.4, 1.0, "GRPO", "operation", 1.3),
    ("policy", 12.2, 2.3, "policy", "parameter", 1.4),
    ("reference", 12.2, 0.7, "frozen reference", "parameter", 2.0),
):
    drawing.box(name, x, y, text, kind, width, height=0.8 if "\n" in text else 0.55)
for start, end in (
    ("pairs", "rm"), ("rm", "critic"), ("critic", "ppo"), ("ppo", "policy"), ("pairs", "dpo"), ("dpo", "policy"),
    ("check", "group"), ("group", "grpo"), ("grpo", "policy"), ("reference", "policy"),
):  # fmt: skip
    drawing.arrow(start, end, label="KL" if start == "reference" else "")
show(drawing.figure, "methods")

# %% [markdown]
# ## Formula · 公式
#
# $$\max_\pi \; \mathbb{E}_{y \sim \pi} \, r(x, y) - \beta \, \mathrm{KL}(\pi \,\|\, \pi_{\mathrm{ref}}), \qquad \pi^*(y \mid x) = \frac{1}{Z} \, \pi_{\mathrm{ref}}(y \mid x) \, e^{r(x, y) / \beta}$$
#
# $$L_{\mathrm{RM}} = -\log \sigma\big( r(x, y_w) - r(x, y_l) \big)$$
#
# $$L_{\mathrm{DPO}} = -\log \sigma\Big( \beta \log \frac{\pi(y_w \mid x)}{\pi_{\mathrm{ref}}(y_w \mid x)} - \beta \log \frac{\pi(y_l \mid x)}{\pi_{\mathrm{ref}}(y_l \mid x)} \Big)$$
#
# $$\delta_t = r_t + \gamma V_{t+1} - V_t, \qquad A_t = \sum_{l \ge 0} (\gamma \lambda)^l \delta_{t+l}$$
#
# $$J_{\mathrm{PPO}} = \min\big( \rho_t A_t, \, \mathrm{clip}(\rho_t, 1 - \epsilon, 1 + \epsilon) A_t \big), \qquad \rho_t = \frac{\pi(y_t)}{\pi_{\mathrm{old}}(y_t)}$$
#
# $$A_i = \frac{r_i - \mathrm{mean}(r_1, \dots, r_G)}{\mathrm{std}(r_1, \dots, r_G)}$$
#
# $$k_1 = -\log u, \qquad k_2 = \tfrac12 (\log u)^2, \qquad k_3 = u - 1 - \log u, \qquad u = \frac{\pi_{\mathrm{ref}}(y)}{\pi(y)}$$

# %% [markdown] lang="en"
# - $x, y$: prompt and answer; $y_t$: its token $t$; $y_w, y_l$: the preferred answer of a pair and the other.
# - $\pi$: the policy, the language model that is trained; $\pi_{\mathrm{ref}}$: the frozen model from which it starts.
# - $r(x, y)$: the reward, a number for the whole answer; $\sigma$: the logistic function (Ouyang et al. 2022, equation 1).
# - $\beta$: the price of moving away from the reference; $Z$: what makes the probabilities sum to 1, a sum over all answers.
# - $r_t$: the reward at token $t$: $-\beta \log (\pi / \pi_{\mathrm{ref}})$, plus $r(x, y)$ at the last one. $V_t$: what the critic expects before
#   token $t$. $A_t$: advantage, how much better it went (Schulman et al. 2016, equation 16). All `[batch, actions]`.
# - $\rho_t$: how many times as probable the token has become since it was sampled; $\epsilon$: 0.2 (Schulman et al. 2017, equation 7).
# - $r_i$: rewards of $G$ answers to one prompt, `[prompts, G]` (Shao et al. 2024, section 4.1.2).
# - $k_1, k_2, k_3$: estimates of the divergence from one sample (Schulman 2020).
#
# The first line holds all of RLHF: its right half is the exact solution of its left half. It cannot be computed for texts, since
# $Z$ has too many terms. PPO and GRPO approach it by sampling. DPO turns it around: solved for $r$, it says
# $r = \beta \log(\pi^* / \pi_{\mathrm{ref}}) + \beta \log Z$. Put into the reward model's loss, $Z$ cancels, and the policy is its own reward model
# (Rafailov et al. 2023, equation 7).

# %% [markdown] lang="zh"
# - $x, y$：提示和回答；$y_t$：第 $t$ 个词元；$y_w, y_l$：一对回答中被偏好的和另一个。
# - $\pi$：策略，即正在训练的语言模型；$\pi_{\mathrm{ref}}$：出发时的模型，冻结不动。
# - $r(x, y)$：奖励，整个回答一个数；$\sigma$：logistic 函数（Ouyang 等 2022，式 1）。
# - $\beta$：离开参考模型的代价；$Z$：使概率之和为 1 的归一化常数，是对所有回答求和。
# - $r_t$：第 $t$ 个词元处的奖励：$-\beta \log (\pi / \pi_{\mathrm{ref}})$，最后一个词元再加上 $r(x, y)$。
#   $V_t$：评论家在第 $t$ 个词元之前的预期。$A_t$：优势，即结果比预期好多少（Schulman 等 2016，式 16）。形状都是 `[batch, actions]`。
# - $\rho_t$：词元的概率变成了抽样时的多少倍；$\epsilon$：0.2（Schulman 等 2017，式 7）。
# - $r_i$：同一提示的 $G$ 个回答的奖励，`[prompts, G]`（Shao 等 2024，第 4.1.2 节）。
# - $k_1, k_2, k_3$：由一个样本得到的散度估计（Schulman 2020）。
#
# 第一行就是 RLHF 的全部：右半边是左半边的精确解。对文本它算不出来，因为 $Z$ 的项太多。PPO 和 GRPO 靠抽样去逼近它。
# DPO 反过来用它：解出 $r$，得 $r = \beta \log(\pi^* / \pi_{\mathrm{ref}}) + \beta \log Z$。代入奖励模型的损失，$Z$ 抵消，
# 策略就是它自己的奖励模型（Rafailov 等 2023，式 7）。

# %% [markdown]
# ## Code · 代码

# %%
source(RewardModel.token_scores)
source(penalized_rewards)
source(generalized_advantages)
source(clipped_objective)
source(dpo_loss)
source(group_advantages)
source(grpo_loss)

# %% [markdown] lang="en"
# The reward model is the language model with another last layer: features `[batch, tokens, dim]` to scores `[batch, tokens]`. Of these,
# the one at the last token is the reward; the critic of PPO is the same network, of which all are used.
#
# `penalized_rewards` finds the last token of each answer as one that no other follows. `generalized_advantages` runs backward over
# `[batch]`-sized columns: each advantage is the surprise at its token plus $\gamma\lambda$ times the advantage after it, so the
# sum of the formula costs one pass.
#
# `clipped_objective` has no case distinction: the minimum picks the clipped ratio exactly where the unclipped one would promise more.
# `dpo_loss` gets four log-probabilities, `[batch]` each, summed over the answers' tokens by `sequence_log_probs`; only two of
# them have a gradient. In `grpo_loss` all tokens of an answer share its advantage, `[answers, 1]`, and the KL penalty is in
# the loss instead of the reward.

# %% [markdown] lang="zh"
# 奖励模型就是换了最后一层的语言模型：特征 `[batch, tokens, dim]` 变成分数 `[batch, tokens]`。最后一个词元处的分数是奖励；
# PPO 的评论家是同样的网络，用的是所有位置的分数。
#
# `penalized_rewards` 把后面不再有词元的那个词元认作回答的末尾。`generalized_advantages` 从后往前处理 `[batch]` 大小的列：
# 每个优势等于该词元处的意外之量，加上 $\gamma\lambda$ 乘以后一个优势，所以公式里的求和只要走一遍。
#
# `clipped_objective` 不用分情况：恰好在未截断的比值会许诺更多的地方，最小值选中截断的那个。
# `dpo_loss` 接收四个对数概率，各为 `[batch]`，由 `sequence_log_probs` 对回答的词元求和得到；其中只有两个带梯度。
# 在 `grpo_loss` 里，一个回答的所有词元共用它的优势 `[answers, 1]`，KL 惩罚放在损失里，而不是奖励里。

# %% [markdown]
# ## Experiment: a reward that can be cheated · 实验：会被钻空子的奖励

# %% [markdown] lang="en"
# A support assistant answers in five words out of six. What customers like, the *gold reward*, is known to us and to nobody else in
# this experiment: it helps to say *refund* and *today* (1.5 each, once); hesitation (*…*) costs 1 each time; a kind word (*lovely*) is worth 1.5, two
# are worth 2.5, but from three on it is flattery: −1, −4, −7.
#
# There are $6^5 = 7{,}776$ replies: few enough to compute every expectation exactly. A tiny Llama learns how such replies are usually
# written, where *lovely* is rare. From 300 pairs of its own replies, compared by customers who follow Bradley and Terry, a reward model
# learns: the *proxy*. Then PPO improves the policy against the proxy, without a penalty and with $\beta = 0.5$. Three seeds.

# %% [markdown] lang="zh"
# 客服助手用六个词中的五个词作答。顾客真正喜欢什么，即*真实奖励*（gold reward），只有我们知道，实验里谁也不知道：
# 说出 *refund*（退款）和 *today*（今天）有好处（各 1.5，只算一次）；每次犹豫（*…*）扣 1；
# 一个亲切的词（*lovely*）值 1.5，两个值 2.5，三个以上就成了奉承：−1、−4、−7。
#
# 回答共有 $6^5 = 7{,}776$ 种，少到每个期望都能精确计算。一个很小的 Llama 学会平常怎样写这种回答，其中 *lovely* 很少见。
# 从它自己的 300 对回答，由遵循 Bradley–Terry 的顾客比较，训练出一个奖励模型：*代理奖励*（proxy）。
# 然后 PPO 针对代理奖励改进策略，一次不加惩罚，一次 $\beta = 0.5$。三个种子。

# %%
quiz(
    "cheated",
    en="Without a penalty the reward model's marks rise all the way. What does the customers' reward do meanwhile?",
    zh="不加惩罚时，奖励模型给的分数一路上升。与此同时，顾客的真实奖励怎样变化？",
    choices={
        "rises": "rises too, more slowly · 也上升，慢一些",
        "falls": "rises, then falls · 先升后降",
        "flat": "stays where it is · 保持不变",
    },
)
quiz(
    "gradient",
    en="The mean of which KL estimator, used as a loss, has the gradient of KL(π ‖ π_ref)?",
    zh="把哪个 KL 估计量的均值当作损失，得到的才是 KL(π ‖ π_ref) 的梯度？",
    choices={"k1": "k1", "k2": "k2", "k3": "k3"},
)

# %%
SEEDS, LENGTH = (0, 1, 2), 5
WORDS = ("refund", "today", "please", "we", "lovely", "…")
START = WORDS.index("…")  # every reply follows a silence
USUAL = torch.tensor([0.15, 0.15, 0.22, 0.25, 0.08, 0.15])  # how often people use each word
REPLIES = torch.cartesian_prod(*[torch.arange(len(WORDS))] * LENGTH)  # [7776, 5], in the order of their numbers
PLACES = len(WORDS) ** torch.arange(LENGTH - 1, -1, -1)  # a reply's number is its words, read in base 6


def with_start(replies: torch.Tensor) -> torch.Tensor:
    """Tokens [batch, 1 + 5]."""
    return F.pad(replies, (1, 0), value=START)


def gold_reward(replies: torch.Tensor) -> torch.Tensor:
    """What customers like, [batch]."""
    kindness = torch.tensor([0.0, 1.5, 2.5, -1.0, -4.0, -7.0])[(replies == WORDS.index("lovely")).sum(dim=1)]
    facts = sum((replies == WORDS.index(word)).any(dim=1).float() for word in ("refund", "today"))
    return kindness + 1.5 * facts - (replies == WORDS.index("…")).sum(dim=1)


TEXTS, GOLD = with_start(REPLIES), gold_reward(REPLIES)


@torch.no_grad()
def all_log_probs(model: Llama) -> torch.Tensor:
    """Log-probability of each of the 7,776 replies; the last word's come from one pass over all beginnings."""
    beginnings = TEXTS[:: len(WORDS), :-1]  # [1296, 5]
    log_probs = model(beginnings).log_softmax(dim=2)
    before = log_probs[:, :-1].gather(2, beginnings[:, 1:, None]).sum(dim=(1, 2))
    return (before[:, None] + log_probs[:, -1]).flatten()


def optimizer_of(model: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0, fused=True)


def update(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def learn_to_reply(draws: torch.Generator) -> Llama:
    """Supervised training on replies as people write them."""
    model = Llama(LlamaConfig(len(WORDS), 32, 1, 2, 2, 16, 64))
    optimizer = optimizer_of(model, 1e-2)
    for _ in range(40):
        tokens = with_start(torch.multinomial(USUAL, 64 * LENGTH, replacement=True, generator=draws).view(64, LENGTH))
        update(optimizer, -token_log_probs(model(tokens), tokens).mean())
    return model.requires_grad_(False)


def compare(reference: Llama, count: int, draws: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of replies, the preferred ones and the others, each [count, 1 + 5]."""
    first, second = sample_answers(reference, torch.full((2 * count, 1), START), LENGTH, draws).tokens.chunk(2)
    preferred = (gold_reward(first[:, 1:]) - gold_reward(second[:, 1:])).sigmoid()
    chosen = torch.rand(count, generator=draws) < preferred
    return torch.where(chosen[:, None], first, second), torch.where(chosen[:, None], second, first)


def trainable(model: Llama) -> Llama:
    return copy.deepcopy(model).requires_grad_(True)


def learn_rewards(reference: Llama, pairs: tuple[torch.Tensor, torch.Tensor], draws: torch.Generator) -> torch.Tensor:
    """The trained reward model's scores of all replies, with mean 0 under the reference."""
    model = RewardModel(trainable(reference))
    optimizer = optimizer_of(model, 5e-3)
    for _ in range(70):
        some = torch.randint(len(pairs[0]), (48,), generator=draws)
        chosen, rejected = model(torch.cat((pairs[0][some], pairs[1][some]))).chunk(2)
        update(optimizer, bradley_terry_loss(chosen, rejected).mean())
    with torch.no_grad():
        scores = model(TEXTS)
    return scores - all_log_probs(reference).exp() @ scores


def measure(log_probs: torch.Tensor, reference: torch.Tensor, proxy: torch.Tensor) -> tuple[float, float, float]:
    """KL from the reference, mean proxy reward and mean gold reward of a policy, all exact."""
    p = log_probs.exp()
    return (p @ (log_probs - reference)).item(), (p @ proxy).item(), (p @ GOLD).item()


def ppo(reference: Llama, proxy: torch.Tensor, beta: float, updates: int, draws: torch.Generator):
    """Yields the policy after every third update."""
    policy, critic = trainable(reference), RewardModel(trainable(reference))
    optimizer = optimizer_of(torch.nn.ModuleList((policy, critic)), 4e-3)
    for number in range(updates):
        tokens, mask = sample_answers(policy, torch.full((64, 1), START), LENGTH, draws)
        mask = mask[:, 1:]  # [batch, actions]
        with torch.no_grad():
            old, log_reference = (token_log_probs(model(tokens), tokens) for model in (policy, reference))
            rewards = penalized_rewards(proxy[tokens[:, 1:] @ PLACES], old, log_reference, mask, beta)
            values = critic.token_scores(tokens)[:, :-1]
            advantages = generalized_advantages(rewards, values, mask)
            targets, advantages = advantages + values, normalize_advantages(advantages, mask)
        for _ in range(2):
            log_probs = token_log_probs(policy(tokens), tokens)
            objective = masked_mean(clipped_objective(log_probs, old, advantages), mask)
            error = masked_mean((critic.token_scores(tokens)[:, :-1] - targets).square(), mask)
            update(optimizer, 0.5 * error - objective)
        if number % 3 == 2:
            yield policy


def dpo(reference: Llama, pairs: tuple[torch.Tensor, torch.Tensor], beta: float, draws: torch.Generator) -> Llama:
    """The policy after training on the very pairs that the reward model has seen."""
    policy = trainable(reference)
    optimizer = optimizer_of(policy, 3e-3)
    texts = torch.cat(pairs)
    everything = torch.ones_like(texts, dtype=torch.bool)
    reference_chosen, reference_rejected = sequence_log_probs(reference(texts), texts, everything).chunk(2)
    for _ in range(40):
        some = torch.randint(len(pairs[0]), (48,), generator=draws)
        batch = torch.cat((pairs[0][some], pairs[1][some]))
        chosen, rejected = sequence_log_probs(policy(batch), batch, torch.ones_like(batch, dtype=torch.bool)).chunk(2)
        update(
            optimizer, dpo_loss(chosen, rejected, reference_chosen[some], reference_rejected[some], beta).loss.mean()
        )
    return policy


BETA = 0.5
references, proxies, paths, by_dpo, policies = [], [], {0.0: [], BETA: []}, [], []
for seed in SEEDS:
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    start = learn_to_reply(draws)
    pairs = compare(start, 300, draws)
    reference, proxy = all_log_probs(start), learn_rewards(start, pairs, draws)
    for beta, updates in ((0.0, 24), (BETA, 15)):
        measured = [measure(reference, reference, proxy)]
        for policy in ppo(start, proxy, beta, updates, draws):
            policies.append((seed, all_log_probs(policy)))
            measured.append(measure(policies[-1][1], reference, proxy))
        paths[beta].append(measured)
    by_dpo.append(measure(all_log_probs(dpo(start, pairs, BETA, draws)), reference, proxy))
    references.append(reference)
    proxies.append(proxy)

rows = []
for seed in SEEDS:
    free, held = paths[0.0][seed], paths[BETA][seed]
    best = max(free, key=lambda each: each[2])
    for name, (divergence, proxy_reward, gold) in (
        ("before", free[0]), ("no penalty, at its best", best), ("no penalty, at the end", free[-1]),
        (f"PPO, β = {BETA}", held[-1]), (f"DPO, β = {BETA}", by_dpo[seed]),
    ):  # fmt: skip
        rows.append((seed, name, divergence, proxy_reward, gold))
table(["seed", "policy", "KL", "proxy reward", "gold reward"], rows)
settle("cheated", "falls" if all(path[-1][2] < max(each[2] for each in path) - 1 for path in paths[0.0]) else "rises")


def best_of(count: int, seed: int) -> tuple[float, float, float]:
    """KL, proxy and gold reward of the reply with the highest proxy reward among `count` of the reference's."""
    order = proxies[seed].argsort()
    at_most = references[seed].double().exp()[order].cumsum(dim=0).clamp(max=1.0)  # P(a reply scores no more than this)
    p = torch.diff(at_most**count, prepend=torch.zeros(1, dtype=torch.float64)).clamp(min=1e-30)
    log_probs = torch.empty_like(GOLD)
    log_probs[order] = p.log().float()
    return measure(log_probs, references[seed], proxies[seed])


def optimal(beta: float, seed: int) -> tuple[float, float, float]:
    """KL, proxy and gold reward of the exact solution π_ref e^(r / β) / Z."""
    log_probs = (references[seed] + proxies[seed] / beta).log_softmax(dim=0)
    return measure(log_probs, references[seed], proxies[seed])


BETAS, COUNTS = (8.0, 4.0, 2.0, 1.0, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08), (1, 2, 4, 8, 16, 32, 64, 128)
frontier = [[optimal(beta, seed) for beta in BETAS] for seed in SEEDS]
samplers = [[best_of(count, seed) for count in COUNTS] for seed in SEEDS]
figure, axes = plt.subplots(1, 3, figsize=(16, 4.2), layout="constrained", sharey=True)
for seed, axis in zip(SEEDS, axes, strict=True):
    for points, label, color in (
        (paths[0.0][seed], "PPO without a penalty", "tab:red"),
        (paths[BETA][seed], f"PPO, β = {BETA}", "tab:blue"),
        (samplers[seed], "best of 1 to 128", "tab:green"),
        (frontier[seed], "exact optimum, β from 8 to 0.08", "0.4"),
    ):
        distance = [math.sqrt(max(point[0], 0.0)) for point in points]
        axis.plot(distance, [point[1] for point in points], "--", color=color, linewidth=1)
        axis.plot(distance, [point[2] for point in points], ".-", color=color, label=label)
    axis.plot(math.sqrt(by_dpo[seed][0]), by_dpo[seed][2], "k*", markersize=11, label=f"DPO, β = {BETA}")
    axis.set(xlabel="√KL from the reference", title=f"seed {seed}: dashed proxy, solid gold", ylim=(-7.5, 4.5))
axes[0].set(ylabel="mean reward")
axes[0].legend(fontsize=8, loc="lower left")
show(figure, "overoptimization")

# %% [markdown] lang="en"
# The red lines are one training run each. The dashed one, the reward model's marks, rises to the end. The solid one, what customers
# feel, rises with it at first, reaches its best at a KL between one and three, then falls far below the start: the policy has found replies full
# of *lovely*. The reward model has seen hardly any reply with three of them, and has drawn its own line onward from one and two. No
# bug was made anywhere. This is *over-optimization*, or Goodhart's law: a measure that is aimed at stops being a good measure.
#
# The penalty keeps the policy where the reward model knows its way. DPO, which has no reward model to be cheated, gets about as far on
# the same pairs (trained longer or with a small $\beta$, it can drift away as well). And the grey curve is the formula's right half: no policy has a
# higher proxy reward at the same KL. It, and best-of-n, fall much less at the same proxy reward, since they move no further than they must.

# %% [markdown] lang="zh"
# 每张图的红线是一次训练。虚线是奖励模型给的分，一直升到最后。实线是顾客的感受：起初跟着升，在 KL 为 1 到 3 处最好，
# 然后跌到远低于起点：策略找到了满是 *lovely* 的回答。奖励模型几乎没见过含三个 *lovely* 的回答，只是把一个、两个的趋势延长出去。
# 代码没有任何错误。这就是*过度优化*（over-optimization），也叫 Goodhart 定律：一旦指标成为目标，它就不再是好指标。
#
# 惩罚让策略留在奖励模型认得路的地方。DPO 没有可钻空子的奖励模型，用同样的偏好对达到差不多的水平（训练更久，或 $\beta$ 取小，它同样可能越走越偏）。灰线是公式的右半边：KL 相同时，没有策略的代理奖励更高。
# 它和 best-of-n 在同样的代理奖励下跌得少得多，因为它们只移动必须移动的距离。

# %% [markdown]
# ## Experiment: how far has it moved? · 实验：走了多远？

# %% [markdown] lang="en"
# For texts, nobody can sum over all answers; the KL is estimated from samples. Here we can do both. For exact optima of the first
# seed, near to the reference and far from it: mean and standard deviation of the three estimators, over all 7,776 replies. Then
# each estimator's mean is used as a *loss*, and its gradient with respect to the logits of the 7,776 replies compared with that of
# the divergence itself.

# %% [markdown] lang="zh"
# 对真实的文本，没有人能对所有回答求和，KL 只能由样本估计。这里两者都能算。
# 对第一个种子的几个精确最优策略，离参考模型有近有远：三个估计量的均值与标准差，对全部 7,776 种回答计算。
# 然后把每个估计量的均值当作*损失*，把它对 7,776 种回答的 logits 的梯度，与散度本身的梯度比较。

# %%
ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}
against = references[0].double().log_softmax(dim=0)
moments, rows = {}, []
for beta in (8.0, 2.0, 0.5, 0.1):
    log_probs = (against + proxies[0].double() / beta).log_softmax(dim=0)
    p = log_probs.exp()
    divergence = (p @ (log_probs - against)).item()
    for name, estimator in ESTIMATORS.items():
        drawn = estimator(log_probs, against)
        mean = (p @ drawn).item()
        deviation = math.sqrt((p @ (drawn - mean).square()).item())
        moments[beta, name] = (divergence, mean, deviation)
        rows.append((divergence, name, mean, deviation, (deviation / divergence / 0.1) ** 2))
table(["KL", "estimator", "its mean", "standard deviation", "samples for an error of 10 %"], rows)

near = (against + proxies[0].double() / 0.5).requires_grad_()
exact = torch.autograd.grad((near.log_softmax(0).exp() * (near.log_softmax(0) - against)).sum(), near)[0]
forward_kl = torch.autograd.grad((against.exp() * (against - near.log_softmax(0))).sum(), near)[0]
as_loss = {}
for name, estimator in ESTIMATORS.items():
    log_probs = near.log_softmax(0)
    sampled_from = log_probs.exp().detach()  # samples are drawn before, and their distribution has no gradient
    as_loss[name] = torch.autograd.grad((sampled_from * estimator(log_probs, against)).sum(), near)[0]
table(
    ["used as a loss", "length of the gradient", "cosine with that of KL(π ‖ π_ref)", "with that of KL(π_ref ‖ π)"],
    [
        (
            name,
            gradient.norm().item(),
            F.cosine_similarity(gradient, exact, dim=0).item() if gradient.norm() > 1e-9 else "—",
            F.cosine_similarity(gradient, forward_kl, dim=0).item() if gradient.norm() > 1e-9 else "—",
        )
        for name, gradient in as_loss.items()
    ],
)
settle("gradient", max(as_loss, key=lambda name: F.cosine_similarity(as_loss[name], exact, dim=0).item()))

# %% [markdown] lang="en"
# $k_1$ and $k_3$ are right on average everywhere; $k_2$ is off, by a few percent next to the reference and by more
# at some distance. Near the
# reference, where training should stay, $k_3$ needs a small fraction of the samples that $k_1$ needs. Far away it is the other way around: a
# reply that the policy has all but given up has a huge $u$, and one such sample outweighs all the others.
#
# As a *loss*, $k_3$ is another matter: its gradient is that of the divergence the other way around, and the gradient of $k_1$ is zero on
# average. Only $k_2$ pulls in the direction of the divergence. PPO avoids the question: in a reward, where nothing is
# differentiated, $k_1$ is right.

# %% [markdown] lang="zh"
# $k_1$ 和 $k_3$ 的均值处处正确；$k_2$ 有偏差，紧挨参考模型时是百分之几，远一些就更大。在训练应当停留的附近，$k_3$ 需要的样本只是 $k_1$ 的一小部分。
# 到远处正好相反：策略几乎放弃了的回答，$u$ 极大，抽到一个就压过其余所有样本。
#
# 作为*损失*，$k_3$ 是另一回事：它的梯度是反方向散度的梯度，而 $k_1$ 的梯度平均为零。只有 $k_2$ 朝散度的方向拉。
# PPO 绕开了这个问题：放在奖励里不求导，用 $k_1$ 就是对的。

# %% [markdown]
# ## Experiment: a reward that cannot be cheated · 实验：钻不了空子的奖励

# %% [markdown] lang="en"
# Given a digit from 0 to 5, write a sum that gives it: `5=3+2`. A program checks: right is 1, wrong is 0. GRPO starts from two
# models. The *novice* has only seen the format, two random digits with a plus. The *apprentice* has seen examples of which seven
# in ten are right. 30 updates with 24 answers to each of the six digits; the probability of a right answer is computed exactly.

# %% [markdown] lang="zh"
# 给一个 0 到 5 的数字，写出得到它的加法：`5=3+2`。由程序检验：对得 1，错得 0。GRPO 从两个模型出发。
# *新手*只见过格式，即两个随机数字中间一个加号。*学徒*见过的例子十个里有七个是对的。
# 更新 30 次，对六个数字各写 24 个回答；答对的概率是精确计算的。

# %%
quiz(
    "variety",
    en="A digit n has n + 1 right sums, 3.5 on average. Among how many does the apprentice still choose after GRPO?",
    zh="数字 n 有 n + 1 个正确的加法，平均 3.5 个。GRPO 之后，学徒实际还在几个之间选择？",
    choices={"3": "about 3 · 约 3 个", "2": "about 2 · 约 2 个", "1": "1.5 or fewer · 不到 1.5 个"},
)

# %%
DIGITS, PLUS, EQUALS, GROUP = torch.arange(6), 6, 7, 24


def written(result: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Tokens of `result=first+second`, [batch, 5]."""
    return torch.stack((result, torch.full_like(result, EQUALS), first, torch.full_like(result, PLUS), second), dim=1)


def is_right(tokens: torch.Tensor) -> torch.Tensor:
    """Whether the format is kept and the sum is right, [batch]."""
    result, _, first, plus, second = tokens.T
    return (plus == PLUS) & (first < 6) & (second < 6) & (first + second == result)


EVERY_SUM = written(*torch.cartesian_prod(DIGITS, DIGITS, DIGITS).T)  # [216, 5]


@torch.no_grad()
def solved(model: Llama) -> tuple[float, float]:
    """Probability of a right answer, mean over the digits, and the effective number of right answers (e^entropy)."""
    p = token_log_probs(model(EVERY_SUM), EVERY_SUM)[:, 1:].sum(dim=1).exp()
    right = (p * is_right(EVERY_SUM)).view(6, 36)
    shares = right / right.sum(dim=1, keepdim=True)
    entropy = -torch.special.xlogy(shares, shares).sum(dim=1)
    return right.sum(dim=1).mean().item(), entropy.exp().mean().item()


def learn_sums(share_right: float, steps: int, draws: torch.Generator) -> Llama:
    model = Llama(LlamaConfig(8, 32, 1, 2, 2, 16, 64))
    optimizer = optimizer_of(model, 1e-2)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1.0, 2 - 2 * step / steps)
        result, first, second = torch.randint(6, (3, 64), generator=draws)
        taught = torch.rand(64, generator=draws) < share_right
        first = torch.where(taught, first % (result + 1), first)
        tokens = written(result, first, torch.where(taught, result - first, second))
        update(optimizer, -token_log_probs(model(tokens), tokens)[:, 1:].mean())
    return model


def grpo(model: Llama, updates: int, draws: torch.Generator) -> list[tuple[float, float]]:
    """Trains the model; what it can do before and after every third update."""
    reference = copy.deepcopy(model).requires_grad_(False)
    optimizer, history = optimizer_of(model, 5e-3), [solved(model)]
    prompts = torch.stack((DIGITS, torch.full_like(DIGITS, EQUALS)), dim=1).repeat_interleave(GROUP, dim=0)
    for number in range(updates):
        tokens, mask = sample_answers(model, prompts, 3, draws)
        advantages = group_advantages(is_right(tokens).float().view(6, GROUP)).flatten()
        with torch.no_grad():
            log_reference = token_log_probs(reference(tokens), tokens)
        log_probs = token_log_probs(
            model(tokens), tokens
        )  # one update for each batch: the ratio is 1, its gradient not 0
        update(optimizer, grpo_loss(log_probs, log_probs.detach(), log_reference, advantages, mask[:, 1:]))
        if number % 3 == 2:
            history.append(solved(model))
    return history


histories: dict[str, list[list[tuple[float, float]]]] = {"novice": [], "apprentice": []}
for seed in SEEDS:
    for name, share_right, steps in (("novice", 0.0, 25), ("apprentice", 0.7, 120)):
        torch.manual_seed(seed)
        draws = torch.Generator().manual_seed(seed)
        histories[name].append(grpo(learn_sums(share_right, steps, draws), 30, draws))
table(
    ["start", "seed", "right before", "right after", "right sums in use before", "after"],
    [
        (name, seed, f"{history[0][0]:.0%}", f"{history[-1][0]:.0%}", history[0][1], history[-1][1])
        for name, each in histories.items()
        for seed, history in zip(SEEDS, each, strict=True)
    ],
)
left = max(history[-1][1] for history in histories["apprentice"])
settle("variety", "1" if left < 1.6 else "2" if left < 2.5 else "3")
figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
for name, color in (("novice", "tab:orange"), ("apprentice", "tab:blue")):
    for number, history in enumerate(histories[name]):
        for axis, part in zip(axes, zip(*history, strict=True), strict=True):
            axis.plot(3 * torch.arange(len(part)), part, color=color, label=name if number == 0 else None)
axes[0].set(xlabel="update", ylabel="probability of a right answer", ylim=(0, 1), title="GRPO: three seeds each")
axes[1].set(xlabel="update", ylabel="right sums in use", ylim=(0, 4), title="… and what it costs in variety")
axes[0].legend()
show(figure, "grpo")

# %% [markdown] lang="en"
# The apprentice, right about one time in four, becomes right more than half of the time, with one seed almost nine times in ten: the
# sums that it sometimes gets right are made more probable, and no one has shown it a single new example. The novice is right by luck alone,
# one time in ten, and there is little to reinforce: with two seeds it ends at one in six, which is what always writing the same sum would score.
# Reinforcement with a checkable reward needs a start that can do the task now and then.
#
# The right half of the figure is the price. Nothing in the reward asks for variety, and the first right sums that are found are reinforced at
# the others' expense. With few samples a digit the model looks better than before; with many, some right sums never come any more.

# %% [markdown] lang="zh"
# 学徒原来大约四次对一次，后来一半以上都对，有一个种子几乎十次对九次：它偶尔答对的加法变得更可能，而没有人给过它任何新例子。
# 新手只是碰运气，十次对一次，没有多少可强化的：有两个种子停在六分之一，那是永远写同一个加法也能得到的分数。
# 用可检验的奖励做强化学习，出发点必须偶尔做得对。
#
# 图的右半边是代价。奖励里没有什么要求多样，最先碰对的加法得到强化，其余的被挤掉。
# 每个数字抽几个回答，模型看起来比以前好；抽很多个，有些正确的加法再也不会出现。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# torch has no PPO, but it has the parts: the Bradley-Terry and DPO losses are binary cross-entropies of a difference, with smoothed labels for
# conservative DPO; the divergence is `torch.distributions.kl_divergence`; and GAE is a product with a triangular matrix of
# $(\gamma\lambda)^l$. The library for all of this is trl: DPO's values and gradients are held against numbers recorded from it. And
# at the first update after sampling, the gradient of PPO's objective must be that of REINFORCE, $A \, \nabla \log \pi$.

# %% [markdown] lang="zh"
# torch 里没有 PPO，但有它的零件：Bradley–Terry 与 DPO 的损失就是差值的二元交叉熵，保守 DPO 则是带标签平滑的；
# 散度有 `torch.distributions.kl_divergence`；GAE 就是乘以由 $(\gamma\lambda)^l$ 组成的三角矩阵。
# 专做这些的库是 trl：DPO 的数值和梯度与从它记录下来的数字比较。
# 此外，抽样之后的第一次更新，PPO 目标的梯度必须等于 REINFORCE 的，$A \, \nabla \log \pi$。

# %%
random = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=random, dtype=torch.float64)


margins = normal(50).requires_grad_()
nothing = torch.zeros(50, dtype=torch.float64)
smoothed = dpo_loss(margins, nothing, nothing, nothing, beta=1.0, label_smoothing=0.1).loss
by_torch = F.binary_cross_entropy_with_logits(margins, torch.full_like(margins, 0.9), reduction="none")
dpo_gradients = [torch.autograd.grad(loss.sum(), margins)[0] for loss in (smoothed, by_torch)]
# Printed by trl 0.12's DPOTrainer.dpo_loss for β = 0.1 and the log-probabilities below.
of_trl = dpo_loss(
    torch.tensor([-12.5, -30.25]), torch.tensor([-14.0, -21.5]), torch.tensor([-13.0, -28.0]), torch.tensor([-13.25, -22.0]), 0.1
)  # fmt: skip
rewards, values = normal(4, 7), normal(4, 7)
everywhere = torch.ones(4, 7, dtype=torch.bool)
ahead = torch.arange(7)[None] - torch.arange(7)[:, None]  # [t, t + l]: l
discounts = torch.where(ahead >= 0, 0.95 ** ahead.clamp(min=0).double(), 0.0)
surprises = rewards + F.pad(values[:, 1:], (0, 1)) - values
logits, actions, gains = normal(30, 6).requires_grad_(), torch.randint(6, (30,), generator=random), normal(30)
chosen_log_probs = logits.log_softmax(dim=1).gather(1, actions[:, None]).squeeze(1)
of_ppo = torch.autograd.grad(
    clipped_objective(chosen_log_probs, chosen_log_probs.detach(), gains).sum(), logits, retain_graph=True
)[0]
of_reinforce = torch.autograd.grad((gains * chosen_log_probs).sum(), logits)[0]

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: Bradley-Terry 0.313", by_hand_preference, [0.3133], 1e-3)
check_close("by hand: advantages 0.4705, 0.39, 0.2", by_hand_advantages, [[0.4705, 0.39, 0.2]])
check_close("by hand: PPO 1.2 and −1.5", by_hand_clipped, [1.2, -1.5])
check_close("by hand: k1, k2, k3", torch.stack(by_hand_kl), [0.1927, 0.1720, 0.1927], 1e-3)
check_close("by hand: DPO 0.474", by_hand_dpo.loss, [0.4741], 1e-3)
check_close("DPO is torch's binary cross-entropy of the margin", smoothed, by_torch, 1e-10)
check_close("so is its gradient", dpo_gradients[0], dpo_gradients[1], 1e-10)
check_close("DPO is trl's", of_trl.loss, [0.6325990353, 0.8400706677], 1e-6)
check_close(
    "GAE is a product with a triangular matrix",
    generalized_advantages(rewards, values, everywhere),
    surprises @ discounts.T,
    1e-10,
)
check_close("PPO's first gradient is REINFORCE's", of_ppo, of_reinforce, 1e-10)
by_library = torch.distributions.kl_divergence(
    torch.distributions.Categorical(logits=against + proxies[0].double() / 2),
    torch.distributions.Categorical(logits=against),
)
check_close("the mean of k1 is torch's divergence", moments[2.0, "k1"][1], by_library, 1e-8)
check_close("so is that of k3", moments[2.0, "k3"][1], by_library, 1e-8)
check("that of k2 is not", abs(moments[2.0, "k2"][1] - by_library) > 1e-3)
check("near the reference k3 varies least", moments[8.0, "k3"][2] < moments[8.0, "k1"][2] / 4)
check("far from it, most", moments[0.1, "k3"][2] > 4 * moments[0.1, "k1"][2])
check_close("as a loss, k1 has no gradient", as_loss["k1"], torch.zeros_like(exact), 1e-10)
check_close("k2 has that of the divergence", as_loss["k2"], exact, 1e-10)
check_close("k3 has that of the divergence the other way around", as_loss["k3"], forward_kl, 1e-10)
check(
    "no policy has a higher objective than the exact optimum, β log Z, in any update of any seed",
    all(
        (log_probs.exp() @ (proxies[seed] - BETA * (log_probs - references[seed])))
        <= BETA * (references[seed] + proxies[seed] / BETA).logsumexp(0) + 1e-4
        for seed, log_probs in policies
    ),
)
check(
    "without a penalty the proxy reward ends higher than it was at the gold reward's best, with every seed",
    all(path[-1][1] > max(path, key=lambda each: each[2])[1] + 0.1 for path in paths[0.0]),
)
check(
    "while the gold reward ends below where it began, with every seed",
    all(path[-1][2] < path[0][2] and max(point[2] for point in path) > path[0][2] + 1 for path in paths[0.0]),
)
check(
    "with the penalty the gold reward ends at least 0.8 higher than it began, with every seed",
    all(path[-1][2] > path[0][2] + 0.8 for path in paths[BETA]),
)
check(
    "DPO gains as much on the same pairs, with every seed",
    all(found[2] > path[0][2] + 0.8 for found, path in zip(by_dpo, paths[BETA], strict=True)),
)
check(
    "GRPO more than doubles the apprentice's right answers, with every seed",
    all(each[-1][0] > 2 * each[0][0] and each[-1][0] > 0.5 for each in histories["apprentice"]),
)
check(
    "the novice ends below the apprentice, with every seed",
    all(novice[-1][0] < apprentice[-1][0] - 0.2 for novice, apprentice in zip(*histories.values(), strict=True)),
)
check(
    "the apprentice uses less than half of the right sums that it used, with every seed",
    all(each[-1][1] < each[0][1] / 2 for each in histories["apprentice"]),
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `llm-lora` tunes SmolLM2 on preferences with this `dpo_loss`: `uv run --package llm-lora train --stage dpo`. The reference needs
# no second copy of the model there: it is the model without its adapters.
#
# Papers: [Christiano et al. 2017](https://arxiv.org/abs/1706.03741), rewards from comparisons; [Ziegler et al.
# 2019](https://arxiv.org/abs/1909.08593), on language models; [Ouyang et al. 2022](https://arxiv.org/abs/2203.02155), InstructGPT;
# [Schulman et al. 2017](https://arxiv.org/abs/1707.06347), PPO; [Schulman et al. 2016](https://arxiv.org/abs/1506.02438), GAE; [Gao et
# al. 2023](https://arxiv.org/abs/2210.10760), over-optimization; [Rafailov et al. 2023](https://arxiv.org/abs/2305.18290), DPO; [Shao et
# al. 2024](https://arxiv.org/abs/2402.03300), GRPO; [Liu et al. 2025](https://arxiv.org/abs/2503.20783), its biases;
# [Schulman 2020](http://joschu.net/blog/kl-approx.html), the estimators. Next: smaller numbers, 12/07.

# %% [markdown] lang="zh"
# 实战项目 `llm-lora` 用这里的 `dpo_loss` 按偏好微调 SmolLM2：`uv run --package llm-lora train --stage dpo`。
# 在那里，参考模型不必另存一份：去掉适配器的模型就是它。
#
# 论文：[Christiano 等 2017](https://arxiv.org/abs/1706.03741)，由比较得到奖励；
# [Ziegler 等 2019](https://arxiv.org/abs/1909.08593)，用于语言模型；[Ouyang 等 2022](https://arxiv.org/abs/2203.02155)，InstructGPT；
# [Schulman 等 2017](https://arxiv.org/abs/1707.06347)，PPO；[Schulman 等 2016](https://arxiv.org/abs/1506.02438)，GAE；
# [Gao 等 2023](https://arxiv.org/abs/2210.10760)，过度优化；[Rafailov 等 2023](https://arxiv.org/abs/2305.18290)，DPO；
# [Shao 等 2024](https://arxiv.org/abs/2402.03300)，GRPO；[Liu 等 2025](https://arxiv.org/abs/2503.20783)，它的偏差；
# [Schulman 2020](http://joschu.net/blog/kl-approx.html)，几个估计量。下一课：更小的数，12/07。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `penalized_rewards`, `generalized_advantages`, `normalize_advantages` and `clipped_objective` yourself. `uv run lesson exercise
# 12/06` makes a file with their signatures, `uv run lesson check 12/06` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `penalized_rewards`、`generalized_advantages`、`normalize_advantages` 和 `clipped_objective`。
# `uv run lesson exercise 12/06` 生成带有签名的文件，`uv run lesson check 12/06` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. The last token of an answer is where the mask is true and the mask one place further on is false. Shift the mask, and put false at the end.
# 2. Go through the actions from the last to the first, with a running advantage `[batch]`. Rewards and values outside the
#    answer count as 0, and so do advantages there; then nothing from after the answer can leak into it.
# 3. The value after the last token is 0, not that of the padding.
# 4. Mean and variance are over the answers' tokens: use `masked_mean` for both.
# 5. Take the ratio from the logarithms, by `exp` of their difference. The minimum is between the two products, not the two ratios.

# %% [markdown] lang="zh"
# 1. 回答的最后一个词元是掩码为真、后一位为假的地方。把掩码移一位，末尾补假。
# 2. 从最后一个动作走到第一个，带着一个形状为 `[batch]` 的优势。回答之外的奖励、价值、优势都算 0，回答之后的东西就漏不进来。
# 3. 最后一个词元之后的价值是 0，而不是填充处的价值。
# 4. 均值和方差都只对回答的词元计算：两者都用 `masked_mean`。
# 5. 比值由对数之差取 `exp` 得到。最小值取在两个乘积之间，而不是两个比值之间。


# %%
@exercise(penalized_rewards, generalized_advantages, normalize_advantages, clipped_objective)
def judge(yours, reference):
    random = torch.Generator().manual_seed(0)
    mask = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 0, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1]], dtype=torch.bool)
    rewards, values, log_probs = torch.randn(3, 3, 6, generator=random, dtype=torch.float64)
    scores = torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64)

    mine, theirs = (each.penalized_rewards(scores, log_probs, values, mask, 0.0) for each in (yours, reference))
    check("penalized_rewards is [batch, actions]", mine.shape == (3, 6))
    check_close("the score is added once, at the last token of the answer", mine, theirs)
    mine, theirs = (each.penalized_rewards(scores, log_probs, values, mask, 0.3) for each in (yours, reference))
    check_close("the penalty at each token of the answer, and nowhere else", mine, theirs)

    for gamma, lam in ((1.0, 0.0), (1.0, 1.0), (0.9, 0.8)):
        mine, theirs = (each.generalized_advantages(rewards, values, mask, gamma, lam) for each in (yours, reference))
        check_close(
            f"at the last token, γ = {gamma}, λ = {lam}", mine[[0, 1, 2], [4, 2, 5]], theirs[[0, 1, 2], [4, 2, 5]]
        )
        check_close(f"at all tokens of the answers, γ = {gamma}, λ = {lam}", mine[mask], theirs[mask])
        check_close("0 outside the answers", mine[~mask], theirs[~mask])

    mine, theirs = (each.normalize_advantages(3 + 2 * rewards, mask) for each in (yours, reference))
    check_close("mean 0 over the answers' tokens", mine[mask].mean(), 0.0)
    check_close("normalize_advantages", mine, theirs)

    trained = log_probs.clone().requires_grad_()
    mine, theirs = (each.clipped_objective(trained, 0.5 * log_probs, values) for each in (yours, reference))
    check_close("clipped_objective where the advantage is positive", mine[values > 0], theirs[values > 0])
    check_close("clipped_objective where it is negative", mine[values < 0], theirs[values < 0])
    gradients = [torch.autograd.grad(each.sum(), trained)[0] for each in (mine, theirs)]
    check_close("its gradient", gradients[0], gradients[1])
    mine, theirs = (each.clipped_objective(trained, 0.5 * log_probs, values, clip=0.05) for each in (yours, reference))
    check_close("clipped_objective with another ε", mine, theirs)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### What is the KL penalty in RLHF for? · RLHF 里的 KL 惩罚有什么用？

# %% [markdown] lang="en"
# The reward model is right only near the texts it has been trained on. Without a penalty the policy moves to where it errs upward and collects
# marks for nonsense; with it, gold and proxy rewards stay together. It also keeps the fluency and variety of the reference. The optimum with
# the penalty is known: $\pi_{\mathrm{ref}} e^{r/\beta} / Z$, a reweighted reference, so that what the reference never says is never said.

# %% [markdown] lang="zh"
# 奖励模型只在它训练过的文本附近才准。没有惩罚，策略会移到它高估的地方，靠胡说拿高分；有惩罚，真实奖励与代理奖励就不会分家。
# 它还保住参考模型的流畅与多样。带惩罚的最优解是已知的：$\pi_{\mathrm{ref}} e^{r/\beta} / Z$，即重新加权的参考模型，参考模型从不说的，它也不说。

# %%
for beta in (4.0, 0.5, 0.1):
    print(
        f"  β = {beta}, exact optimum of seed 0: KL {optimal(beta, 0)[0]:.2f}, proxy {optimal(beta, 0)[1]:.2f}, gold {optimal(beta, 0)[2]:.2f}"
    )

# %% [markdown]
# ### PPO or DPO? · 选 PPO 还是 DPO？

# %% [markdown] lang="en"
# DPO is one supervised loss on fixed pairs: two models, no sampling, no reward model, no critic, little to tune. But it learns from answers that
# another policy wrote, and its implicit reward can push both answers' probabilities down, and unseen answers' up. PPO samples
# from the policy itself, so that the reward is asked about what the policy now does, and any reward will do, a program's too. It costs
# four models and many more settings. On few, fixed preferences DPO is the usual choice; with a checkable reward, GRPO.

# %% [markdown] lang="zh"
# DPO 是对固定偏好对的一个监督损失：两个模型，不抽样，没有奖励模型和评论家，要调的很少。
# 但它学的是别的策略写的回答，它的隐式奖励可能同时压低两个回答的概率，而抬高从没见过的回答。
# PPO 从策略自己抽样，奖励评的正是策略现在的行为，而且什么奖励都行，程序给的也可以；代价是四个模型和多得多的设置。
# 只有少量固定的偏好时通常选 DPO；奖励可检验时选 GRPO。

# %%
tuned = dpo(start, pairs, BETA, torch.Generator().manual_seed(0))
with torch.no_grad():
    for name, texts in zip(("preferred", "rejected"), pairs, strict=True):
        moved = (token_log_probs(tuned(texts), texts) - token_log_probs(start(texts), texts)).sum(dim=1)
        print(f"  DPO moves the log-probability of {name} replies by {moved.mean():+.2f} on average")

# %% [markdown]
# ### Why does PPO clip, and why the minimum? · PPO 为什么要截断，为什么取最小值？

# %% [markdown] lang="en"
# A batch of answers is expensive, so several updates are made on it; but the gradient is only right near the policy that sampled it. Once a
# token has moved by 20 % in the direction that its advantage asks for, the clipped term is constant and its gradient is 0. The minimum
# matters for tokens that have moved the *wrong* way: there the unclipped product is the smaller one, and keeps its gradient, so that the
# mistake can be undone. Clipping alone would leave it.

# %% [markdown] lang="zh"
# 一批回答很贵，所以要在上面更新几次；但梯度只在抽样的策略附近才对。一个词元朝优势要求的方向移动了 20 % 之后，
# 截断项是常数，梯度为 0。最小值是为那些往*错误*方向移动的词元准备的：那里未截断的乘积更小，保留了梯度，错误可以挽回；
# 只截断不取最小值，就会让它留在那里。

# %%
for ratio, advantage in ((1.5, 1.0), (0.5, 1.0), (1.5, -1.0), (0.5, -1.0)):
    moved = torch.tensor([math.log(ratio)], requires_grad=True)
    clipped_objective(moved, torch.zeros(1), torch.tensor([advantage])).sum().backward()
    print(f"  ratio {ratio}, advantage {advantage:+.0f}: gradient {moved.grad.item():+.1f}")

# %% [markdown]
# ### What does GRPO drop from PPO, and what can go wrong? · GRPO 从 PPO 中去掉了什么，会出什么问题？

# %% [markdown] lang="en"
# The critic: the mean reward of several answers to the same prompt is the baseline, which saves a second network of the same size. All tokens
# of an answer share one advantage. If all answers of a group are right, or all wrong, the advantages are 0 and the samples are wasted. Dividing by
# the standard deviation weighs nearly solved and nearly hopeless prompts up, and averaging over each answer's tokens makes a long wrong
# answer's tokens count less than a short one's (Liu et al. 2025).

# %% [markdown] lang="zh"
# 去掉了评论家：同一提示的几个回答的平均奖励就是基线，省下同样大小的一个网络。一个回答的所有词元共用一个优势。
# 如果一组回答全对或全错，优势都是 0，样本就浪费了。除以标准差会放大几乎全对和几乎全错的提示的权重；
# 对每个回答的词元取平均，使长的错误回答的每个词元比短的受罚更轻（Liu 等 2025）。

# %%
for right in (0, 1, 8, 15, 16):
    group = (torch.arange(16) < right).float()[None]
    print(
        f"  {right} of 16 right: largest advantage {group_advantages(group).abs().max():.2f}, not scaled {group_advantages(group, scale=False).abs().max():.2f}"
    )

# %% [markdown]
# ### How do you notice that a reward is being cheated? · 怎样发现奖励被钻了空子？

# %% [markdown] lang="en"
# Not from the reward that is optimized: it rises all the while. Plot it against the KL, and measure something that is not optimized on the
# way: people's judgment on fresh samples, a second reward model trained on other data, checkable tasks. A growing KL, answers that grow alike or
# longer, and disagreement between reward models are the early signs. Then: a larger $\beta$, an earlier checkpoint, new comparisons of
# the policy's present answers.

# %% [markdown] lang="zh"
# 从正在优化的奖励看不出来：它一直在升。把它对 KL 画图，并沿途测量没有参与优化的东西：人对新样本的评价、
# 用别的数据训练的第二个奖励模型、可检验的任务。KL 不断增大，回答越来越像或越来越长，几个奖励模型互相分歧，都是早期信号。
# 对策：增大 $\beta$，取更早的检查点，对策略当前的回答收集新的比较。

# %%
for seed in SEEDS:
    most_liked = REPLIES[proxies[seed].argmax()].tolist()
    words = " ".join(WORDS[word] for word in most_liked)
    final = REPLIES[[each for number, each in policies if number == seed][7].argmax()].tolist()
    print(
        f"  seed {seed}: PPO without a penalty says {' '.join(WORDS[word] for word in final)!r}; the proxy likes best {words!r}"
    )

# %% [markdown]
# ### Why does the reward model give differences only? · 为什么奖励模型只给出差值？

# %% [markdown] lang="en"
# The Bradley-Terry probability contains $r_1 - r_2$, so a constant may be added to all rewards of a prompt without changing the loss.
# Scores of different prompts cannot be compared, and the absolute level says nothing. PPO does not mind, since the advantages take off a baseline.
# In practice the scores are shifted to mean 0 on the reference's answers, as here. DPO's $\beta \log Z$ is such a constant, and vanishes for the
# same reason.

# %% [markdown] lang="zh"
# Bradley–Terry 的概率里只有 $r_1 - r_2$，给同一提示的所有奖励加上一个常数，损失不变。
# 不同提示的分数不能互相比较，绝对高低没有意义。PPO 不在乎，因为优势会减去基线。实际中把分数平移到参考模型的回答上均值为 0，这里也是。
# DPO 的 $\beta \log Z$ 就是这样一个常数，出于同样的原因消失。

# %%
for constant in (0.0, 10.0):
    print(
        f"  rewards 2 and 1, plus {constant}: loss {bradley_terry_loss(torch.tensor(2 + constant), torch.tensor(1 + constant)).item():.4f}"
    )
