"""The test kit: the contract that every capstone's tests call."""
