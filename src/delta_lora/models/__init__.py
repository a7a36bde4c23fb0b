"""Model loading, and GPT-2's fused attention projection split and fused again."""
