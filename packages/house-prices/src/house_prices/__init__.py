"""What a house in Ames sells for, between which bounds, and why."""
