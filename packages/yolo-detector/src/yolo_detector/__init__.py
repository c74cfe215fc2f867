"""Object detection with YOLOv8, trained from scratch."""
