"""llm-lora: a language model is taught to answer, by adapters that are one hundredth of its size."""
