# %% [markdown]
# # Long short-term memory · 长短期记忆网络
#
# An LSTM gives the network a memory beside its state: c' = f ⊙ c + i ⊙ g. Old content is kept in proportion to the
# forget gate f, new content written in proportion to the input gate i, and the output gate o decides what of it shows:
# h' = o ⊙ tanh(c'). The memory is never multiplied by a matrix on its way, so its gradient from step to step is just
# f: the network can learn to keep it at one.
#
# This lesson holds our LSTM to be torch's, layers and gradients included, checks the highway of the gradient, compares
# the written-out loop with the fused kernel in speed, and trains it on real text to watch its gates at work.
#
# LSTM 在状态之外增加了一条记忆：c' = f ⊙ c + i ⊙ g。遗忘门 f 决定保留多少旧内容，输入门 i 决定写入多少新内容，
# 输出门 o 决定露出多少：h' = o ⊙ tanh(c')。记忆在时间上从不与矩阵相乘，所以它逐步的梯度就是 f，
# 网络可以学会让它保持为一。本课验证实现与 torch 完全一致，检查梯度的“高速公路”，比较手写循环与融合内核的速度，
# 并在真实文本上训练，观察各个门如何工作。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, seconds, show, table
from dlcommon.rnn.cells import lstm_cell
from dlcommon.rnn.recurrent import LSTM, RNN
from torch import nn
from torch.nn import functional as F

random = torch.Generator().manual_seed(0)

# %% [markdown]
# ## The same as torch's · 与 torch 完全一致
#
# Two layers, sequences of different lengths in one batch, weights taken over by name.

# %%
reference = nn.LSTM(6, 8, num_layers=2, batch_first=True).double()
ours = LSTM(6, 8, num_layers=2, fused=False).double()
ours.load_state_dict(reference.state_dict())
x, lengths = torch.randn(3, 10, 6, generator=random, dtype=torch.float64), torch.tensor([10, 4, 7])
outputs, (hidden, cell) = ours(x, lengths=lengths)
packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
packed_outputs, (expected_hidden, expected_cell) = reference(packed)
expected, _ = nn.utils.rnn.pad_packed_sequence(packed_outputs, batch_first=True)
gradients = torch.autograd.grad(outputs.square().sum(), list(ours.parameters()))
expected_gradients = torch.autograd.grad(expected.square().sum(), list(reference.parameters()))

# %% [markdown]
# ## The highway · 梯度的高速公路
#
# Through the memory alone (the gates taken as given), dc_T/dc_0 is the product of the forget gates. We cut every other
# way with `detach` and ask autograd.
#
# 只看记忆这一条路（把门当作常数），dc_T/dc_0 就是所有遗忘门的乘积。

# %%
weights = ours.cell_weights(layer=0)
start = torch.zeros(3, 8, dtype=torch.float64, requires_grad=True)
state, product = (torch.zeros(3, 8, dtype=torch.float64), start), torch.ones(3, 8, dtype=torch.float64)
for time in range(10):
    sums = F.linear(x[:, time], weights.weight_ih, weights.bias_ih)
    sums = sums + F.linear(state[0], weights.weight_hh, weights.bias_hh)
    product = product * torch.sigmoid(sums[:, 8:16])
    after = lstm_cell(x[:, time], state, weights)
    state = (after[0].detach(), after[1])
(highway,) = torch.autograd.grad(state[1].sum(), start)

# %% [markdown]
# ## Speed · 速度
#
# The loop that is written out starts some ten small operations a step; the fused kernel is one call. Same numbers.

# %%
fast = LSTM(64, 128)
slow = LSTM(64, 128, fused=False)
slow.load_state_dict(fast.state_dict())
batch = torch.randn(16, 50, 64, generator=random)
with torch.no_grad():
    times = [seconds(lambda network=network: network(batch), repeats=3) for network in (slow, fast)]
    difference = (slow(batch)[0] - fast(batch)[0]).abs().max().item()
print(
    f"  50 steps: written out {1e3 * times[0]:.1f} ms, fused {1e3 * times[1]:.1f} ms, {times[0] / times[1]:.1f} times"
)

# %% [markdown]
# ## Real text · 真实文本
#
# Both networks read the same characters and say what comes next; the RNN is given about as many weights.

# %%
text = data("tinyshakespeare", "python-manual")
alphabet = sorted(set(text.train))
numbers = {character: number for number, character in enumerate(alphabet)}
characters = torch.tensor([numbers[character] for character in text.train[:300_000]])
held_out = torch.tensor([numbers[character] for character in text.test[:20_001] if character in numbers])


# %%
def language_model(recurrent, updates=120):
    """Trains on random pieces of 64 characters; returns embedding, output layer and nats per held-out character."""
    draws = torch.Generator().manual_seed(1)
    embedding, head = nn.Embedding(len(alphabet), 32), nn.Linear(recurrent.hidden_size, len(alphabet))
    parameters = [*embedding.parameters(), *recurrent.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(updates):
        begins = torch.randint(len(characters) - 65, (32, 1), generator=draws)
        piece = characters[begins + torch.arange(65)]
        logits = head(recurrent(embedding(piece[:, :-1]))[0])
        loss = F.cross_entropy(logits.flatten(0, 1), piece[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    with torch.no_grad():
        piece = held_out[: len(held_out) // 200 * 200].view(-1, 200)
        logits = head(recurrent(embedding(piece[:, :-1]))[0])
        return embedding, head, F.cross_entropy(logits.flatten(0, 1), piece[:, 1:].flatten()).item()


networks = {"RNN, 128 units": RNN(32, 128), "LSTM, 64 units": LSTM(32, 64, forget_bias=1.0)}
trained = {name: language_model(network) for name, network in networks.items()}
frequencies = torch.bincount(characters) / len(characters)
guessing = -(frequencies * frequencies.clamp(min=1e-12).log()).sum().item()
sizes = {name: sum(parameter.numel() for parameter in network.parameters()) for name, network in networks.items()}
table(
    ("network", "weights", "nats a character, held out"),
    [(name, sizes[name], trained[name][2]) for name in networks] + [("frequencies alone", len(alphabet), guessing)],
)

# %% [markdown]
# With so little training, and text whose next character depends on the last few above all, the RNN of equal size is not
# behind. Gates pay where something has to be kept for long, as the lesson before measured; what they learn to keep is
# visible already.
#
# ## The gates at work · 门在做什么
#
# One line of the text, one column a character. Each row is one unit's forget gate; the units are sorted by how long
# they remember: a gate of f forgets over about 1/(1 − f) characters.

# %%
lstm, embedding = networks["LSTM, 64 units"], trained["LSTM, 64 units"][0]
line = next(line for line in text.test.split("\n") if 40 <= len(line) <= 60 and set(line) <= set(alphabet))
state, forget = (torch.zeros(1, 64), torch.zeros(1, 64)), []
with torch.no_grad():
    for character in line:
        x = embedding(torch.tensor([numbers[character]]))
        weights = lstm.cell_weights(layer=0)
        sums = F.linear(x, weights.weight_ih, weights.bias_ih)
        sums = sums + F.linear(state[0], weights.weight_hh, weights.bias_hh)
        forget.append(torch.sigmoid(sums[0, 64:128]))
        state = lstm_cell(x, state, weights)
gates = torch.stack(forget, dim=1)  # [units, characters]
gates = gates[gates.mean(dim=1).argsort()]
spans = 1 / (1 - gates.mean(dim=1))

fig, axes = plt.subplots(1, 2, figsize=(15, 5), width_ratios=(3, 1), layout="constrained")
image = axes[0].imshow(gates.numpy(), aspect="auto", cmap="viridis", vmin=0, vmax=1, origin="lower")
axes[0].set_xticks(range(len(line)), list(line), family="monospace")
axes[0].set(title="Forget gates while reading a line: some units let go at once, others keep", ylabel="unit")
fig.colorbar(image, ax=axes[0], label="kept")
axes[1].barh(range(64), spans.numpy(), color="tab:green")
axes[1].set(
    title=f"They remember {spans.min():.1f} to {spans.max():.0f} characters",
    xlabel="1 / (1 − mean gate)",
    ylim=(-0.5, 63.5),
)
show(fig, "forget-gates")

# %%
check_close("outputs equal torch.nn.LSTM's on packed sequences", outputs, expected, 1e-10)
check_close("so does the cell state at each sequence's end", cell, expected_cell, 1e-10)
check_close(
    "and all gradients",
    torch.cat([gradient.flatten() for gradient in gradients]),
    torch.cat([gradient.flatten() for gradient in expected_gradients]),
    1e-9,
)
check_close("through the cell state alone the gradient is the product of the forget gates", highway, product, 1e-12)
check("the fused kernel gives the same numbers", difference < 1e-5)
check("in less time than the loop", times[1] < times[0])
check("the LSTM has learned more than frequencies", trained["LSTM, 64 units"][2] < guessing - 0.8)
check("its units remember over very different spans", spans.max() > 3 * spans.min())
