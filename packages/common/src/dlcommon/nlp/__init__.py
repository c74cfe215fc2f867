"""Natural language processing: word vectors, tagging, reading, adapters (phase 11 of the course)."""
