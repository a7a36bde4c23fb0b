"""The fine-tuning methods: one short module each, all implementing `delta_lora.methods.base.Method`."""
