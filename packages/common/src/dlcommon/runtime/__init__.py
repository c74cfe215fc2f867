"""What every capstone stands on: commands, runs, data, export and serving."""
