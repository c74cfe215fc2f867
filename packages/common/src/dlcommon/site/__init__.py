"""The documentation site: lessons with what they show, documents, capstones, results and an API reference."""
