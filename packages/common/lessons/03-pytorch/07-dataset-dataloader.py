# %% [markdown]
# # Datasets and loaders · 数据集与加载器
#
# Four questions stand between files and a training step. What is sample i (the dataset)? In which order are samples
# visited (the sampler)? How do samples become a batch (collate)? Who does the work while the network computes (the
# loader)? torch answers them in `torch.utils.data`, dlcommon/pytorch_core/loader.py in four small parts.
#
# This lesson uses both on real digits, kept as PNG bytes as they would lie on a disk: equal batches, orders that are
# a pure function of seed and epoch (so that a run can resume anywhere), balanced sampling, batches of unequal lengths,
# reading ahead, an error that says which sample it was, and what a Python call per sample costs.
#
# 从文件到一次训练更新之间有四个问题：第 i 个样本是什么（数据集），按什么次序访问（采样器），
# 样本怎样拼成一批（collate），网络计算时由谁来读取（加载器）。torch.utils.data 给出了答案，
# 我们的 loader.py 也用四个小部件给出了答案。
#
# 本课在真实数字（以 PNG 字节保存，如同磁盘上的文件）上同时使用二者：批次相同；
# 次序是种子与轮次的纯函数，因此可以从任何位置恢复；
# 还有均衡采样、不等长样本的拼批、预读、能指出是哪个样本出错的报错，以及逐样本 Python 调用的代价。

# %%
import io
import time

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, data, seconds, show, table
from dlcommon.pytorch_core.loader import DataLoader, RandomSampler, TensorDataset, WeightedRandomSampler
from PIL import Image
from torch.utils import data as torch_data
from torchvision.transforms.v2.functional import pil_to_tensor

# %% [markdown]
# ## A dataset is two methods · 数据集只有两个方法
#
# `len(dataset)` and `dataset[i]`. It holds what is small (here: compressed bytes) and decodes on demand. 按需解码。

# %%
digits = data("mnist", "mnist-sample")


def png(image) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(buffer, format="PNG")
    return buffer.getvalue()


class PngDigits:
    """Digits as files hold them."""

    def __init__(self, images, labels) -> None:
        self.files, self.labels = [png(image) for image in images], labels.tolist()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return pil_to_tensor(Image.open(io.BytesIO(self.files[index]))), self.labels[index]


n = 1000
dataset = PngDigits(digits.train_images[:n], digits.train_labels[:n])
size = sum(len(file) for file in dataset.files)
print(f"  {n} digits: {size / 1e3:.0f} kB as PNG, {n * 784 / 1e3:.0f} kB as pixels")

# %% [markdown]
# ## Order and batches · 次序与批次
#
# Given one order, both loaders make the same batches. The order itself is `RandomSampler(n, seed).indices(epoch)`: any
# epoch can be had at once, so that a run which was stopped in epoch 7, batch 3, goes on there, without reading what
# came before. torch's default draws from the global generator, which every other draw moves. 可从任意位置恢复。

# %%
sampler = RandomSampler(n, seed=0)
ours = DataLoader(dataset, batch_size=64, sampler=sampler)
theirs = torch_data.DataLoader(dataset, batch_size=64, sampler=sampler.indices(3))
same = all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(ours.epoch(3), theirs, strict=True))
whole = [labels for _, labels in ours.epoch(7)]
resumed = [labels for _, labels in ours.epoch(7, start=10)]
first_labels = {epoch: next(ours.epoch(epoch))[1][:8].tolist() for epoch in range(3)}
table(["epoch", "first labels"], first_labels.items())

shuffling = torch_data.DataLoader(range(n), batch_size=64, shuffle=True)
torch.manual_seed(0)
orders = []
for draws in (0, 1):  # whether something else draws a number before the epoch
    torch.manual_seed(0)
    torch.rand(draws)
    orders.append(torch.cat(list(shuffling)).tolist())

# %% [markdown]
# ## Balanced batches from unbalanced data · 从不均衡的数据中均衡采样
#
# A made-up imbalance: of every class but 1, nine digits in ten are dropped. Weights of 1 / class size make classes
# equally frequent; rare samples then come several times an epoch. 权重取类别频数的倒数。

# %%
all_labels = torch.tensor(dataset.labels)
by_class = [(all_labels == digit).nonzero().flatten() for digit in range(10)]
kept = torch.cat([rows if digit == 1 else rows[::10] for digit, rows in enumerate(by_class)])
kept_labels = all_labels[kept]
counts = kept_labels.bincount(minlength=10)
weighted = WeightedRandomSampler((1 / counts[kept_labels]).numpy(), num_samples=5000, seed=0)
drawn = kept_labels[torch.tensor(weighted.indices(0))].bincount(minlength=10)
plain_share, weighted_share = counts[1].item() / len(kept), drawn[1].item() / 5000
table(
    ["sampler", "share of ones", "rarest class"],
    [
        ("each once", plain_share, (counts.min() / len(kept)).item()),
        ("weighted", weighted_share, (drawn.min() / 5000).item()),
    ],
)

# %% [markdown]
# ## Samples of unequal shape · 形状不同的样本
#
# Stacking needs equal shapes, and says so. A collate of one's own pads, and returns the lengths too, since padding
# must not count. 需要自定义 collate 来补齐，并同时返回长度。

# %%
sentences = [torch.arange(1, length + 1) for length in (3, 5, 2, 4)]
try:
    next(DataLoader(sentences, batch_size=4).epoch(0))
    complaint = ""
except ValueError as error:
    complaint = str(error)
print(" ", complaint)


def pad(samples):
    lengths = torch.tensor([len(sample) for sample in samples])
    return torch.nn.utils.rnn.pad_sequence(samples, batch_first=True), lengths


padded, lengths = next(DataLoader(sentences, batch_size=4, collate_fn=pad).epoch(0))
print(" ", padded.tolist(), lengths.tolist())

# %% [markdown]
# ## Reading ahead · 预读
#
# A slow disk, simulated: each sample waits two milliseconds. Threads wait side by side, and the batches stay the
# same and in order. Where samples cost Python computation instead of waiting, threads share one interpreter lock;
# torch's loader starts processes (`num_workers`), at the price of their start and of passing batches between them.
# 线程可以并行等待。


# %%
class SlowDigits(PngDigits):
    def __getitem__(self, index):
        time.sleep(0.002)
        return super().__getitem__(index)


slow = SlowDigits(digits.train_images[:128], digits.train_labels[:128])
reading, read = {}, {}
for workers in (0, 2, 4, 8):
    loader = DataLoader(
        slow, batch_size=16, sampler=RandomSampler(128, seed=1), num_workers=workers, prefetch_batches=8
    )
    started = time.perf_counter()
    read[workers] = torch.cat([images for images, _ in loader.epoch(0)])
    reading[workers] = time.perf_counter() - started
table(["threads", "ms for 128 samples"], [(w, 1e3 * t) for w, t in reading.items()])

# %% [markdown]
# ## A damaged file · 损坏的文件
#
# One file of a million is broken, in the third hour. The error must say which. 报错必须指出是哪个样本。

# %%
dataset.files[437] = dataset.files[437][:100]
try:
    for _ in ours.epoch(0):
        pass
    note = ""
except OSError as error:
    note = error.__notes__[0]
    print(f"  {error} — {note}")
dataset.files[437] = png(digits.train_images[437])

# %% [markdown]
# ## What a call per sample costs · 逐样本调用的代价
#
# The same batches of pixels that lie in memory: sample by sample through each loader, and by one index for the whole
# batch, as the capstones' `TensorBatches` do. Small data should be indexed, not loaded. 小数据应整批索引。

# %%
pixels = torch.from_numpy(digits.train_images[:2000]).permute(0, 3, 1, 2)
labels = torch.from_numpy(digits.train_labels[:2000])
in_memory = TensorDataset(pixels, labels)
order = torch.tensor(RandomSampler(2000, seed=0).indices(0))


def exhaust(batches) -> None:
    for _ in batches:
        pass


ways = {
    "PNG, our loader": lambda: exhaust(ours.epoch(0)),
    "memory, torch's loader": lambda: exhaust(torch_data.DataLoader(in_memory, 64, sampler=order.tolist())),
    "memory, our loader": lambda: exhaust(DataLoader(in_memory, 64, RandomSampler(2000, seed=0)).epoch(0)),
    "memory, one index a batch": lambda: exhaust((pixels[rows], labels[rows]) for rows in order.split(64)),
}
samples = {name: n if name.startswith("PNG") else 2000 for name in ways}
rate = {name: samples[name] / seconds(way, 3) for name, way in ways.items()}
table(["way", "samples a second"], [(name, f"{value:,.0f}") for name, value in rate.items()])

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8))
left.plot(list(reading), [1e3 * t for t in reading.values()], "o-")
left.set(xlabel="threads that read ahead (0: none)", ylabel="ms for 128 samples that wait 2 ms", ylim=(0, None))
left.set_title(f"Eight threads wait {reading[0] / reading[8]:.1f} times as fast")
right.barh(list(rate), list(rate.values()), color=["tab:grey", "tab:orange", "tab:blue", "tab:green"])
right.set(xscale="log", xlabel="samples a second")
right.set_title("One index a batch beats a call a sample")
right.invert_yaxis()
figure.tight_layout()
show(figure, "loading")

# %% [markdown]
# ## What holds · 结论

# %%
check("given one order, both loaders make equal batches", same)
check(
    "an epoch resumed at batch 10 goes on with the very batches",
    all(torch.equal(a, b) for a, b in zip(resumed, whole[10:], strict=True)),
)
check("every epoch has an order of its own", len({tuple(labels) for labels in first_labels.values()}) == 3)
check("torch's default order changes when anything else draws a number first", orders[0] != orders[1])
check(
    "weights bring a class of unequal size to one in ten, within two points",
    plain_share > 0.4 and abs(weighted_share - 0.1) < 0.02,
)
check(
    "samples of unequal shape are refused with advice, and padded by a collate_fn of one's own",
    "pad" in complaint and padded.shape == (4, 5),
)
check("threads change no batch", all(torch.equal(read[0], images) for images in read.values()))
check("eight threads that wait are faster than reading when asked", reading[8] < reading[0])
check("the error names the damaged sample", note == "in sample 437 of the data set")
loaders = rate["memory, our loader"], rate["memory, torch's loader"]
check("indexing whole batches is faster than a call a sample", rate["memory, one index a batch"] > max(loaders))
