"""Files in, answers out: what `predict` reads, computes and writes."""
