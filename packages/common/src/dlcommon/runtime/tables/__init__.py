"""What capstones on tables share: what a column holds, rows that users send, what moved an answer."""
