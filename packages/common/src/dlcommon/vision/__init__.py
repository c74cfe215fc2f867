"""Computer vision: detection, segmentation, pose and faces (phase 10 of the course)."""
