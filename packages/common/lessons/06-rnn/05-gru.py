# %% [markdown]
# # Gated recurrent units · 门控循环单元
#
# A GRU is gating with fewer parts: one state instead of two, and one update gate z that both forgets and writes:
# h' = (1 − z) ⊙ n + z ⊙ h. A second gate r decides how much of the past the candidate n may see. It has three quarters
# of an LSTM's weights at the same width.
#
# There are two GRUs: the published paper (Cho et al. 2014, https://arxiv.org/abs/1406.1078) multiplies the state by r
# before the matrix; its first version, torch and cuDNN after it. We hold ours to be torch's, measure how far the other
# one is from it, and compare RNN, GRU and LSTM at an equal number of weights on images read pixel by pixel, which takes
# a memory of 64 steps.
#
# GRU 用更少的部件实现门控：只有一个状态，一个更新门 z 同时负责遗忘与写入：h' = (1 − z) ⊙ n + z ⊙ h；
# 重置门 r 决定候选值 n 能看到多少过去。同样宽度下，它的参数是 LSTM 的四分之三。GRU 有两个版本：
# 正式发表的论文在乘矩阵之前乘 r，论文的第一版、torch 与 cuDNN 在之后乘。本课验证实现与 torch 一致，测量两个版本的差别，
# 并在参数量相同的条件下，比较 RNN、GRU、LSTM 逐像素读图（需要记住 64 步）的能力。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, show, table
from dlcommon.rnn.cells import gru_cell
from dlcommon.rnn.recurrent import GRU, LSTM, RNN
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

random = torch.Generator().manual_seed(0)

# %% [markdown]
# ## The same as torch's, and the other one · 两个版本

# %%
reference = nn.GRU(6, 8, num_layers=2, batch_first=True).double()
ours = GRU(6, 8, num_layers=2, fused=False).double()
ours.load_state_dict(reference.state_dict())
x = torch.randn(4, 9, 6, generator=random, dtype=torch.float64)
outputs, _ = ours(x)
expected, _ = reference(x)
gradients = torch.autograd.grad(outputs.square().sum(), list(ours.parameters()))
expected_gradients = torch.autograd.grad(expected.square().sum(), list(reference.parameters()))

weights = ours.cell_weights(layer=0)
hidden = torch.randn(4, 8, generator=random, dtype=torch.float64)
(step,) = gru_cell(x[:, 0], (hidden,), weights)

from_input = F.linear(x[:, 0], weights.weight_ih, weights.bias_ih).chunk(3, dim=1)
reset_weights, update_weights, candidate_weights = weights.weight_hh.chunk(3)
reset_bias, update_bias, candidate_bias = weights.bias_hh.chunk(3)
reset = torch.sigmoid(from_input[0] + F.linear(hidden, reset_weights, reset_bias))
update = torch.sigmoid(from_input[1] + F.linear(hidden, update_weights, update_bias))
candidate = torch.tanh(from_input[2] + F.linear(reset * hidden, candidate_weights, candidate_bias))
published = (1 - update) * candidate + update * hidden
apart = (published - step).abs().max().item()
print(f"  one step of the two versions with the same weights differs by up to {apart:.3f}")

# %% [markdown]
# ## Pixel by pixel · 逐像素读图
#
# Real digits of 8×8 pixels (scikit-learn's), read as 64 steps of one pixel: a small version of the test of Le et al.
# (2015), and again as 16 steps of four pixels. The widths are chosen so that all three networks have about as many
# weights, which gives the RNN the widest state; each is trained at the best of the learning rates that were tried.

# %%
digits = load_digits()
pixels = torch.tensor(digits.images, dtype=torch.float32).flatten(1) / 16  # [images, 64]
labels = torch.tensor(digits.target)
order = torch.randperm(len(labels), generator=random)
train, test = order[:1000], order[1400:]


# %%
def learn(recurrent, steps, learning_rate, epochs=10):
    """Test accuracy after each epoch of reading the pixels in that many steps."""
    sequences = pixels.view(len(pixels), steps, -1)
    draws = torch.Generator().manual_seed(1)
    head = nn.Linear(recurrent.hidden_size, 10)
    parameters = [*recurrent.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * 10)
    curve = []
    for _ in range(epochs):
        for batch in train[torch.randperm(len(train), generator=draws)].split(100):
            loss = F.cross_entropy(head(recurrent(sequences[batch])[0][:, -1]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            answers = head(recurrent(sequences[test])[0][:, -1]).argmax(dim=1)
        curve.append((answers == labels[test]).float().mean().item())
    return curve


kinds = {"RNN": (RNN, 72, 5e-3), "GRU": (GRU, 41, 2e-2), "LSTM": (LSTM, 35, 2e-2)}
networks = {(name, steps): kind(64 // steps, width) for name, (kind, width, _) in kinds.items() for steps in (16, 64)}
curves = {(name, steps): learn(network, steps, kinds[name][2]) for (name, steps), network in networks.items()}
sizes = {key: sum(parameter.numel() for parameter in network.parameters()) for key, network in networks.items()}
final = {key: curve[-1] for key, curve in curves.items()}
table(
    ("network", "units", "weights", "16 steps of 4", "64 steps of 1", "lost by the longer way"),
    [
        (name, width, sizes[name, 64], final[name, 16], final[name, 64], final[name, 16] - final[name, 64])
        for name, (_, width, _) in kinds.items()
    ],
)

# %% [markdown]
# ## What the update gate does · 更新门的作用
#
# Where z is near one, the state stays as it is. The picture shows the mean of the gate at each pixel over all test
# images: the trained GRU has its own idea of which pixels are worth an update.

# %%
gru = networks["GRU", 64]
weights, state, gates = gru.cell_weights(layer=0), (torch.zeros(len(test), gru.hidden_size),), []
with torch.no_grad():
    for time in range(64):
        x = pixels[test, time : time + 1]
        from_input = F.linear(x, weights.weight_ih, weights.bias_ih).chunk(3, dim=1)
        from_state = F.linear(state[0], weights.weight_hh, weights.bias_hh).chunk(3, dim=1)
        gates.append(torch.sigmoid(from_input[1] + from_state[1]))
        state = gru_cell(x, state, weights)
kept = torch.stack(gates, dim=1)  # [images, 64, units]
kept_where = kept.mean(dim=(0, 2)).view(8, 8)
ink = pixels[test]
dark, bright = kept.mean(dim=2)[ink > 0.7].mean().item(), kept.mean(dim=2)[ink == 0].mean().item()
print(f"  kept at empty pixels {bright:.2f}, at ink {dark:.2f}")

fig, axes = plt.subplots(1, 3, figsize=(15, 4.2), width_ratios=(1.6, 1, 1), layout="constrained")
for (name, steps), curve in curves.items():
    colour = {"RNN": "tab:blue", "GRU": "tab:orange", "LSTM": "tab:green"}[name]
    axes[0].plot(range(1, 11), curve, "-" if steps == 64 else ":", color=colour, label=f"{name}, {steps} steps")
axes[0].set(title="Same pixels: the longer way is harder for all", xlabel="epoch", ylabel="test accuracy", ylim=(0, 1))
axes[0].legend(fontsize=8, ncols=3, loc="lower right")
axes[1].imshow(ink.mean(dim=0).view(8, 8).numpy(), cmap="gray_r")
axes[1].set(title="The mean test digit", xticks=[], yticks=[])
image = axes[2].imshow(kept_where.numpy(), cmap="viridis")
axes[2].set(title="Update gate: how much is kept", xticks=[], yticks=[])
fig.colorbar(image, ax=axes[2])
show(fig, "pixel-by-pixel")

# %%
check_close("outputs equal torch.nn.GRU's", outputs, expected, 1e-10)
check_close(
    "so do all gradients",
    torch.cat([gradient.flatten() for gradient in gradients]),
    torch.cat([gradient.flatten() for gradient in expected_gradients]),
    1e-9,
)
check("the published paper's GRU is another function of the same weights", apart > 1e-3)
counts = [sum(parameter.numel() for parameter in kind(10, 20).parameters()) for kind in (GRU, LSTM)]
check("a GRU has three quarters of an LSTM's weights", counts[0] * 4 == counts[1] * 3)
check("the networks compared are of about one size", max(sizes.values()) < 1.1 * min(sizes.values()))
check("the GRU reads most digits pixel by pixel", final["GRU", 64] > 0.5)
lost = {name: final[name, 16] - final[name, 64] for name in kinds}
check("64 steps are harder than 16 for every network", min(lost.values()) > 0.05)
check("at equal weights the GRU is not behind the RNN", final["GRU", 64] > final["RNN", 64] - 0.05)
