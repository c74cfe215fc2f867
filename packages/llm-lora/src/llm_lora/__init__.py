"""llm-lora: a language model is taught to answer, by adapters that are a fiftieth of its size."""
