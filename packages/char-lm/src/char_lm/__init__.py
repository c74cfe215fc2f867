"""Language models that learn a text character by character, and write along with you."""
