# %% [markdown]
# # Tensor operations · 张量运算
#
# A tensor is a flat piece of memory and a recipe for walking through it: the *strides*, one step size an axis. Half
# of all tensor operations change only the recipe. Knowing which ones, and what broadcasting, `einsum`, `gather` and
# `scatter` do, is the difference between a loop that takes minutes and an expression that takes milliseconds.
#
# This lesson reads sliding windows out of a real digit without copying, classifies digits by their nearest neighbour
# with one expression, counts a confusion matrix with one call, and measures what memory order does to speed.
#
# 张量是一段连续内存，加上一份遍历它的说明：每个轴的步长（stride）。有一半的张量运算只改动这份说明，不搬动数据。
# 弄清哪些运算如此，再掌握广播、einsum、gather 与 scatter，就能把几分钟的循环变成几毫秒的表达式。
#
# 本课在真实数字图像上不复制数据地取滑动窗口，用一个表达式做最近邻分类，用一次调用统计混淆矩阵，
# 并测量内存次序对速度的影响。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, seconds, show, table
from torch.nn import functional as F

# %% [markdown]
# ## Strides: one memory, many shapes · 步长：同一内存，多种形状
#
# Element (i, j) lies at offset i·stride₀ + j·stride₁. A transpose swaps the strides, an `expand` sets one to 0, a
# slice with a step multiplies one. `view` refuses what strides cannot say; `reshape` copies then.
# 转置交换步长，expand 把步长设为 0；步长无法表达时 view 报错，而 reshape 会复制。

# %%
base = torch.arange(12.0).reshape(3, 4)
recipes = {
    "reshape(3, 4)": base,
    "T": base.T,
    "[:, ::2]": base[:, ::2],
    "[1:, None]": base[1:, None],
    "[:, :1].expand(3, 5)": base[:, :1].expand(3, 5),
    "unfold(1, 2, 1)": base.unfold(1, 2, 1),
}
table(
    ["view of arange(12)", "shape", "strides", "offset", "contiguous"],
    [(n, list(v.shape), v.stride(), v.storage_offset(), v.is_contiguous()) for n, v in recipes.items()],
)
same_memory = all(v.untyped_storage().data_ptr() == base.untyped_storage().data_ptr() for v in recipes.values())
try:
    base.T.view(12)
    view_refused = False
except RuntimeError as error:
    view_refused = True
    print("  base.T.view(12):", str(error)[:78], "…")

# %% [markdown]
# ## Windows without copying · 不复制的滑动窗口
#
# All 3×3 windows of an image, as a view: two more axes with the strides of the two that are there. A convolution is
# then one product over the windows. 窗口视图配上一次乘积求和，就是卷积。

# %%
digits = data("mnist", "mnist-sample")
images = torch.from_numpy(digits.train_images[:2000, :, :, 0]).float() / 255  # [samples, 28, 28]
labels = torch.from_numpy(digits.train_labels[:2000])
digit = images[0].contiguous()
row_stride, column_stride = digit.stride()
windows = digit.as_strided((26, 26, 3, 3), (row_stride, column_stride, row_stride, column_stride))
edges = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])  # Sobel: change from left to right
filtered = torch.einsum("ijkl,kl->ij", windows, edges)
reference = F.conv2d(digit[None, None], edges[None, None])[0, 0]
print(f"  {windows.numel()} numbers in the windows, {digit.numel()} in memory")

# %% [markdown]
# ## Broadcasting · 广播
#
# Shapes are aligned at the right; an axis of 1, or none at all, is repeated with a stride of 0. The danger is the
# silent case: [n, 1] − [n] is [n, n]. 形状从右对齐；最危险的是 [n, 1] 与 [n] 悄悄变成 [n, n]。

# %%
predictions, targets = torch.zeros(4, 1), torch.zeros(4)
print(f"  [4, 1] − [4] is {list((predictions - targets).shape)}: a loss over 16 pairs, of which 12 are wrong")
mean, deviation = images.mean(dim=(1, 2), keepdim=True), images.std(dim=(1, 2), keepdim=True)  # [samples, 1, 1]
standardized = (images - mean) / deviation

# %% [markdown]
# ## einsum: name the axes · einsum：给轴命名
#
# Each letter is an axis; what is not on the right of the arrow is summed over. Products of matrices, batches of them
# and attention scores are all one line. 每个字母是一个轴，箭头右边没有的字母就是求和。

# %%
generator = torch.Generator().manual_seed(0)
a, b = torch.randn(5, 3, 4, generator=generator), torch.randn(5, 4, 6, generator=generator)
query, key = torch.randn(2, 7, 3, 8, generator=generator), torch.randn(2, 9, 3, 8, generator=generator)
batched = torch.einsum("bij,bjk->bik", a, b)
scores = torch.einsum("bqhd,bkhd->bhqk", query, key)  # attention: [batch, heads, queries, keys]

# %% [markdown]
# ## Nearest neighbours in one expression · 一个表达式的最近邻
#
# ‖x − y‖² = ‖x‖² − 2·x·y + ‖y‖²: the product does the work, and no [tests, samples, pixels] tensor is ever made.

# %%
tests = torch.from_numpy(digits.test_images[:1000, :, :, 0]).float() / 255
test_labels = torch.from_numpy(digits.test_labels[:1000])
x, y = tests.flatten(1), images.flatten(1)
squared = x.square().sum(1)[:, None] - 2 * torch.einsum("ip,jp->ij", x, y) + y.square().sum(1)  # [tests, samples]
nearest = labels[squared.argmin(dim=1)]
right_ones = (nearest == test_labels).sum()
accuracy = right_ones.item() / len(x)
print(f"  the nearest of {len(y)} digits has the right label for {accuracy:.1%} of {len(x)} test digits")

# %% [markdown]
# ## gather and scatter: indices as data · gather 与 scatter
#
# `gather` reads one entry a row at an index that is itself a tensor (the probability of each true class). `scatter_add`
# is its opposite, and its gradient: it adds values at indices. Counting pairs of labels is a confusion matrix.
# gather 按索引读取，scatter_add 按索引累加；二者互为转置，也互为对方的梯度。

# %%
log_probabilities = (-squared[:, :10]).log_softmax(dim=1)
index = torch.randint(10, (len(x), 1), generator=generator)
picked = log_probabilities.gather(1, index).squeeze(1)
pair = test_labels * 10 + nearest
confusion = torch.zeros(100, dtype=torch.long).scatter_add(0, pair, torch.ones_like(pair)).reshape(10, 10)

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8))
left.imshow(digit.numpy(), cmap="gray")
left.set_title("a digit")
middle.imshow(filtered.numpy(), cmap="RdBu", vmin=-4, vmax=4)
middle.set_title("its vertical edges, from strided windows")
for axis in (left, middle):
    axis.axis("off")
right.imshow(confusion.float().sqrt().numpy(), cmap="Blues")
for row in range(10):
    for column in range(10):
        if confusion[row, column]:
            colour = "white" if confusion[row, column] > 50 else "black"
            right.text(column, row, int(confusion[row, column]), ha="center", va="center", fontsize=7, color=colour)
right.set(xticks=range(10), yticks=range(10), xlabel="nearest neighbour's label", ylabel="true label")
right.set_title(f"nearest neighbour: {accuracy:.0%} right")
show(figure, "windows-and-neighbours")

# %% [markdown]
# ## Memory order · 内存次序
#
# A batch of images has logical shape [batch, channels, height, width] in either of two orders in memory. Both give the
# same values. What walks along memory is fast, what jumps is slow: the same sum over a large matrix, by its strides.
# 逻辑形状相同，内存次序不同；沿内存走得快，跳着走得慢。

# %%
batch = torch.randn(8, 16, 14, 14, generator=generator)
last = batch.to(memory_format=torch.channels_last)
table(
    ["order", "shape", "strides"],
    [("channels first", list(batch.shape), batch.stride()), ("channels last", list(last.shape), last.stride())],
)
weight = torch.randn(4, 16, 3, 3, generator=generator)
both = [
    F.conv2d(images_in, weight.to(memory_format=order))
    for images_in, order in ((batch, torch.contiguous_format), (last, torch.channels_last))
]

matrix = torch.randn(1500, 1500, generator=generator)
straight, jumping = seconds(lambda: matrix.clone(), 9), seconds(lambda: matrix.T.contiguous(), 9)
print(f"  copying a 1500×1500 matrix: in order {straight * 1e3:.2f} ms, transposed {jumping * 1e3:.2f} ms")

# %% [markdown]
# ## What holds · 结论

# %%
check(
    "transposes, slices, expands and unfolds share the one memory; view refuses the rest", same_memory and view_refused
)
check(
    "26 × 26 windows take no memory of their own",
    windows.untyped_storage().nbytes() == digit.untyped_storage().nbytes(),
)
check_close("windows times a kernel is torch's convolution", filtered, reference)
check("[n, 1] − [n] is silently [n, n]", (predictions - targets).shape == (4, 4))
check_close("broadcast statistics standardize every image", standardized.flatten(1).std(dim=1), torch.ones(len(images)))
check_close("einsum is a batched product", batched, torch.bmm(a, b))
check_close("einsum is attention's scores", scores, query.transpose(1, 2) @ key.permute(0, 2, 3, 1))
# A difference of large squares loses digits: 1e-3.
check_close("distances by one product are cdist's", squared.clamp_min(0).sqrt(), torch.cdist(x, y), 1e-3)
check("nearest neighbours in pixels are right for more than 80 % of test digits", accuracy > 0.8)
check_close("gather picks one entry a row", picked, log_probabilities[torch.arange(len(x)), index[:, 0]])
check(
    "the scattered counts hold every test, the right ones on the diagonal",
    confusion.sum() == len(x) and confusion.trace() == right_ones,
)
check_close("a convolution gives the same in both memory orders", *both, 1e-4)
