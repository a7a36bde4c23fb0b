"""The fine-tuning methods: one short module each, all implementing :class:`delta_lora.methods.base.Method`."""
