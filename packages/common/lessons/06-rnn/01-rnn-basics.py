# %% [markdown]
# # Recurrent networks · 循环神经网络基础
#
# A recurrent network reads a sequence one step at a time and keeps what matters in a state: h' = tanh(W x + U h + b).
# The same three weights serve every step, so its size does not depend on how long the sequence is, and it can answer
# at any moment with what it has seen so far.
#
# This lesson holds our network to be torch's, then lets one read handwritten digits row by row, as a scanner would:
# 28 steps of 28 pixels. It measures what the network knows after each row, and whether the order of the rows matters
# to it.
#
# 循环神经网络逐步读取序列，并把重要的信息保存在状态里：h' = tanh(W x + U h + b)。每一步都用同一组权重，
# 所以参数量与序列长度无关，而且随时可以根据已读到的内容给出答案。本课先验证我们的实现与 torch 完全一致，
# 再让网络像扫描仪一样逐行读取手写数字（28 步，每步 28 个像素），测量它读完每一行之后知道多少，以及行的顺序是否重要。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.rnn.cells import rnn_cell
from dlcommon.rnn.recurrent import RNN
from torch import nn
from torch.nn import functional as F

random = torch.Generator().manual_seed(0)

# %% [markdown]
# ## One step, again and again · 一步一步展开
#
# Written out, the network is a loop. The state is all that goes from one step to the next.

# %%
network = RNN(input_size=3, hidden_size=5, fused=False).double()
x = torch.randn(2, 6, 3, generator=random, dtype=torch.float64)  # [batch, time, inputs]
state = network.zero_state(x)
hidden = (state[0][0],)
for time in range(6):
    hidden = rnn_cell(x[:, time], hidden, network.cell_weights(layer=0))
outputs, end = network(x)

reference = nn.RNN(3, 5, batch_first=True).double()
reference.load_state_dict(network.state_dict())
expected, _ = reference(x)
loss, expected_loss = outputs.square().sum(), expected.square().sum()
gradient = torch.autograd.grad(loss, network.weight_hh_l0)[0]
expected_gradient = torch.autograd.grad(expected_loss, reference.weight_hh_l0)[0]

# %% [markdown]
# ## A digit, row by row · 逐行读取数字
#
# Every row is one step. The images are halved to 14×14, so that there are 14 steps; the answer is given after the last
# one, from the state alone.
#
# 每一行是一步；图像缩小到 14×14，共 14 步。读完最后一行后，只根据状态作答。

# %%
digits = data("mnist", "mnist-sample")


def rows_of(images):
    """[images, 14, 14]: the rows are the steps in time."""
    return F.avg_pool2d(torch.tensor(images[:, :, :, 0]) / 255, 2)


train_rows, train_labels = rows_of(digits.train_images[:4000]), torch.tensor(digits.train_labels[:4000])
test_rows, test_labels = rows_of(digits.test_images[:1000]), torch.tensor(digits.test_labels[:1000])

reader, head = RNN(input_size=14, hidden_size=64), nn.Linear(64, 10)
parameters = [*reader.parameters(), *head.parameters()]
optimizer = torch.optim.Adam(parameters, lr=5e-3)
for _ in range(5):
    for batch in torch.randperm(len(train_rows), generator=random).split(50):
        states, _ = reader(train_rows[batch])  # [batch, rows, hidden]
        loss = F.cross_entropy(head(states[:, -1]), train_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

# %% [markdown]
# ## Does the order matter? · 顺序重要吗？
#
# The same rows in another order hold the same ink. A network that only added rows up would not notice.


# %%
def accuracy(rows):
    with torch.no_grad():
        return (head(reader(rows)[0][:, -1]).argmax(dim=1) == test_labels).float().mean().item()


scanned, upside_down = accuracy(test_rows), accuracy(test_rows.flip(1))
shuffled = accuracy(test_rows[:, torch.randperm(14, generator=random)])
table(
    ("rows read", "test accuracy"),
    [("from the top, as trained", scanned), ("from the bottom", upside_down), ("shuffled", shuffled)],
)

# %% [markdown]
# ## What the state knows after each row · 每读一行，状态知道多少
#
# The network is asked only at the end, but its state must have been collecting all the way. A linear probe measures
# that: for each row, least squares from the state to the class, fitted on training images and tried on test images.
#
# 线性探针：对每一行之后的状态做最小二乘，看它在多大程度上已能说出类别。

# %%
with torch.no_grad():
    train_states, test_states = reader(train_rows)[0], reader(test_rows)[0]  # [images, rows, hidden]
classes = F.one_hot(train_labels).float()
probed = []
for row in range(14):
    known, asked = (F.pad(states[:, row], (0, 1), value=1.0) for states in (train_states, test_states))
    ridge = known.T @ known + 0.1 * torch.eye(65)
    probe = torch.linalg.solve(ridge, known.T @ classes)  # [hidden + 1, classes]
    probed.append(((asked @ probe).argmax(dim=1) == test_labels).float().mean().item())

# %%
example = int((test_labels == 5).nonzero()[0])
order = test_states[example].var(dim=0).argsort(descending=True)[:24]
fig, axes = plt.subplots(1, 3, figsize=(13, 4), width_ratios=(1, 1.3, 1.6), layout="constrained")
axes[0].imshow(test_rows[example].numpy(), cmap="gray_r")
axes[0].set(title="What is read, from the top", xticks=[], ylabel="row = step")
axes[1].imshow(test_states[example][:, order].numpy(), aspect="auto", cmap="RdBu", vmin=-1, vmax=1)
axes[1].set(title="The state after each row", xlabel="the 24 hidden units that move most", xticks=[])
axes[2].plot(range(1, 15), probed, marker="o", label="linear probe of the state")
axes[2].axhline(scanned, color="tab:green", label="the network's answer at the end")
axes[2].axhline(shuffled, color="tab:red", linestyle="--", label="its answer when rows are shuffled")
axes[2].axhline(0.1, color="gray", linestyle=":", label="guessing")
axes[2].set(title="The state knows more with every row", xlabel="rows read", ylabel="test accuracy", ylim=(0, 1))
axes[2].legend(fontsize=8)
show(fig, "row-by-row")

# %%
short, long = reader(test_rows[:2, :5])[0], reader(torch.cat([test_rows[:2]] * 3, dim=1))[0]
check_close("the loop over cells is the network", outputs[:, -1], hidden[0], 1e-12)
check_close("outputs equal torch.nn.RNN's", outputs, expected, 1e-12)
check_close("so does the gradient of the recurrent weights", gradient, expected_gradient, 1e-10)
check("the same weights read 5 rows and 42", short.shape[1] == 5 and long.shape[1] == 42)
check("it recognises two digits of three at least", scanned > 0.65)
check("rows in another order mean little to it", max(upside_down, shuffled) < scanned - 0.3)
check("its state knows more after 5 rows than after 2, after 8 than after 5", probed[1] < probed[4] < probed[7])
check("and most at the end", probed[13] > 0.65)
