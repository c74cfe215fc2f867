"""A capstone whose network need not be trained: `train`, `eval` and `export` are tested with it. It is not served."""
