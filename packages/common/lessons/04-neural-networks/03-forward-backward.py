# %% [markdown]
# # Forward and backward by hand · 手写前向与反向传播
#
# Autograd hides how little there is to backpropagation: of a multilayer perceptron, five equations, each one line of
# NumPy. Writing them once makes clear why training needs more memory than prediction, why a backward pass costs twice
# a forward pass, and where a gradient can go wrong.
#
# It can go wrong without a sound. A network whose gradients are false often learns anyway, only worse, and no
# exception is ever raised. This lesson derives the passes, holds them against torch and against our own autograd
# engine, then plants three faults, sees what each does to training, and finds all of them by differences.
#
# 自动求导掩盖了一个事实：多层感知机的反向传播只有五个公式，每个公式用 NumPy 一行就能写完。亲手写一遍，
# 就会明白训练为什么比预测更耗内存、反向传播的代价为什么大约是前向的两倍，以及梯度会在哪里出错。
# 梯度出错往往毫无声息：网络照样能学，只是学得差一些，也不会抛出任何异常。
# 本课推导并实现前向与反向，与 torch 及自己的自动求导引擎对照；再故意埋下三个错误，
# 观察它们对训练的影响，并用数值差分把它们全部找出来。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, seconds, show, table
from dlcommon.course.smoothing import moving_average
from dlcommon.mathematics import functional
from dlcommon.mathematics.autograd import Variable
from dlcommon.neural_networks.activations import TANH
from dlcommon.neural_networks.backpropagation import Layer, backward, cross_entropy, forward, init_layers

random = np.random.default_rng(0)
digits = data("mnist", "mnist-sample")
images = digits.train_images[:3000].reshape(3000, 784) / 255.0
labels = digits.train_labels[:3000].astype(np.int64)
test_images = digits.test_images[:1000].reshape(-1, 784) / 255.0
test_labels = digits.test_labels[:1000].astype(np.int64)

# %% [markdown]
# ## The two passes · 两遍计算
#
# Forward, layer by layer: z = h W + b, then h = tanh(z). Backward, from the last layer to the first, with δ = ∂loss/∂z:
#
# | | |
# |---|---|
# | at the logits | δ = (softmax(z) − one-hot) / batch |
# | by the weights | ∂W = hᵀ δ |
# | by the bias | ∂b = sum of δ over the batch |
# | back through the weights | ∂h = δ Wᵀ |
# | back through tanh | δ below = ∂h ⊙ tanh′(z) |
#
# Every line needs h or z of the forward pass: they have to be kept. 反向需要用到前向的 h 和 z，因此必须保留。

# %%
widths, batch = (784, 64, 32, 10), 100
layers = init_layers(widths, random, gain=1.6)
x, y = images[:batch], labels[:batch]
passed = forward(layers, TANH, x)
loss, by_logits = cross_entropy(passed.logits, y)
gradients, by_input = backward(layers, TANH, passed, by_logits)
table(
    ["layer", "h kept", "z kept", "∂W", "∂b", "|∂W|"],
    [
        (number + 1, h.shape, z.shape, g.weight.shape, g.bias.shape, float(np.linalg.norm(g.weight)))
        for number, (h, z, g) in enumerate(zip(passed.inputs, passed.pre_activations, gradients, strict=True))
    ],
)

# %% [markdown]
# ## The same as autograd · 与自动求导一致

# %%
inputs = torch.tensor(x, requires_grad=True)
tensors = [[torch.tensor(array, requires_grad=True) for array in layer] for layer in layers]
h = inputs
for weight, bias in tensors[:-1]:
    h = torch.tanh(h @ weight + bias)
torch_loss = torch.nn.functional.cross_entropy(h @ tensors[-1][0] + tensors[-1][1], torch.tensor(y))
torch_loss.backward()
variables = [[Variable(array) for array in layer] for layer in layers]
h = x
for weight, bias in variables[:-1]:
    h = functional.tanh(h @ weight + bias)
functional.cross_entropy(h @ variables[-1][0] + variables[-1][1], y).backward()
ours = np.concatenate([array.ravel() for layer in gradients for array in layer])
by_torch = torch.cat([tensor.grad.ravel() for pair in tensors for tensor in pair])
by_engine = np.concatenate([variable.grad.ravel() for pair in variables for variable in pair])
print(f"  {len(ours)} derivatives; largest difference from torch {np.abs(ours - by_torch.numpy()).max():.1e}")

# %% [markdown]
# ## What it costs · 代价
#
# A layer's forward pass is one matrix product, its backward pass two, hᵀ δ and δ Wᵀ, of the same size. And prediction
# forgets each h at once, while training keeps all of them, in proportion to the batch.
# 反向要做两次同样大小的矩阵乘法，所以代价约为前向的两倍；训练时保留的中间结果与批量大小成正比。

# %%
square = [Layer(layer.weight, layer.bias) for layer in init_layers((512,) * 4, random)]
wide = random.standard_normal((256, 512))
wide_passed = forward(square, TANH, wide)
wide_delta = random.standard_normal((256, 512)) / 256
forward_seconds = seconds(lambda: forward(square, TANH, wide), repeats=10)
backward_seconds = seconds(lambda: backward(square, TANH, wide_passed, wide_delta), repeats=10)
ratio = backward_seconds / forward_seconds
kept = {n: sum(a.nbytes for a in wide_passed.inputs + wide_passed.pre_activations) * n / 256 for n in (1, 32, 256)}
weights_bytes = sum(array.nbytes for layer in square for array in layer)
print(f"  forward {forward_seconds * 1e3:.1f} ms, backward {backward_seconds * 1e3:.1f} ms: {ratio:.1f} times")
table(
    ["batch", "kept for the way back, MB", "weights, MB"], [(n, k / 1e6, weights_bytes / 1e6) for n, k in kept.items()]
)

# %% [markdown]
# ## Three faults that raise nothing · 三个不报错的错误
#
# - tanh′ is forgotten;
# - the bias gets the mean of δ over the batch in place of its sum;
# - the error goes back through a fixed random matrix in place of Wᵀ. That one has a name: feedback alignment
#   (Lillicrap et al. 2016), proposed because a brain could hardly know Wᵀ either.

# %%
elsewhere = [random.standard_normal(layer.weight.shape) / layer.weight.shape[0] ** 0.5 for layer in layers]


def faulty_backward(layers, passed, delta, fault):
    found = []
    for number in reversed(range(len(layers))):
        bias = delta.mean(0) if fault == "mean for the bias" else delta.sum(0)
        found.append(Layer(passed.inputs[number].T @ delta, bias))
        if number > 0:
            way_back = elsewhere[number] if fault == "random way back" else layers[number].weight
            slope = 1 if fault == "tanh′ forgotten" else TANH.derivative(passed.pre_activations[number - 1])
            delta = delta @ way_back.T * slope
    return found[::-1]


faults = ["no fault", "tanh′ forgotten", "mean for the bias", "random way back"]
images_in_order = np.concatenate([random.permutation(3000) for _ in range(5)]).reshape(-1, batch)
losses, alignment, accuracy = ({fault: [] for fault in faults} for _ in range(3))
for fault in faults:
    trained = [Layer(layer.weight.copy(), layer.bias.copy()) for layer in layers]
    for step, rows in enumerate(images_in_order):
        steps_passed = forward(trained, TANH, images[rows])
        step_loss, delta = cross_entropy(steps_passed.logits, labels[rows])
        found = faulty_backward(trained, steps_passed, delta, fault)
        losses[fault].append(step_loss)
        if step % 10 == 0:
            true = backward(trained, TANH, steps_passed, delta)[0][0].weight
            alignment[fault].append(
                (true * found[0].weight).sum() / np.linalg.norm(true) / np.linalg.norm(found[0].weight)
            )
        for layer, gradient in zip(trained, found, strict=True):
            layer.weight[...] -= 0.2 * gradient.weight
            layer.bias[...] -= 0.2 * gradient.bias
    accuracy[fault] = float((forward(trained, TANH, test_images).logits.argmax(1) == test_labels).mean())
table(
    ["fault", "loss of the last 30 steps", "test accuracy", "first layer's cosine with the truth, first and last"],
    [
        (f, float(np.mean(losses[f][-30:])), accuracy[f], f"{alignment[f][0]:.2f} → {alignment[f][-1]:.2f}")
        for f in faults
    ],
)

# %% [markdown]
# ## The gradient check · 梯度检验
#
# Along any direction v, gradient · v must be (loss(w + εv) − loss(w − εv)) / 2ε. One random direction per array finds
# the faults, and says in which array they are. In float64, with ε near 10⁻⁵: larger, and the curve of the loss shows;
# smaller, and rounding does. 每个参数数组各检验一个随机方向，就能发现错误并定位。


# %%
def loss_moved(layer, part, direction, size):
    moved = [list(arrays) for arrays in layers]
    moved[layer][part] = moved[layer][part] + size * direction
    return cross_entropy(forward([Layer(*arrays) for arrays in moved], TANH, x).logits, y)[0]


arrays = [(layer, part) for layer in range(3) for part in range(2)]
directions = {place: random.standard_normal(layers[place[0]][place[1]].shape) for place in arrays}
steps = np.geomspace(1e-12, 1, 25)
off = {}  # fault → [arrays, steps]
for fault in faults:
    found = faulty_backward(layers, passed, by_logits, fault)
    off[fault] = np.empty((len(arrays), len(steps)))
    for row, place in enumerate(arrays):
        expected = float((found[place[0]][place[1]] * directions[place]).sum())
        for column, size in enumerate(steps):
            high, low = (loss_moved(*place, directions[place], sign * size) for sign in (1, -1))
            slope = (high - low) / (2 * size)
            off[fault][row, column] = abs(slope - expected) / max(abs(slope), abs(expected))
best = int(np.abs(np.log10(steps) + 5).argmin())
table(["relative difference", "W₁", "b₁", "W₂", "b₂", "W₃", "b₃"], [(f, *off[f][:, best].tolist()) for f in faults])

# %%
figure, axes = plt.subplots(1, 3, figsize=(13.5, 3.9), layout="constrained")
for fault in faults:
    style = {"label": fault, "lw": 4 if fault == "no fault" else 1.5, "alpha": 0.5 if fault == "no fault" else 1.0}
    axes[0].plot(*moving_average(losses[fault], 10), **style)
    axes[1].plot(range(0, len(images_in_order), 10), alignment[fault], **style)
    axes[2].loglog(steps, off[fault].max(0), **style)
axes[0].set(title="False gradients learn as well", xlabel="step", ylabel="loss, mean of 10 steps", ylim=(0, None))
axes[1].set(title="The weights come to fit the random way back", xlabel="step", ylabel="cosine with the true gradient")
axes[2].set(title="Differences find every fault", xlabel="step ε", ylabel="largest relative difference of an array")
axes[0].legend()
show(figure, "faults")

# %% [markdown]
# ## What holds · 结论

# %%
check_close("the loss is torch's", loss, torch_loss, 1e-12)
check_close("all gradients are torch's", ours, by_torch, 1e-12)
check_close("and our own engine's", ours, by_engine, 1e-12)
check_close("the gradient by the input as well", by_input, inputs.grad, 1e-12)
check("a backward pass costs one to five forward passes", 1 < ratio < 5)
check("with every fault the network learns", all(v[0] > 2 and np.mean(v[-30:]) < 1 for v in losses.values()))
towards = alignment["random way back"]
check("with a random way back the gradient turns towards the truth", np.mean(towards[-5:]) > towards[0] + 0.15)
right = accuracy["no fault"]
check("but no fault helps on test digits", all(accuracy[fault] < right + 0.01 for fault in faults))
check("the right gradient passes the check in every array", off["no fault"][:, best].max() < 1e-6)
check("each fault is off by more than 1% in some array", all(off[fault][:, best].max() > 0.01 for fault in faults[1:]))
