# %% [markdown]
# # Tensors · 张量基础
#
# A tensor is a block of numbers with a shape, a type and a device. Everything in deep learning is one: a batch of
# images is [batch, channels, height, width], a weight matrix is [outputs, inputs], a loss is a tensor of no axes.
#
# This lesson makes tensors, takes them apart and counts what their types can hold, on real handwritten digits: the
# mean picture of each class is already a classifier. It ends with the two surprises that cost beginners most time:
# which operations share memory, and what a 16-bit number rounds away.
#
# 张量就是一块带有形状、数据类型和所在设备的数字。深度学习里的一切都是张量：一批图像是 [批量, 通道, 高, 宽]，
# 权重矩阵是 [输出, 输入]，损失是没有轴的标量张量。
#
# 本课用真实的手写数字来创建、索引张量，并弄清每种数据类型能表示什么：仅仅求出每一类的平均图像，就已经得到一个分类器。
# 最后讲两个最容易让初学者困惑的问题：哪些操作共享内存，以及 16 位浮点数会丢掉什么。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, data, show, table

# %% [markdown]
# ## Making tensors · 创建张量
#
# From values, from a shape, from a range, at random. A generator of one's own makes randomness repeatable, whatever
# other code draws in between. 用自己的生成器，随机数才可复现。

# %%
values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
made = {
    "tensor([[1.0, …]])": values,
    "tensor([1, 2])": torch.tensor([1, 2]),
    "zeros(2, 3)": torch.zeros(2, 3),
    "arange(6) > 2": torch.arange(6) > 2,
    "tensor(3.5)": torch.tensor(3.5),
}
table(["made by", "shape", "type", "bytes"], [(k, list(v.shape), v.dtype, v.nbytes) for k, v in made.items()])

first = torch.randn(3, generator=torch.Generator().manual_seed(7))
torch.randn(1000)  # someone else draws from the global generator
again = torch.randn(3, generator=torch.Generator().manual_seed(7))
print("  same seed, same numbers:", torch.equal(first, again))

# %% [markdown]
# ## Real digits, and what their mean knows · 真实数字与类平均
#
# `from_numpy` copies nothing. Pixels come as bytes, 0 … 255, and must become floating point before any arithmetic:
# bytes wrap around. 字节运算会溢出回绕，计算前必须转成浮点。

# %%
digits = data("mnist", "mnist-sample")
images = torch.from_numpy(digits.train_images[:, :, :, 0])  # uint8 [samples, 28, 28]
labels = torch.from_numpy(digits.train_labels)
bytes_sum = torch.tensor([200], dtype=torch.uint8) + torch.tensor([100], dtype=torch.uint8)
print(f"  {list(images.shape)} {images.dtype}; 200 + 100 in bytes is {bytes_sum.item()}")

pixels = images.float() / 255
means = torch.stack([pixels[labels == digit].mean(dim=0) for digit in range(10)])  # [10, 28, 28]

test_pixels = torch.from_numpy(digits.test_images[:1000, :, :, 0]).float() / 255
test_labels = torch.from_numpy(digits.test_labels[:1000])
# ‖x − m‖² for every image and every mean at once: [samples, 1, pixels] − [10, pixels] is [samples, 10, pixels].
distance = (test_pixels.flatten(1)[:, None] - means.flatten(1)).square().sum(dim=2)
accuracy = (distance.argmin(dim=1) == test_labels).float().mean().item()
print(f"  the nearest of ten mean pictures is right for {accuracy:.1%} of {len(test_labels)} test digits")

figure, axes = plt.subplots(1, 10, figsize=(10, 1.5))
for digit, axis in enumerate(axes):
    axis.imshow(means[digit].numpy(), cmap="gray")
    axis.set_title(str(digit))
    axis.axis("off")
figure.suptitle(f"Mean of each class; the nearest mean is right for {accuracy:.0%} of test digits", y=1.12)
show(figure, "class-means")

# %% [markdown]
# ## Indexing: views and copies · 索引：视图与拷贝
#
# Slices and single indices are *views*: the same memory, read with another shape. Masks and lists of indices pick
# arbitrary elements, so they must copy. Writing into a view changes the original. 切片是视图，掩码与列表索引是拷贝。

# %%
grid = torch.arange(12).reshape(3, 4)
selections = {
    "grid[1]": grid[1],
    "grid[:, 1:3]": grid[:, 1:3],
    "grid.T": grid.T,
    "grid.flatten()": grid.flatten(),
    "grid[[0, 2]]": grid[[0, 2]],
    "grid[grid > 5]": grid[grid > 5],
    "grid.clone()": grid.clone(),
}
shares = {
    name: part.untyped_storage().data_ptr() == grid.untyped_storage().data_ptr() for name, part in selections.items()
}
table(["expression", "shape", "shares memory"], [(n, list(selections[n].shape), shares[n]) for n in selections])

array = np.zeros(3)
torch.from_numpy(array)[0] = 5.0
grid[:, 1:3] = -1
print("  NumPy's array after writing to the tensor:", array, "· grid after writing to its slice:", grid.tolist())

# %% [markdown]
# ## What a type can hold · 数据类型能表示什么
#
# float32 has 24 bits of precision, float16 11, bfloat16 only 8, but with float32's range. So a running sum in 16 bits
# stops growing as soon as an addend is less than half the gap to the next number. This is why mixed precision keeps
# weights, and sums, in float32. 16 位浮点的累加会停滞，所以混合精度训练用 float32 保存权重和累加结果。

# %%
types = [torch.float32, torch.float16, torch.bfloat16]
rows = [(str(t)[6:], torch.finfo(t).eps, torch.finfo(t).smallest_normal, torch.finfo(t).max) for t in types]
table(["type", "gap above 1", "smallest normal", "largest"], rows)

steps = 4000
sums: dict[torch.dtype, list[float]] = {}
for dtype in types:
    total, addend = torch.tensor(0.0, dtype=dtype), torch.tensor(0.01, dtype=dtype)
    sums[dtype] = [(total := total + addend).item() for _ in range(steps)]

magnitude = torch.logspace(-6, 6, 400, dtype=torch.float64)
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
for dtype, path in sums.items():
    left.plot(path, label=str(dtype)[6:])
    rounded = magnitude.to(dtype)
    error = ((rounded.double() - magnitude).abs() / magnitude).where(rounded.isfinite(), torch.nan)
    right.loglog(magnitude, error, ".", markersize=3, label=str(dtype)[6:])
left.set(xlabel="times 0.01 was added", ylabel="running sum", title="Sums in 16 bits stop growing")
right.set(
    xlabel="number",
    ylabel="relative rounding error",
    title="bfloat16 is coarser, float16 runs out of range",
)
right.set_ylim(1e-10, 1)
left.legend()
right.legend(loc="upper center", ncols=3)
figure.tight_layout()
show(figure, "precision")

# %% [markdown]
# ## Devices · 设备
#
# A tensor lives on one device, and operations across devices are refused rather than copied silently. Write code
# that takes its device from its inputs, and it runs anywhere. The `meta` device has shapes and no numbers: a model's
# memory can be planned before it exists. 代码应从输入取得设备；meta 设备只有形状而没有数据。

# %%
giant = torch.empty(70_000, 1_000_000, device="meta")
try:
    torch.ones(2) + torch.ones(2, device="meta")
    refused = False
except RuntimeError as error:
    refused = True
    print("  refused:", str(error).splitlines()[0][:90])
print(f"  accelerator here: {torch.accelerator.is_available()}; {giant.nbytes / 1e9:.0f} GB planned on meta")

# %% [markdown]
# ## What holds · 结论

# %%
check("a generator of one's own makes random numbers repeatable", torch.equal(first, again))
check("bytes wrap around: 200 + 100 is 44", bytes_sum.item() == 44)
check("the nearest class mean classifies more than three quarters of real test digits", accuracy > 0.75)
check("slices, single indices, transposes and flat views of whole tensors share memory", all(list(shares.values())[:4]))
check("masks, lists of indices and clones do not", not any(list(shares.values())[4:]))
check("from_numpy shares memory with the array", array[0] == 5.0)
check("adding 0.01 in float32 gets within 0.1 % of 40", abs(sums[torch.float32][-1] - 40) < 0.04)
check("in bfloat16 the sum stops early, below 10", sums[torch.bfloat16][-1] == sums[torch.bfloat16][-1000] < 10)
check(
    "float16 overflows where bfloat16 does not",
    torch.tensor(1e5).half().isinf() and torch.tensor(1e5).bfloat16().isfinite(),
)
check("operations across devices are refused", refused)
