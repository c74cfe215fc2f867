"""Says where a classifier has learnt nothing that its test set could show."""

from dlcommon.runtime.evaluation.result import Evaluation


def chance_remark(evaluation: Evaluation) -> str | None:
    """Compares a classifier's accuracy with that of always giving the most frequent answer.

    Returns:
        A sentence, where that answer's accuracy lies within the interval of the model's or above; else None.
    """
    matrix, low_high = evaluation.tables.get("confusion"), evaluation.intervals.get("accuracy")
    if matrix is None or low_high is None or "accuracy" not in evaluation.metrics:
        return None
    support = [sum(row) for row in matrix]  # rows are true classes
    most = max(range(len(support)), key=support.__getitem__)
    share = support[most] / sum(support)
    if low_high[0] > share:
        return None
    accuracy, answer = evaluation.metrics["accuracy"], evaluation.tables["classes"][most]
    return (
        f"NO BETTER THAN CHANCE: an accuracy of {accuracy:.4f} cannot be told from the {share:.4f} of always answering "
        f"{answer!r}; train longer, or look for what went wrong"
    )
