# %% [markdown]
# # Bidirectional networks · 双向循环网络
#
# Where the whole sequence is there before the answer is due, nothing forces a network to read from the left only. A
# bidirectional one is two: one reads forwards, one backwards, and at every step both states lie side by side (Schuster
# & Paliwal 1997). With sequences of different lengths the backward one must start at each sequence's own end, not in
# the padding: that is what lengths ("packed sequences") are for.
#
# The experiment is word segmentation, which Chinese needs and English can be made to need: all spaces are taken out of
# real text, and the network says after which letters there was one. "the" followed by "re" is not a word's end, and
# only the right-hand side tells.
#
# 如果在给出答案之前整个序列都已可见，就没有理由只从左往右读。双向网络由两个网络组成：一个向前读，一个向后读，
# 每一步把两个状态并排放在一起。序列长度不同时，反向网络必须从各序列自己的末尾开始，而不是从填充处开始，
# 这正是长度信息（packed sequence）的用途。实验是分词（中文天然需要，英文可以人为制造）：
# 去掉真实文本中的所有空格，让网络判断哪些字母之后曾有空格，这往往要看右边的内容才能知道。

# %%
import re

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.rnn.recurrent import GRU, LSTM
from torch import nn
from torch.nn import functional as F

random = torch.Generator().manual_seed(0)

# %% [markdown]
# ## The same as torch's, padding or not · 与 torch 一致

# %%
reference = nn.LSTM(5, 7, num_layers=2, bidirectional=True, batch_first=True).double()
ours = LSTM(5, 7, num_layers=2, bidirectional=True, fused=False).double()
ours.load_state_dict(reference.state_dict())
x, lengths = torch.randn(3, 9, 5, generator=random, dtype=torch.float64), torch.tensor([6, 9, 2])
outputs, (hidden, _) = ours(x, lengths=lengths)
packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
packed_outputs, (expected_hidden, _) = reference(packed)
expected, _ = nn.utils.rnn.pad_packed_sequence(packed_outputs, batch_first=True)
alone, _ = ours(x[:1, :6])
unaware, _ = ours(x)  # the backward network wades through the padding first

# %% [markdown]
# ## Words without spaces · 没有空格的文字
#
# Lines of real text, letters only. The target at each letter is 1 where a space followed.

# %%
text = data("tinyshakespeare", "python-manual")


def lines_of(part, count):
    """The first `count` lines of 20 to 60 letters and spaces, in lower case."""
    lines = (" ".join(re.findall("[a-z]+", line.lower())) for line in part.split("\n"))
    return [line for line in lines if 20 <= len(line) <= 60 and " " in line][:count]


def tensors(lines):
    """Letters int64 [lines, letters], 0 after the end; lengths [lines]; whether a word ends, float [lines, letters]."""
    letters = [torch.tensor([ord(letter) - 96 for letter in line if letter != " "]) for line in lines]
    ends = [
        torch.tensor([float(after == " ") for letter, after in zip(line, line[1:] + ".", strict=True) if letter != " "])
        for line in lines
    ]
    return (
        nn.utils.rnn.pad_sequence(letters, batch_first=True),
        torch.tensor([len(row) for row in letters]),
        nn.utils.rnn.pad_sequence(ends, batch_first=True),
    )


train_letters, train_lengths, train_ends = tensors(lines_of(text.train, 6000))
test_lines = lines_of(text.test, 300)
test_letters, test_lengths, test_ends = tensors(test_lines)


# %%
def segment(recurrent, backwards=False, updates=90):
    """Trains to mark the ends of words; returns a function from letters and lengths to scores [lines, letters]."""
    draws = torch.Generator().manual_seed(1)
    embedding, head = nn.Embedding(27, 24), nn.Linear(recurrent.hidden_size * recurrent.num_directions, 1)
    parameters = [*embedding.parameters(), *recurrent.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)

    def turned(rows, lengths):
        """Each row back to front, its padding left where it is."""
        places = torch.arange(rows.shape[1]).expand(rows.shape)
        return rows.gather(1, torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places))

    def score(letters, lengths):
        read = turned(letters, lengths) if backwards else letters
        scores = head(recurrent(embedding(read), lengths=lengths)[0]).squeeze(2)
        return turned(scores, lengths) if backwards else scores

    for _ in range(updates):
        batch = torch.randint(len(train_letters), (40,), generator=draws)
        inside = train_letters[batch] > 0
        loss = F.binary_cross_entropy_with_logits(
            score(train_letters[batch], train_lengths[batch])[inside], train_ends[batch][inside]
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return score


def measures(score):
    """Precision, recall and F1 of the ends found in the test lines."""
    with torch.no_grad():
        inside = test_letters > 0
        found, true = (score(test_letters, test_lengths)[inside] > 0).float(), test_ends[inside]
    hits = (found * true).sum()
    precision, recall = (hits / found.sum()).item(), (hits / true.sum()).item()
    return precision, recall, 2 * precision * recall / (precision + recall)


one_way, both_ways = GRU(24, 68), GRU(24, 45, bidirectional=True)
readers = {
    "from the left": segment(one_way),
    "from the right": segment(GRU(24, 68), backwards=True),
    "both": segment(both_ways),
}
sizes = [sum(parameter.numel() for parameter in network.parameters()) for network in (one_way, both_ways)]
print(f"  weights: {sizes[0]:,} one way, {sizes[1]:,} both ways")
scores = {name: measures(score) for name, score in readers.items()}
table(("reads", "precision", "recall", "F1"), [(name, *values) for name, values in scores.items()])

# %% [markdown]
# ## One line under all three · 同一行的三种读法

# %%
row = next(number for number, line in enumerate(test_lines) if len(line) > 45)
length = int(test_lengths[row])
with torch.no_grad():
    marks = [score(test_letters[row : row + 1], test_lengths[row : row + 1])[0, :length] for score in readers.values()]
fig, axes = plt.subplots(2, 1, figsize=(13, 5.5), height_ratios=(1.3, 1), layout="constrained")
image = axes[0].imshow(torch.stack(marks).sigmoid().numpy(), aspect="auto", cmap="Blues", vmin=0, vmax=1)
axes[0].set_xticks(range(length), [chr(96 + int(letter)) for letter in test_letters[row, :length]], family="monospace")
axes[0].set_yticks(range(3), readers)
for place in test_ends[row, :length].nonzero().flatten().tolist():
    axes[0].axvline(place + 0.5, color="tab:red", linewidth=1)
axes[0].set_title("Probability that a word ends after this letter (true ends in red)")
fig.colorbar(image, ax=axes[0])
axes[1].barh(list(readers), [values[2] for values in scores.values()], color=["tab:gray", "tab:gray", "tab:blue"])
axes[1].set(xlim=(0, 1), xlabel="F1 on held-out lines", title="What follows tells more than what came before")
show(fig, "segmentation")

# %%
check_close("outputs equal torch.nn.LSTM's, both directions, two layers, packed", outputs, expected, 1e-10)
check_close("and the states at both ends", hidden, expected_hidden, 1e-10)
check_close("a sequence in a padded batch is read as if it were alone", outputs[0, :6], alone[0], 1e-12)
check("without its length it is not", (unaware[0, :6] - alone[0]).abs().max() > 1e-3)
both, left, right = (scores[name][2] for name in ("both", "from the left", "from the right"))
check("what follows tells more about a word's end than what came before", right > left + 0.05)
check("reading both ways finds more than either", both > max(left, right) + 0.01)
check("with no more weights", sizes[1] <= sizes[0])
check("it finds most of them", both > 0.7)
