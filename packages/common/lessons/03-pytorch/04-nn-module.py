# %% [markdown]
# # Modules · 模块
#
# A network is a tree: modules hold parameters, buffers and other modules. Everything one does to a network as a whole
# (train all parameters, save and load it, move it, switch dropout off) is a walk over that tree. `torch.nn.Module`
# looks like magic because of how it finds the parts: it watches what is assigned to `self`.
#
# Our own `Module` (dlcommon/pytorch_core/module.py, one class) does the same in plain sight, and is held against
# torch's here: same names, same state, same gradients. Then a network is trained with it on real digits, hooks look
# inside, and two classic mistakes are measured: forgetting `eval()`, and hiding layers in a list.
#
# 网络是一棵树：模块里有参数、缓冲区和其他模块。对整个网络做的每件事（训练所有参数、保存与加载、迁移设备、关闭 dropout）
# 都是在这棵树上走一遍。torch.nn.Module 看似神奇，其实只是盯着赋给 self 的每个属性。
#
# 我们自己的 Module 把同样的事做得一目了然，并在这里与 torch 对照：名称、状态、梯度都一致。
# 然后用它在真实数字上训练一个网络，用钩子观察内部，并测量两个常见错误的代价：忘记调用 eval()，以及把层藏在列表里。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.pytorch_core.module import Linear, Module, Sequential
from dlcommon.pytorch_core.optimizers import AdamW
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Parameters, buffers, children · 参数、缓冲区与子模块
#
# A *parameter* is trained. A *buffer* is not, but belongs to the state: batch norm's running statistics. Whatever else
# is assigned is an ordinary attribute. 参数要训练；缓冲区不训练，但属于状态。


# %%
class BatchNorm(Module):
    """torch's arithmetic in our module. Lesson 04/07 does the arithmetic too."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x):
        if self.training:
            self.num_batches_tracked += 1
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training=self.training)


class ReLU(Module):
    def forward(self, x):
        return x.relu()


generator = torch.Generator().manual_seed(0)
ours = Sequential(Linear(784, 64, generator), BatchNorm(64), ReLU(), Linear(64, 10, generator))
theirs = nn.Sequential(nn.Linear(784, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
trained = {name for name, _ in ours.named_parameters()}
table(
    ["name", "shape", "kind"],
    [(n, list(t.shape), "parameter" if n in trained else "buffer") for n, t in ours.state_dict().items()],
)

# %% [markdown]
# ## The same names, so the same state · 同名即同状态
#
# Our state loads into torch's network, and torch's into ours. From there both compute the same, and batch norm's
# buffers change alike. 两边可以互相加载状态。

# %%
theirs.load_state_dict(ours.state_dict())
ours.load_state_dict(theirs.state_dict())
digits = data("mnist", "mnist-sample")
images = torch.from_numpy(digits.train_images[:4000]).float().flatten(1) / 255
labels = torch.from_numpy(digits.train_labels[:4000])
tests = torch.from_numpy(digits.test_images[:1000]).float().flatten(1) / 255
test_labels = torch.from_numpy(digits.test_labels[:1000])

gradients = []
for network in (ours, theirs):
    cross_entropy(network(images[:128]), labels[:128]).backward()
    gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    network.zero_grad()
states_agree = all(
    torch.allclose(a, b, atol=1e-6)
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
)

sorted_by_torch = {kind: list(vars(theirs[1])[kind]) for kind in ("_parameters", "_buffers", "_modules")}
print("  where torch keeps what is assigned to a BatchNorm1d:", sorted_by_torch)

# %% [markdown]
# ## Training with it · 用它训练
#
# Nothing else is needed: parameters for the optimizer, a forward pass, gradients. 两轮训练即可。

# %%
optimizer = AdamW(ours.parameters(), lr=2e-3)
ours.train()
for _ in range(2):
    for rows in torch.randperm(len(images), generator=generator).split(100):
        ours.zero_grad()
        cross_entropy(ours(images[rows]), labels[rows]).backward()
        optimizer.step()


def accuracy(network, batch_size: int) -> float:
    with torch.no_grad():
        predicted = torch.cat([network(part).argmax(1) for part in tests.split(batch_size)])
    return (predicted == test_labels).float().mean().item()


evaluated = accuracy(ours.eval(), 1000)
print(f"  after two epochs {evaluated:.1%} of test digits are right")

# %% [markdown]
# ## Forgetting `eval()` · 忘记 eval()
#
# In training mode batch norm uses the statistics of the batch it is shown. A trained network that is left in training
# mode then depends on its neighbours in the batch, worst with few of them, and evaluation changes its buffers.
# 训练模式下的批归一化依赖同一批里的其他样本，评估本身还会改动模型。

# %%
kept = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
sizes = [2, 4, 8, 32, 250]
forgotten = {}
for size in sizes:
    ours.load_state_dict(kept)
    forgotten[size] = accuracy(ours.train(), size)
evaluation_changed_it = not torch.equal(ours.state_dict()["1.running_mean"], kept["1.running_mean"])
ours.load_state_dict(kept)
ours.eval()
table(["batch of", "accuracy in training mode", "with eval()"], [(s, forgotten[s], accuracy(ours, s)) for s in sizes])

# %% [markdown]
# ## Hooks look inside · 钩子查看内部
#
# A forward hook sees a module's inputs and output and may replace the output; no line of the network changes. Here:
# the values before and after the first batch norm. A hook stays until its handle is removed. 钩子无需改动网络。

# %%
seen: dict[str, torch.Tensor] = {}
handles = [
    module.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output.detach()}))
    for name, module in ours.named_modules()
    if isinstance(module, (Linear, BatchNorm))
]
ours(tests)
for handle in handles:
    handle.remove()
outputs = dict(seen)
seen.clear()
ours(tests)
off_centre = {name: (out.mean(dim=0).abs() / out.std(dim=0)).mean().item() for name, out in outputs.items()}
table(["module", "|mean| of a unit, in its deviations"], [(name, off_centre[name]) for name in ("0", "1")])

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
left.plot(sizes, list(forgotten.values()), "o-", label="left in training mode")
left.axhline(evaluated, color="black", linestyle=":", label="eval()")
left.set(
    xscale="log", xticks=sizes, xticklabels=sizes, xlabel="images evaluated together", ylabel="accuracy on test digits"
)
left.set_title(f"Without eval(), pairs of digits fall to {forgotten[2]:.0%}")
left.minorticks_off()
left.legend()
for name, label in (("0", "linear layer"), ("1", "batch norm after it")):
    right.hist(outputs[name].flatten().numpy(), bins=120, range=(-8, 8), density=True, alpha=0.6, label=label)
right.set(xlabel="value", ylabel="density", title="What hooks saw in the first layer")
right.legend()
show(figure, "eval-and-hooks")

# %% [markdown]
# ## Layers hidden in a list · 藏在列表里的层
#
# A list is no module: what lies in it is not found, so not trained, saved or moved, and nothing complains. Hence
# `nn.ModuleList`. 普通列表里的层不会被找到，而且不会报错。


# %%
class Hidden(nn.Module):
    def __init__(self, holder) -> None:
        super().__init__()
        self.layers = holder([nn.Linear(8, 8), nn.Linear(8, 8)])
        self.head = nn.Linear(8, 2)


found = {holder.__name__: sum(p.numel() for p in Hidden(holder).parameters()) for holder in (list, nn.ModuleList)}
table(["holder", "parameters found"], found.items())

# %% [markdown]
# ## What holds · 结论

# %%
check("our tree has torch's names in torch's order", list(ours.state_dict()) == list(theirs.state_dict()))
check_close("gradients are torch's", gradients[0], gradients[1])
check("so are the buffers after a pass in training mode", states_agree)
check("the trained network reads more than 85 % of test digits", evaluated > 0.85)
check("in training mode with pairs of digits it loses at least ten points", forgotten[2] < evaluated - 0.1)
check("and the model has changed", evaluation_changed_it)
check("eval() makes an answer independent of its batch", abs(accuracy(ours, 2) - evaluated) < 0.003)
check("removed hooks see nothing", not seen)
check("batch norm centres the units, on test digits too", off_centre["1"] < 0.5 * off_centre["0"])
check("layers in a plain list are not found", found["list"] == 18 < found["ModuleList"])
