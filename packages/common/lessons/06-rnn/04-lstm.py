# %% [markdown]
# # Long short-term memory · 长短期记忆网络

# %% [markdown] lang="en"
# After this lesson you can write an LSTM step from memory, say what each gate does and why the cell state's gradient
# survives, choose the forget gate's bias, and name a task on which an LSTM wins and tasks on which it does not. You
# need the RNN (06/01) and the vanishing gradient (06/03).

# %% [markdown] lang="zh"
# 学完本课，你能默写 LSTM 的一步，能说清每个门的作用、细胞状态的梯度为什么能保留下来，会选遗忘门的偏置，
# 并能举出 LSTM 占优和不占优的任务。先修：RNN（06/01）和梯度消失（06/03）。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, seconds, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.rnn.cells import CellWeights, LSTMGates, lstm_cell, lstm_gates
from dlcommon.rnn.recurrent import LSTM, RNN
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A network reads a long text in which one word is marked as important, and is asked for that word at the end. An RNN
# has two troubles. Its state is multiplied by the same matrix at every step, so what it holds fades or explodes
# (06/03). And every word that it reads is written into the state in the same way, so that twenty unimportant words
# are written over the important one.
#
# It would need a store whose content stays by itself, and a decision at every step, depending on what is read: write
# or ignore, keep or erase, show or hide.

# %% [markdown] lang="zh"
# 网络读一段很长的文字，其中一个词被标为重点，读完之后要说出这个词。RNN 有两个困难。
# 每一步状态都乘以同一个矩阵，里面的内容不是衰减就是爆炸（06/03）。
# 而且读到的每个词都以同样的方式写进状态，二十个无关的词会把重点词盖掉。
#
# 需要的是一个内容能自行保持的存储，以及每一步根据读到的内容做决定：写入还是忽略，保留还是擦除，输出还是隐藏。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# One unit. Its store, the cell state, holds $c = 2$; its last output, the hidden state, was $h = 0.5$; the input is
# $x = 1$. The four sums of weighted inputs shall be 0, 2, 0.5 and 1. Then
#
# - the input gate is $i = \sigma(0) = 0.5$: write half;
# - the forget gate is $f = \sigma(2) = 0.881$: keep 88 %;
# - the candidate is $g = \tanh(0.5) = 0.462$: this is what would be written;
# - the output gate is $o = \sigma(1) = 0.731$: show 73 %.
#
# The new cell state is $c' = 0.881 \cdot 2 + 0.5 \cdot 0.462 = 1.993$, the new hidden state $h' = 0.731 \cdot
# \tanh(1.993) = 0.704$.
#
# How long does a store last? With a constant forget gate $f$ a fraction $f^k$ is left after $k$ steps. A bias $b$ of
# the forget gate, with nothing else in its sum, gives $f = \sigma(b)$: after 20 steps a millionth is left with $b =
# 0$, two thousandths with $b = 1$, 70 % with $b = 4$.

# %% [markdown] lang="zh"
# 只看一个单元。它的存储（细胞状态）为 $c = 2$，上一步的输出（隐藏状态）为 $h = 0.5$，输入 $x = 1$。
# 设四个加权和分别为 0、2、0.5、1，那么：
#
# - 输入门 $i = \sigma(0) = 0.5$：写入一半；
# - 遗忘门 $f = \sigma(2) = 0.881$：保留 88 %；
# - 候选值 $g = \tanh(0.5) = 0.462$：这是要写入的内容；
# - 输出门 $o = \sigma(1) = 0.731$：露出 73 %。
#
# 新的细胞状态 $c' = 0.881 \cdot 2 + 0.5 \cdot 0.462 = 1.993$，
# 新的隐藏状态 $h' = 0.731 \cdot \tanh(1.993) = 0.704$。
#
# 存储能保持多久？遗忘门恒为 $f$ 时，$k$ 步后还剩 $f^k$。如果遗忘门的和里只有偏置 $b$，则 $f = \sigma(b)$：
# 20 步之后，$b = 0$ 只剩百万分之一，$b = 1$ 剩千分之二，$b = 4$ 剩 70 %。

# %%
one_unit = CellWeights(
    weight_ih=torch.tensor([[0.0], [1.0], [0.0], [1.0]], dtype=torch.float64),  # [4·1, 1]: rows i, f, g, o
    weight_hh=torch.tensor([[0.0], [2.0], [1.0], [0.0]], dtype=torch.float64),
    bias_ih=torch.zeros(4, dtype=torch.float64),
    bias_hh=torch.zeros(4, dtype=torch.float64),
)
one, half, two = (torch.tensor([[value]], dtype=torch.float64) for value in (1.0, 0.5, 2.0))  # each [1, 1]
by_hand = lstm_gates(one, half, one_unit)
new_hidden, new_cell = lstm_cell(one, (half, two), one_unit)
table(["i", "f", "g", "o", "c'", "h'"], [[part.item() for part in (*by_hand, new_cell, new_hidden)]])

BIASES = (0.0, 1.0, 2.0, 4.0)
left = {bias: torch.sigmoid(torch.tensor(bias, dtype=torch.float64)).item() ** 20 for bias in BIASES}
table(
    ["forget bias", "forget gate", "left after 20 steps"], [(bias, left[bias] ** 0.05, left[bias]) for bias in BIASES]
)

drawing = Schematic(12.4, 5.2, "One step of an LSTM")
for name, x, y, text, kind, width in (
    ("c", 0.9, 4.3, "cell $c_{t-1}$", "data", 1.4),
    ("forget", 2.9, 4.3, "×", "operation", 0.6),
    ("add", 5.8, 4.3, "+", "operation", 0.6),
    ("c new", 11.1, 4.3, "cell $c_t$", "data", 1.4),
    ("write", 5.8, 3.2, "×", "operation", 0.6),
    ("f", 2.9, 1.9, "forget $f$\nσ", "parameter", 1.4),
    ("i", 4.9, 1.9, "input $i$\nσ", "parameter", 1.4),
    ("g", 6.8, 1.9, "candidate $g$\ntanh", "parameter", 1.6),
    ("o", 8.9, 1.9, "output $o$\nσ", "parameter", 1.4),
    ("tanh", 8.9, 3.5, "tanh", "operation", 0.8),
    ("show", 10.0, 2.7, "×", "operation", 0.6),
    ("h new", 11.3, 2.7, "hidden $h_t$", "data", 1.4),
    ("x h", 5.9, 0.5, "input $x_t$ and hidden $h_{t-1}$", "data", 3.6),
):
    drawing.box(name, x, y, text, kind, width)
for start, end in (
    ("c", "forget"), ("forget", "add"), ("add", "c new"), ("f", "forget"), ("i", "write"), ("g", "write"),
    ("write", "add"), ("add", "tanh"), ("tanh", "show"), ("o", "show"), ("show", "h new"),
    ("x h", "f"), ("x h", "i"), ("x h", "g"), ("x h", "o"),
):  # fmt: skip
    drawing.arrow(start, end)
drawing.text(4.35, 4.65, "keep")
drawing.text(6.2, 3.75, "write")
show(drawing.figure, "cell")

# %% [markdown]
# ## Formula · 公式
#
# $$i_t = \sigma(W_i x_t + U_i h_{t-1} + b_i), \qquad f_t = \sigma(W_f x_t + U_f h_{t-1} + b_f)$$
#
# $$g_t = \tanh(W_g x_t + U_g h_{t-1} + b_g), \qquad o_t = \sigma(W_o x_t + U_o h_{t-1} + b_o)$$
#
# $$c_t = f_t \odot c_{t-1} + i_t \odot g_t, \qquad h_t = o_t \odot \tanh(c_t)$$
#
# $$\frac{\partial c_T}{\partial c_0} = \prod_{t=1}^{T} \mathrm{diag}(f_t)$$

# %% [markdown] lang="en"
# - $x_t$: the input of step $t$, `[batch, input_size]`.
# - $h_t$: the hidden state, which is also the output, and $c_t$: the cell state, each `[batch, hidden_size]`.
# - $i_t, f_t, o_t$: the input, forget and output gate, each `[batch, hidden_size]`, between 0 and 1.
# - $g_t$: the candidate, `[batch, hidden_size]`, between −1 and 1.
# - $W_\ast$: weights of the input, `[hidden_size, input_size]`; $U_\ast$: of the hidden state, `[hidden_size,
#   hidden_size]`; $b_\ast$: biases. The modules stack the four blocks in the order i, f, g, o and have two biases, which
#   are added.
# - $\sigma(a) = 1 / (1 + e^{-a})$: the logistic function; $\odot$: the product of elements.
# - $\mathrm{diag}(f_t)$: the matrix with $f_t$ on its diagonal; $T$: the number of steps.
#
# These are equations 7 to 11 of Graves 2013, without the peephole weights there. Hochreiter and Schmidhuber (1997) had
# no forget gate, $f_t = 1$; Gers et al. (2000) added it. Compare the last line with the RNN's, in which every step
# contributes $U^\top$ and a derivative of tanh: here no matrix is multiplied, and each unit has a factor of its own that
# the network can learn to keep near 1. That line counts the path along the cell state alone, the gates taken as given:
# they depend on $h_{t-1}$, so there are other paths as well, which go through matrices and can vanish or explode.

# %% [markdown] lang="zh"
# - $x_t$：第 $t$ 步的输入，`[batch, input_size]`。
# - $h_t$：隐藏状态，也就是输出；$c_t$：细胞状态；都是 `[batch, hidden_size]`。
# - $i_t, f_t, o_t$：输入门、遗忘门、输出门，都是 `[batch, hidden_size]`，取值 0 到 1。
# - $g_t$：候选值，`[batch, hidden_size]`，取值 −1 到 1。
# - $W_\ast$：输入的权重，`[hidden_size, input_size]`；$U_\ast$：隐藏状态的权重，`[hidden_size, hidden_size]`；
#   $b_\ast$：偏置。模块把四块按 i、f、g、o 的顺序叠在一起，并有两个相加的偏置。
# - $\sigma(a) = 1 / (1 + e^{-a})$：logistic 函数；$\odot$：逐元素相乘。
# - $\mathrm{diag}(f_t)$：以 $f_t$ 为对角线的矩阵；$T$：步数。
#
# 这就是 Graves 2013 的式 7 至式 11，去掉了其中的窥视孔（peephole）权重。
# Hochreiter 与 Schmidhuber（1997）没有遗忘门，即 $f_t = 1$；Gers 等（2000）加上了它。
# 把最后一行与 RNN 相比：RNN 每一步都要乘 $U^\top$ 和 tanh 的导数，这里不乘任何矩阵，
# 每个单元有自己的因子，网络可以学会让它保持在 1 附近。
# 这一行只计入沿细胞状态的路径，把门当作给定的：门依赖 $h_{t-1}$，所以还有别的路径，它们经过矩阵，仍可能消失或爆炸。

# %% [markdown]
# ## Code · 代码

# %%
source(lstm_gates)
source(lstm_cell)

# %% [markdown] lang="en"
# All four blocks are computed at once: `weight_ih` is `[4·hidden_size, input_size]`, so one product gives `[batch,
# 4·hidden_size]`, and `chunk` cuts it into four of `[batch, hidden_size]`. Three pass through σ, the candidate through
# tanh.
#
# `lstm_cell` is then the two lines of the formula. Note the order: the hidden state is computed from the new cell state,
# the gates from the old hidden state. A layer (`LSTM`) calls the cell once for each step and passes on both states.

# %% [markdown] lang="zh"
# 四块一次算完：`weight_ih` 的形状是 `[4·hidden_size, input_size]`，一次乘法得到 `[batch, 4·hidden_size]`，
# `chunk` 再切成四份 `[batch, hidden_size]`。其中三份经过 σ，候选值经过 tanh。
#
# `lstm_cell` 就是公式里的两行。注意顺序：隐藏状态由新的细胞状态算出，而门由旧的隐藏状态算出。
# 一层（`LSTM`）每一步调用一次 cell，并把两个状态都传下去。

# %% [markdown]
# ## Experiment: the way back · 实验：梯度的通路

# %% [markdown] lang="en"
# The formula says that the gradient along the cell state is the product of the forget gates. To see only this path, the
# hidden state is cut off with `detach` at every step; autograd must then give that product, unit by unit.

# %% [markdown] lang="zh"
# 公式说，沿细胞状态的梯度就是遗忘门的连乘。为了只看这条路，每一步都用 `detach` 切断隐藏状态；
# 这时 autograd 给出的梯度必须逐单元等于这个连乘。

# %%
quiz(
    "half-life",
    en="Which constant forget gate (0 to 1) leaves half of the cell state after 20 steps?",
    zh="恒定的遗忘门取多少（0 到 1），20 步之后细胞状态还剩一半？",
)

# %%
settle("half-life", 0.5 ** (1 / 20), tolerance=0.015)
random = torch.Generator().manual_seed(0)
layer = LSTM(6, 8).double()
weights = layer.cell_weights(layer=0)
sequence = torch.randn(3, 20, 6, generator=random, dtype=torch.float64)  # [batch, time, input_size]
initial_cell = torch.zeros(3, 8, dtype=torch.float64, requires_grad=True)
hidden, cell = torch.zeros(3, 8, dtype=torch.float64), initial_cell
product = torch.ones(3, 8, dtype=torch.float64)
for t in range(20):
    product = product * lstm_gates(sequence[:, t], hidden, weights).forget
    hidden, cell = lstm_cell(sequence[:, t], (hidden, cell), weights)
    hidden = hidden.detach()
(along_cell,) = torch.autograd.grad(cell.sum(), initial_cell)  # [3, 8]
print(
    f"  torch's initial weights: after 20 steps the gradient is between {along_cell.min():.1e} and {along_cell.max():.1e}"
)

# %% [markdown]
# ## Experiment: where it wins, and where not · 实验：在哪里占优，在哪里不占优

# %% [markdown] lang="en"
# Three tasks of one kind. At every step one of four symbols is read, and a flag, which is 1 at a single step and 0 at
# all others. At the end the network names the flagged symbol; guessing is right one time in four.
#
# - *Select*: five steps, any of them flagged. Flag and symbol have to be combined; nothing has to be kept for long.
# - *Keep*: 21 steps, the first one flagged. It has to be kept over 20 other symbols.
# - *Select and keep*: 25 steps, one of the first five flagged. Both.
#
# Three networks of about 3,000 weights: the RNN that did best in 06/03, with orthogonal recurrent weights; an LSTM as
# torch initializes it; and an LSTM whose forget gates start open, with a bias of 4. All get the same sequences, at most
# 400 updates (fewer where 320 answers in a row are 99 % right), the same learning rate, three seeds.

# %% [markdown] lang="zh"
# 三个同类的任务。每一步读入四个符号之一和一个标记；标记只在某一步为 1，其余为 0。
# 最后网络要说出被标记的符号；乱猜的正确率是四分之一。
#
# - *挑选*：共 5 步，任意一步被标记。需要把标记与符号结合起来，不需要长久保持。
# - *保持*：共 21 步，第一步被标记。要隔着另外 20 个符号记住它。
# - *挑选并保持*：共 25 步，前 5 步之一被标记。两者都要。
#
# 三个网络，各约 3,000 个权重：06/03 中表现最好的 RNN（循环权重正交初始化）、按 torch 默认方式初始化的 LSTM、
# 遗忘门一开始就打开（偏置为 4）的 LSTM。它们用同样的序列、同样的学习率，最多 400 次更新；
# 连续 320 个回答有 99 % 正确就提前停止。各用三个种子。

# %%
quiz(
    "all three",
    en="Which task do all three networks learn?",
    zh="哪个任务三个网络都能学会？",
    choices={
        "select": "select · 挑选",
        "keep": "keep · 保持",
        "both": "both of them · 两个都能",
        "none": "neither · 都不能",
    },
)
quiz(
    "winner",
    en="Which network learns to select and keep?",
    zh="哪个网络能学会“挑选并保持”？",
    choices={
        "RNN": "the RNN only · 只有 RNN",
        "LSTM, open": "the LSTM with open forget gates only · 只有遗忘门打开的 LSTM",
        "LSTMs": "both LSTMs · 两个 LSTM",
        "all": "all three · 三个都能",
        "none": "none of them · 都不能",
    },
)

# %%
SEEDS = (0, 1, 2)
TASKS = {"select": (5, 0), "keep": (1, 20), "select and keep": (5, 20)}  # steps that may be flagged, steps after them


def draw(task: str, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences [count, time, 5], four channels for the symbol and one for the flag, and the flagged symbols [count]."""
    window, delay = TASKS[task]
    symbols = torch.randint(4, (count, window + delay), generator=generator)
    flagged = torch.randint(window, (count,), generator=generator)
    flags = F.one_hot(flagged, window + delay).unsqueeze(2)  # [count, time, 1]
    answers = symbols.gather(1, flagged[:, None]).squeeze(1)
    return torch.cat([F.one_hot(symbols, 4), flags], dim=2).float(), answers


def orthogonal_rnn() -> RNN:
    network = RNN(5, 52)
    nn.init.orthogonal_(network.weight_hh_l0)
    nn.init.zeros_(network.bias_ih_l0)
    nn.init.zeros_(network.bias_hh_l0)
    return network


NETWORKS = {
    "RNN, orthogonal": orthogonal_rnn,
    "LSTM, forget bias 0": lambda: LSTM(5, 24),
    "LSTM, forget bias 4": lambda: LSTM(5, 24, forget_bias=4.0),
}


def learn(name: str, task: str, seed: int) -> tuple[nn.Module, int, float]:
    """Trains a network; returns it, the number of updates, and its accuracy for 1,000 new sequences."""
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    head = nn.Linear(network.hidden_size, 4)
    parameters = [*network.parameters(), *head.parameters()]
    optimizer, draws = torch.optim.Adam(parameters, lr=1e-2), torch.Generator().manual_seed(seed)
    correct: list[float] = []
    while len(correct) < 400 and sum(correct[-10:]) < 9.9:
        x, answers = draw(task, 32, draws)
        logits = head(network(x)[0][:, -1])  # [32, 4], from the last hidden state
        correct.append((logits.argmax(dim=1) == answers).float().mean().item())
        optimizer.zero_grad()
        F.cross_entropy(logits, answers).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    x, answers = draw(task, 1000, torch.Generator().manual_seed(1000 + seed))
    with torch.no_grad():
        found = head(network(x)[0][:, -1]).argmax(dim=1)
    return network, len(correct), (found == answers).float().mean().item()


runs = {(task, name, seed): learn(name, task, seed) for task in TASKS for name in NETWORKS for seed in SEEDS}
sizes = {name: sum(parameter.numel() for parameter in build().parameters()) for name, build in NETWORKS.items()}
accuracies = {(task, name): [runs[task, name, seed][2] for seed in SEEDS] for task in TASKS for name in NETWORKS}
table(
    ["task", "network", "weights", "updates", "accuracy, each seed"],
    [
        (
            task, name, sizes[name], " ".join(str(runs[task, name, seed][1]) for seed in SEEDS),
            " ".join(f"{value:.0%}" for value in accuracies[task, name]),
        )
        for task, name in accuracies
    ],
)  # fmt: skip
solved = {key: min(values) > 0.9 for key, values in accuracies.items()}
easy = [task for task in ("select", "keep") if all(solved[task, name] for name in NETWORKS)]
settle("all three", "both" if len(easy) == 2 else easy[0] if easy else "none")
winners = tuple(solved["select and keep", name] for name in NETWORKS)
names = {(True, False, False): "RNN", (False, False, True): "LSTM, open", (False, True, True): "LSTMs"}
settle("winner", "all" if all(winners) else names.get(winners, "none"))

# %% [markdown] lang="en"
# So gates are not better as such. Where nothing has to be kept for long, the RNN gets there too, though in more updates.
# Where something has to be kept but nothing selected, good initial weights do for the RNN what gates do, in fewer
# updates, and the LSTM as torch initializes it fails: its forget gates are half open, and half to the power of 20 is a
# millionth. The LSTM wins where it depends on the input what is written and what is kept, and only if its forget gates
# start open. (In 400 updates with one learning rate; other settings were not tried here.)

# %% [markdown] lang="zh"
# 可见门本身并不保证更好。不需要长久保持时，RNN 也能学会，只是更新次数更多。需要保持但不用挑选时，
# 好的初始权重就能让 RNN 做到门所做的事，更新次数还更少；而按 torch 默认初始化的 LSTM 反而失败：遗忘门半开，二分之一的 20 次方是百万分之一。
# LSTM 占优的是“写什么、留什么要看输入”的任务，而且前提是遗忘门一开始就打开。
# （这是 400 次更新、同一个学习率下的结果，这里没有试其他设置。）

# %% [markdown]
# ## Experiment: what is kept · 实验：记住了什么

# %% [markdown] lang="en"
# The LSTM that has learned to select and keep reads new sequences twice: as they are, and with the symbol of one step
# exchanged for another. How far does that move the cell state at the end? If the network selects, the flagged step
# moves it far and any other step hardly; if it keeps, it does so although 20 steps follow.

# %% [markdown] lang="zh"
# 让学会“挑选并保持”的 LSTM 把新的序列读两遍：一遍照原样，一遍把某一步的符号换成另一个。
# 结束时的细胞状态因此移动多远？如果网络在挑选，换掉被标记的那一步就会移动很远，换掉其他步几乎不动；
# 如果它在保持，那么隔着 20 步也是如此。


# %%
@torch.no_grad()
def effects(network: LSTM, x: torch.Tensor) -> torch.Tensor:
    """Distances [batch, time] that the last cell state moves if the symbol of a step is exchanged."""
    unchanged = network(x)[1][1][0]  # the cell state of the only layer, [batch, hidden_size]
    moved = []
    for t in range(x.shape[1]):
        changed = x.clone()
        changed[:, t, :4] = x[:, t, :4].roll(1, dims=1)
        moved.append((network(changed)[1][1][0] - unchanged).norm(dim=1))
    return torch.stack(moved, dim=1)


@torch.no_grad()
def cell_states(network: LSTM, x: torch.Tensor) -> torch.Tensor:
    """The cell state after each step, [batch, time, hidden_size]."""
    weights, state, found = network.cell_weights(layer=0), (torch.zeros(len(x), network.hidden_size),) * 2, []
    for t in range(x.shape[1]):
        state = lstm_cell(x[:, t], state, weights)
        found.append(state[1])
    return torch.stack(found, dim=1)


x, _ = draw("select and keep", 300, torch.Generator().manual_seed(1))
flagged = x[:, :, 4] == 1  # [300, time]
rows, moved = [], {}
for seed in SEEDS:
    moved[seed] = effects(runs["select and keep", "LSTM, forget bias 4", seed][0], x)
    others = ~flagged[:, :5]
    means = (moved[seed][flagged], moved[seed][:, :5][others], moved[seed][:, 5:])
    rows.append((seed, *(part.mean().item() for part in means)))
table(["seed", "flagged step exchanged", "another of the first five", "one of the 20 after"], rows)

shown = int(x[:, 2, 4].argmax())  # the first sequence in which step 2 is flagged
cells = cell_states(runs["select and keep", "LSTM, forget bias 4", SEEDS[0]][0], x[shown : shown + 1])
order = cells[0, -1].argsort()
figure, axes = plt.subplots(1, 3, figsize=(15, 4.4), layout="constrained")
shades = {"RNN, orthogonal": "0.85", "LSTM, forget bias 0": "0.55", "LSTM, forget bias 4": "tab:green"}
for number, (name, shade) in enumerate(shades.items()):
    places = torch.arange(3) + 0.27 * (number - 1)
    heights = [sum(accuracies[task, name]) / len(SEEDS) for task in TASKS]
    axes[0].bar(places, heights, 0.25, color=shade, edgecolor="black", label=name)
    for seed_number in range(len(SEEDS)):
        axes[0].plot(places, [accuracies[task, name][seed_number] for task in TASKS], "k.", markersize=4)
axes[0].axhline(0.25, color="black", linestyle=":", label="guessing")
axes[0].set(xticks=range(3), xticklabels=TASKS, ylim=(0, 1.4), ylabel="accuracy", title="Who learns what (dots: seeds)")
axes[0].legend(fontsize=8, loc="upper right", ncols=2)
for seed in SEEDS:
    axes[1].plot(moved[seed][shown], marker=".", label=f"seed {seed}")
axes[1].set(title="Exchanging a symbol moves the last cell state", xlabel="step that is exchanged", ylabel="distance")
limit = cells.abs().max().item()
drawn = axes[2].imshow(cells[0, :, order].T.numpy(), aspect="auto", cmap="RdBu", vmin=-limit, vmax=limit)
axes[2].set(title=f"Cell state, seed {SEEDS[0]}", xlabel="step", ylabel="unit, sorted")
figure.colorbar(drawn, ax=axes[2])
for axis in axes[1:]:
    axis.axvline(2, color="black", linestyle="--", label="flagged step")
axes[1].legend()
show(figure, "select-and-keep")

# %% [markdown] lang="en"
# The flagged symbol outweighs any other by far, however many follow. Look at the cell state as well: it does not rest
# after the flagged step, it grows on in the direction chosen there. The hidden state feeds back into the gates, and
# the network has learned to reinforce what it holds, which is one way of keeping it.

# %% [markdown] lang="zh"
# 被标记的符号的影响远远超过其他任何一步，不管后面还有多少步。再看细胞状态：标记之后它并没有静止，
# 而是沿着当时选定的方向继续增长。隐藏状态会反馈到各个门，网络学会了不断加强自己记住的内容，这也是一种保持的办法。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# `torch.nn.LSTM` with the same weights, two layers, sequences of different lengths in one batch: outputs, both final
# states and all gradients must agree. Our loop takes about a dozen small operations a step; torch's kernel computes the
# whole sequence in one call, with the same numbers.

# %% [markdown] lang="zh"
# 用同样的权重与 `torch.nn.LSTM` 比较：两层，一个批次里序列长度不同；输出、两个最终状态和所有梯度都必须一致。
# 我们的循环每步要做十来个小运算；torch 的内核一次调用算完整个序列，数值相同。

# %%
reference_layer = nn.LSTM(6, 8, num_layers=2, batch_first=True).double()
our_layer = LSTM(6, 8, num_layers=2, fused=False).double()
our_layer.load_state_dict(reference_layer.state_dict())
padded, lengths = torch.randn(3, 10, 6, generator=random, dtype=torch.float64), torch.tensor([10, 4, 7])
outputs, (last_hidden, last_cell) = our_layer(padded, lengths=lengths)
packed = nn.utils.rnn.pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
packed_outputs, (expected_hidden, expected_cell) = reference_layer(packed)
expected, _ = nn.utils.rnn.pad_packed_sequence(packed_outputs, batch_first=True)
our_gradients, their_gradients = (
    torch.cat([gradient.flatten() for gradient in torch.autograd.grad(y.square().sum(), list(module.parameters()))])
    for y, module in ((outputs, our_layer), (expected, reference_layer))
)

fused, loop = LSTM(64, 128), LSTM(64, 128, fused=False)
loop.load_state_dict(fused.state_dict())
batch = torch.randn(16, 50, 64, generator=random)
with torch.no_grad():
    fused_outputs, loop_outputs = fused(batch)[0], loop(batch)[0]
    table(
        ["50 steps, batch of 16, 128 units", "milliseconds"],
        [(name, 1e3 * seconds(lambda each=each: each(batch), 3)) for name, each in (("loop", loop), ("kernel", fused))],
    )

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: i, f, g, o", torch.cat(by_hand), [[0.5], [0.8808], [0.4621], [0.7311]], 1e-4)
check_close("by hand: c' and h'", [new_cell.item(), new_hidden.item()], [1.9927, 0.7044], 1e-4)
check_close("along the cell state the gradient is the product of the forget gates", along_cell, product, 1e-12)
check_close("outputs equal torch.nn.LSTM's, with lengths", outputs, expected, 1e-10)
check_close("so do the last hidden states", last_hidden, expected_hidden, 1e-10)
check_close("and the last cell states", last_cell, expected_cell, 1e-10)
check_close("and all gradients", our_gradients, their_gradients, 1e-9)
check_close("the kernel gives the loop's numbers", fused_outputs, loop_outputs)
check(
    "the networks have about as many weights, the LSTMs fewer",
    0.95 < sizes["LSTM, forget bias 4"] / sizes["RNN, orthogonal"] < 1,
)
check(
    "where nothing has to be kept, every network learns to select, with every seed",
    all(min(accuracies["select", name]) > 0.9 for name in NETWORKS),
)
check(
    "the RNN keeps as well as the LSTM with open forget gates, with every seed",
    min(accuracies["keep", "RNN, orthogonal"] + accuracies["keep", "LSTM, forget bias 4"]) > 0.9,
)
check(
    "the LSTM with half-open forget gates does not keep, with any seed",
    max(accuracies["keep", "LSTM, forget bias 0"] + accuracies["select and keep", "LSTM, forget bias 0"]) < 0.5,
)
check(
    "only the LSTM with open forget gates selects and keeps, with every seed",
    min(accuracies["select and keep", "LSTM, forget bias 4"]) > 0.9
    and max(accuracies["select and keep", "RNN, orthogonal"]) < 0.5,
)
check("of what it has read the flagged symbol is kept, with every seed", all(row[1] > 2 * max(row[2:]) for row in rows))
check(
    "to keep, the RNN needs fewer updates than the LSTM; to select, more; with every seed",
    all(
        runs["keep", "RNN, orthogonal", seed][1] < runs["keep", "LSTM, forget bias 4", seed][1]
        and runs["select", "RNN, orthogonal", seed][1] > runs["select", "LSTM, forget bias 4", seed][1]
        for seed in SEEDS
    ),
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `char-lm` trains two layers of this LSTM on text: `uv run --package char-lm train --preset lstm
# --max-minutes 5`. On long texts the Transformer has taken its place (phase 7), since it does not have to go step by
# step; where memory per step must stay constant, gated recurrences are in use still.
#
# Papers: [Hochreiter & Schmidhuber 1997](https://doi.org/10.1162/neco.1997.9.8.1735), the cell state, and tasks like
# these; [Gers et al. 2000](https://doi.org/10.1162/089976600300015015), the forget gate; [Graves
# 2013](https://arxiv.org/abs/1308.0850), the form above; [Jozefowicz et al.
# 2015](https://proceedings.mlr.press/v37/jozefowicz15.html), the forget bias. Next: the GRU, with fewer gates, 06/05.

# %% [markdown] lang="zh"
# 实战项目 `char-lm` 用两层这样的 LSTM 在文本上训练：`uv run --package char-lm train --preset lstm --max-minutes 5`。
# 在长文本上，Transformer 已取代了它（第 7 阶段），因为不必一步一步地算；
# 在每一步的内存必须恒定的场合，带门的循环网络仍在使用。
#
# 论文：[Hochreiter 与 Schmidhuber 1997](https://doi.org/10.1162/neco.1997.9.8.1735) 提出细胞状态以及类似的任务；
# [Gers 等 2000](https://doi.org/10.1162/089976600300015015) 提出遗忘门；
# [Graves 2013](https://arxiv.org/abs/1308.0850) 给出上面的形式；
# [Jozefowicz 等 2015](https://proceedings.mlr.press/v37/jozefowicz15.html) 讨论遗忘门偏置。
# 下一课：门更少的 GRU，06/05。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `lstm_gates` and `lstm_cell` yourself. `uv run lesson exercise 06/04` makes a file with their signatures, `uv run
# lesson check 06/04` judges values and gradients with weights of its own.

# %% [markdown] lang="zh"
# 自己实现 `lstm_gates` 和 `lstm_cell`。`uv run lesson exercise 06/04` 生成带有签名的文件，
# `uv run lesson check 06/04` 用另外的权重检查数值与梯度。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `F.linear(x, weight, bias)` computes $x W^\top + b$: once for the input, once for the hidden state. The sum of both
#    is `[batch, 4·hidden_size]`.
# 2. `.chunk(4, dim=1)` cuts it into the blocks i, f, g, o, in this order. σ is `torch.sigmoid`; the candidate g gets
#    `torch.tanh`. Return `LSTMGates(i, f, g, o)`.
# 3. In `lstm_cell` the state is `(hidden, cell)`. The gates are computed from the hidden state before the step; the
#    products with them are elementwise, `*`.
# 4. The new hidden state uses the new cell state, through tanh. Return the new pair, hidden first; change nothing in
#    place.

# %% [markdown] lang="zh"
# 1. `F.linear(x, weight, bias)` 计算 $x W^\top + b$：对输入算一次，对隐藏状态算一次，两者之和的形状是 `[batch, 4·hidden_size]`。
# 2. `.chunk(4, dim=1)` 把它切成 i、f、g、o 四块，顺序如此。σ 是 `torch.sigmoid`；候选值 g 用 `torch.tanh`。
#    返回 `LSTMGates(i, f, g, o)`。
# 3. 在 `lstm_cell` 中，状态是 `(hidden, cell)`。门由这一步之前的隐藏状态算出；与门相乘是逐元素的 `*`。
# 4. 新的隐藏状态用的是新的细胞状态，先过 tanh。返回新的二元组，隐藏状态在前；不要原地修改。


# %%
@exercise(lstm_gates, lstm_cell)
def judge(yours, reference):
    random = torch.Generator().manual_seed(11)

    def drawn(*shape):
        return torch.randn(shape, generator=random, dtype=torch.float64)

    x, hidden, cell = drawn(3, 4), drawn(3, 5), drawn(3, 5)  # batch 3, input_size 4, hidden_size 5
    weights = CellWeights(drawn(20, 4), drawn(20, 5), drawn(20), drawn(20))
    no_input = CellWeights(0 * weights.weight_ih, weights.weight_hh, 0 * weights.bias_ih, weights.bias_hh)
    no_hidden = CellWeights(weights.weight_ih, 0 * weights.weight_hh, weights.bias_ih, 0 * weights.bias_hh)

    gates = yours.lstm_gates(x, hidden, weights)
    check("lstm_gates returns an LSTMGates", getattr(gates, "_fields", ()) == LSTMGates._fields)
    check("each gate is [batch, hidden_size]", all(gate.shape == (3, 5) for gate in gates))
    check(
        "input, forget and output gate lie between 0 and 1",
        all(((g > 0) & (g < 1)).all() for g in (gates[0], gates[1], gates[3])),
    )
    for case, given in (
        (", from the input alone", no_hidden),
        (", from the hidden state alone", no_input),
        ("", weights),
    ):
        pairs = zip(
            LSTMGates._fields, yours.lstm_gates(x, hidden, given), reference.lstm_gates(x, hidden, given), strict=True
        )
        for name, mine, expected in pairs:
            check_close(f"{name}{case}", mine, expected, 1e-10)

    def step(start):  # on copies: what is changed in place is found below
        return [module.lstm_cell(x, (hidden.clone(), start.clone()), weights) for module in (yours, reference)]

    mine, expected = step(torch.zeros_like(cell))
    check("lstm_cell returns two tensors", len(mine) == 2)
    check_close("the new cell state if the old one is 0: what is written", mine[1], expected[1], 1e-10)
    mine, expected = step(cell)
    check_close("the new cell state", mine[1], expected[1], 1e-10)
    check_close("the new hidden state, from the new cell state", mine[0], expected[0], 1e-10)
    before = hidden.clone(), cell.clone()
    yours.lstm_cell(x, (hidden, cell), weights)
    check("the old state is left as it was", torch.equal(before[0], hidden) and torch.equal(before[1], cell))

    def gradients(module):
        leaves = [value.clone().requires_grad_() for value in (x, hidden, cell, *weights)]
        state = (leaves[1], leaves[2])
        for _ in range(3):  # three steps, so that each state's gradient goes through the others
            state = module.lstm_cell(leaves[0], state, CellWeights(*leaves[3:]))
        return torch.autograd.grad(state[0].square().sum() + state[1].sum(), leaves, allow_unused=True)

    names = ("the input", "the first hidden state", "the first cell state", *CellWeights._fields)
    for name, *pair in zip(names, gradients(yours), gradients(reference), strict=True):
        check(f"after three steps, the result depends on {name}", pair[0] is not None)
        check_close(f"after three steps, the gradient of {name}", *pair, 1e-9)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why does the gradient vanish less in an LSTM than in an RNN? · 为什么 LSTM 的梯度不像 RNN 那样容易消失？

# %% [markdown] lang="en"
# The cell state goes from step to step through a product with the forget gate and a sum. Along it the gradient is the
# product of the forget gates: no matrix, no tanh, and each factor is learned and can be near 1. In an RNN every step
# multiplies by the same matrix and a derivative of tanh. It is no guarantee: gates below 1 still shrink exponentially,
# and along the paths through the gates gradients can explode, so clipping stays.

# %% [markdown] lang="zh"
# 细胞状态从一步到下一步只经过与遗忘门的乘法和一次加法。沿这条路的梯度就是遗忘门的连乘：
# 没有矩阵，没有 tanh，每个因子都由学习决定，可以接近 1。RNN 每一步都乘同一个矩阵和 tanh 的导数。
# 但这不是保证：小于 1 的门仍会指数衰减，经过门的路径上梯度也可能爆炸，所以仍要做梯度裁剪。

# %%
print(
    f"  20 steps: largest difference of gradient and product of gates {(along_cell - product).abs().max().item():.1e}"
)

# %% [markdown]
# ### Why is the forget gate's bias often set to 1 or more? · 为什么常把遗忘门的偏置设为 1 或更大？

# %% [markdown] lang="en"
# With a bias of 0 the gates start at about ½, so after k steps only ½ᵏ of content and gradient is left: the network
# cannot learn from what it cannot see, and never finds out that it should keep. A larger bias b lets it remember at
# first and learn to forget. 1/(1 − σ(b)) = 1 + eᵇ is roughly the number of steps: for a known time span T choose b
# near log T.

# %% [markdown] lang="zh"
# 偏置为 0 时，门从约 ½ 开始，k 步之后内容和梯度都只剩 ½ᵏ：看不到的东西无从学起，网络也就发现不了应该保留。
# 偏置 b 大一些，网络一开始就记得住，再学着遗忘。1/(1 − σ(b)) = 1 + eᵇ 大致就是能记住的步数：
# 若已知时间跨度为 T，取 b ≈ log T。

# %%
for name in ("LSTM, forget bias 0", "LSTM, forget bias 4"):
    print(f"  {name}: keep, 20 steps: {', '.join(f'{value:.0%}' for value in accuracies['keep', name])}")

# %% [markdown]
# ### What is the difference between cell state and hidden state? · 细胞状态与隐藏状态有什么区别？

# %% [markdown] lang="en"
# The cell state is the store: additive, unbounded, touched only by the gates of its own unit. The hidden state is what
# of it is shown, o ⊙ tanh(c), between −1 and 1; the output, the next layer and the gates of the next step read it. Thus
# a unit can hold something without showing it. Both have to be kept when a sequence is continued.

# %% [markdown] lang="zh"
# 细胞状态是存储：以加法更新、没有上下界、只受本单元的门影响。隐藏状态是露出来的部分 o ⊙ tanh(c)，在 −1 到 1 之间，
# 供输出、下一层和下一步的门读取。因此单元可以记着某个内容而不露出来。接着处理同一序列时，两个状态都要保留。

# %%
counter = CellWeights(torch.zeros(4, 1), torch.zeros(4, 1), torch.full((4,), 20.0), torch.zeros(4))  # all gates open
state = (torch.zeros(1, 1), torch.zeros(1, 1))
for _ in range(20):
    state = lstm_cell(torch.zeros(1, 1), state, counter)
print(f"  all gates open, 20 steps: cell state {state[1].item():.1f}, hidden state {state[0].item():.3f}")

# %% [markdown]
# ### How many parameters does an LSTM layer have, compared with an RNN and a GRU? · LSTM 一层有多少参数？与 RNN、GRU 相比呢？

# %% [markdown] lang="en"
# Four blocks, each of H·I weights of the input, H·H of the hidden state, and biases: 4(H·I + H² + 2H) with the two
# biases of torch. An RNN has one block, a GRU three. So a comparison at equal width gives the LSTM four times the
# weights of the RNN; compare at equal size, as above.

# %% [markdown] lang="zh"
# 四块，每块有 H·I 个输入权重、H·H 个隐藏状态权重和偏置：按 torch 的两个偏置计算，共 4(H·I + H² + 2H)。
# RNN 一块，GRU 三块。所以同样宽度下，LSTM 的权重是 RNN 的四倍；要像上面那样在参数量相同时比较。

# %%
table(
    ["10 inputs, 20 units", "parameters", "blocks · (H·I + H² + 2H)"],
    [
        (kind.__name__, sum(p.numel() for p in kind(10, 20).parameters()), blocks * (20 * 10 + 20 * 20 + 2 * 20))
        for kind, blocks in ((nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4))
    ],
)

# %% [markdown]
# ### Why sigmoid for the gates, but tanh for the candidate? · 为什么门用 sigmoid，候选值用 tanh？

# %% [markdown] lang="en"
# A gate is a fraction, from nothing to all: it needs 0 to 1. The candidate is content and must be able to raise and to
# lower the cell state: with a sigmoid there it could only add, and the state would drift upward. Around 0 tanh also has
# slope 1, the sigmoid only ¼.

# %% [markdown] lang="zh"
# 门是比例，从全不到全部，需要 0 到 1。候选值是内容，必须既能提高也能降低细胞状态：
# 如果用 sigmoid，就只能增加，状态会一直往上漂。另外在 0 附近 tanh 的斜率是 1，sigmoid 只有 ¼。

# %%
sums = torch.randn(1000, generator=torch.Generator().manual_seed(0))
print(
    f"  100 writes of a candidate, mean: tanh {100 * sums.tanh().mean():.1f}, sigmoid {100 * sums.sigmoid().mean():.1f}"
)

# %% [markdown]
# ### When would you not take an LSTM? · 什么时候不用 LSTM？

# %% [markdown] lang="en"
# If what matters lies a few steps back: a simple RNN, a convolution or features of the last values do as well, with
# fewer parts. If sequences are long and there is a GPU: the steps of an LSTM must be computed one after the other, a
# Transformer computes all positions at once and reaches any of them directly. It has its place in streams with small
# memory, where a state of constant size is an advantage.

# %% [markdown] lang="zh"
# 重要的信息就在前几步时：简单 RNN、卷积或最近几个值的特征同样够用，部件更少。
# 序列很长又有 GPU 时：LSTM 的各步必须依次计算，而 Transformer 同时计算所有位置，并能直接看到任何位置。
# 它适合内存很小的流式场景，状态大小恒定是优点。

# %%
for name in ("RNN, orthogonal", "LSTM, forget bias 4"):
    print(f"  select, 5 steps: {name}: {', '.join(f'{value:.0%}' for value in accuracies['select', name])}")
