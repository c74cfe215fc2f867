# %% [markdown]
# # Saving and loading · 模型的保存与加载
#
# A file of weights is opened by strangers, cut off by full disks and power failures, and read by code that has
# changed since. So: a format that holds numbers and nothing that runs; a write that is whole or absent; a state that
# is complete, so that a continued run ends bit for bit as one that never stopped; names that are checked.
#
# This lesson opens a safetensors file by hand, shows (harmlessly) that opening a pickle runs code from the file,
# damages checkpoints and sees them refused, proves an exact resume and what breaks it, and exports a network to a
# program that needs none of our code.
#
# 权重文件会被陌生人打开，会被写满的磁盘或断电截断，也会被后来改动过的代码读取。
# 因此需要：只含数字、不含可执行内容的格式；要么完整、要么不存在的写入；
# 完备的状态，使续训与从未中断的训练逐位一致；以及对名称的检查。
#
# 本课手工解析 safetensors 文件，（无害地）演示打开 pickle 会执行文件里的代码，损坏检查点并看到它被拒绝，
# 证明精确续训以及缺了什么会破坏它，最后把网络导出成不依赖我们代码的程序。

# %%
import json
import pickletools
import tempfile
import zipfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.pytorch_core.optimizers import AdamW
from dlcommon.runtime import checkpoint
from dlcommon.runtime.errors import UserError
from dlcommon.training.schedules import cosine, set_learning_rate
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)


def new_network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))


# %% [markdown]
# ## A file of numbers · 只有数字的文件
#
# safetensors: eight bytes that say how long the header is, the header as JSON (name, type, shape, where), then the
# numbers. Nothing in it can run, it can be checked before it is believed, and one tensor can be read without the rest.
# 前 8 字节是头的长度，接着是 JSON 头，然后是数据。

# %%
network = new_network()
weights_file = folder / "weights.safetensors"
save_file(network.state_dict(), weights_file)
content = weights_file.read_bytes()
length = int.from_bytes(content[:8], "little")
header = json.loads(content[8 : 8 + length])
table(["name", "type", "shape", "bytes from … to"], [(n, *entry.values()) for n, entry in header.items()])
start, end = header["4.bias"]["data_offsets"]
by_hand = torch.frombuffer(bytearray(content[8 + length + start : 8 + length + end]), dtype=torch.float32)
with safe_open(weights_file, framework="pt") as file:
    row = file.get_slice("1.weight")[5]  # one row of one tensor; the rest stays on the disk

# %% [markdown]
# ## A file that runs · 会执行代码的文件
#
# pickle stores *how to rebuild* an object: a function and its arguments, called on loading. The function is whatever
# the file says. Here it creates an empty file in a temporary folder; it could be anything else that Python can do.
# `weights_only=True`, the default since torch 2.6, allows a short list of harmless functions. What a pickle would call
# can be read without calling it. pickle 加载时会调用文件指定的函数，这里只是新建一个空文件。


# %%
class Payload:
    """An object whose "rebuilding" is a call of our choice."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return Path.touch, (self.witness,)


witness, sent_by_a_stranger = folder / "created-by-loading-weights", folder / "weights.pt"
torch.save({"weight": torch.zeros(3), "note": Payload(witness)}, sent_by_a_stranger)
with zipfile.ZipFile(sent_by_a_stranger) as archive:
    pickled = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
words = [argument for _, argument, _ in pickletools.genops(pickled) if isinstance(argument, str)]
would_call = [word for word in words if "touch" in word or "pathlib" in word]
print("  read without running, it names:", would_call)
try:
    torch.load(sent_by_a_stranger, weights_only=True)
    refusal = ""
except Exception as error:
    refusal = type(error).__name__
created_by_safe_load = witness.exists()
torch.load(sent_by_a_stranger, weights_only=False)  # never do this with a file of someone else's
created_by_pickle = witness.exists()
print(f"  weights_only=True: {refusal}; weights_only=False: file created, {created_by_pickle}")

# %% [markdown]
# ## An exact resume · 精确续训
#
# What the next step depends on: weights, the optimizer's means, the position in the schedule, the order of batches
# and the state of the random generator that dropout draws from. Kept together, twenty steps, a save, a load into new
# objects and twenty more are forty steps, bit for bit. Leave one out, and the runs part. 缺一不可。

# %%
digits = data("mnist", "mnist-sample")
images = torch.from_numpy(digits.train_images[:2000]).float() / 255
labels = torch.from_numpy(digits.train_labels[:2000])
order = torch.randperm(2000, generator=torch.Generator().manual_seed(1)).reshape(40, 50)


def train(network: nn.Module, optimizer: AdamW, steps: range) -> torch.Tensor:
    """All weights after each step, [steps, weights]."""
    path = []
    for step in steps:
        set_learning_rate(optimizer, cosine(warmup=0.1)(step / 40))
        optimizer.zero_grad()
        cross_entropy(network(images[order[step]]), labels[order[step]]).backward()
        optimizer.step()
        path.append(nn.utils.parameters_to_vector(network.parameters()).detach().clone())
    return torch.stack(path)


def fresh(seed: int) -> tuple[nn.Module, AdamW]:
    network = new_network(seed)
    return network, AdamW(network.parameters(), lr=3e-3)


torch.manual_seed(2)
uninterrupted = train(*fresh(0), range(40))

torch.manual_seed(2)
network, optimizer = fresh(0)
train(network, optimizer, range(20))
state = {"optimizer": optimizer.state_dict(), "step": 20, "random": torch.get_rng_state()}
checkpoint.save(folder / "checkpoints", 20, network.state_dict(), state)


def resumed(without: str = "") -> torch.Tensor:
    """Steps 20 … 39 of new objects that the checkpoint is loaded into, but for one part of it."""
    torch.manual_seed(99)  # a new process starts anywhere
    _, weights, state = checkpoint.load_newest(folder / "checkpoints", say=print)
    network, optimizer = fresh(seed=7)
    if without != "weights":
        network.load_state_dict(weights)
    if without != "optimizer":
        optimizer.load_state_dict(state["optimizer"])
    if without != "random state":
        torch.set_rng_state(state["random"])
    first = 0 if without == "step" else state["step"]
    return train(network, optimizer, range(first, first + 20))


parts = ["nothing", "random state", "step", "optimizer", "weights"]
apart = {part: (resumed(part) - uninterrupted[20:]).norm(dim=1) for part in parts}
rows = [(part, distance[0].item(), distance[-1].item()) for part, distance in apart.items()]
table(["left out", "distance after one step", "after twenty"], rows)

figure, axis = plt.subplots(figsize=(7.5, 4))
for part, distances in apart.items():
    axis.plot(range(21, 41), distances.clamp_min(1e-4), "o-", markersize=3, label=f"left out: {part}")
axis.set(yscale="log", xlabel="step", xticks=range(21, 41, 3), ylabel="distance of the weights from the whole run")
axis.set_title("A resume is exact only if all of the state is kept\n(exact is drawn at 1e-4)")
axis.legend(fontsize=8)
show(figure, "resume")

# %% [markdown]
# ## Whole or absent · 要么完整，要么不存在
#
# A checkpoint is written under a temporary name, flushed, and renamed: a crash leaves the earlier one. Each file has a
# checksum, so that damage is found before it trains on. 先写临时名，再改名；每个文件都有校验和。

# %%
train(network, optimizer, range(20, 30))
newest = checkpoint.save(folder / "checkpoints", 30, network.state_dict(), {"step": 30})
damaged = bytearray((newest / checkpoint.MODEL).read_bytes())
damaged[-100] ^= 1  # one bit
(newest / checkpoint.MODEL).write_bytes(damaged)
try:
    checkpoint.load(newest)
    found = ""
except UserError as error:
    found = str(error).split("checkpoints/")[-1]
said: list[str] = []
path, _, _ = checkpoint.load_newest(folder / "checkpoints", say=said.append)
print(f"  {found}; so {path.name} is used")

# %% [markdown]
# ## Names are checked · 名称必须核对
#
# A network with another head: `strict=False` loads what fits by name and reports the rest. A shape that differs is an
# error in any case; drop those entries knowingly. 形状不符时必须明确地舍弃。

# %%
other = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 26))
complaints = []
for strict in (True, False):
    try:
        other.load_state_dict(network.state_dict(), strict=strict)
    except RuntimeError as error:
        complaints.append(str(error).strip().splitlines()[-1].strip())
fitting = {n: t for n, t in network.state_dict().items() if t.shape == other.state_dict()[n].shape}
report = other.load_state_dict(fitting, strict=False)
print(f"  {complaints[-1][:100]}\n  loaded {list(fitting)}, reported as missing {report.missing_keys}")

# %% [markdown]
# ## A program without our code · 不依赖源码的程序
#
# A state needs the class that it belongs to. `torch.export` records the operations themselves, for any batch size, so
# that the file runs without the Python that defined it. (The capstones' `export` goes on to ONNX, which runs without
# torch.) torch.export 记录运算本身，不再需要定义网络的代码。

# %%
network.eval()
batch_axis = {0: torch.export.Dim("batch")}
program = torch.export.export(network, (images[:4],), dynamic_shapes=(batch_axis,))
torch.export.save(program, folder / "network.pt2")
restored = torch.export.load(folder / "network.pt2").module()
operations = [node.target.__name__ for node in program.graph.nodes if node.op == "call_function"]
print("  recorded:", ", ".join(operations))
with torch.no_grad():
    exported_logits, logits = restored(images[:33]), network(images[:33])

# %% [markdown]
# ## What holds · 结论

# %%
check_close("a tensor read by hand from the file is the network's", by_hand, new_network().state_dict()["4.bias"], 0)
check_close("one row can be read without the rest", row, new_network().state_dict()["1.weight"][5], 0)
check(
    "opening a pickle ran what the file said; weights_only=True refused",
    created_by_pickle and refusal and not created_by_safe_load,
)
check("what a pickle would call can be read without calling it", len(would_call) >= 1)
check("a resume with the whole state is exact, bit for bit", (apart["nothing"] == 0).all())
check("without any one part of it, it is not", all((apart[part] > 0).any() for part in parts[1:]))
check(
    "one flipped bit is found, and the checkpoint before it is used",
    "damaged" in found and path.name == "step-00000020" and said,
)
check(
    "shapes that differ are refused, strict or not",
    len(complaints) == 2 and report.missing_keys == ["4.weight", "4.bias"],
)
check_close("the exported program gives the same logits at another batch size", exported_logits, logits)
temporary.cleanup()

# %% [markdown]
# ## The project of this phase · 本阶段的实战项目
#
# Phase 3 ends with a classifier of handwritten digits: training that resumes from checkpoints bit for bit,
# evaluation with confidence intervals, export to ONNX, and a page to draw on.
#
# 第 3 阶段以手写数字分类收尾：可精确续训的训练、带置信区间的评估、导出 ONNX，以及一个可以手写的网页。
#
# ```bash
# uv run --package mnist-classifier train
# ```
