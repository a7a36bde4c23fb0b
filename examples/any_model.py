"""Delta-LoRA on any causal language model: here a small Llama from a configuration, on the bytes of a text file.

python examples/any_model.py README.md
"""

import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from delta_lora import DeltaLora

text = torch.tensor(list(Path(sys.argv[1]).read_bytes()))
config = LlamaConfig(vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
torch.manual_seed(0)
base = AutoModelForCausalLM.from_config(config)
base.save_pretrained("outputs/any-model/base")

# This base knows nothing yet, so its output layer is trained too; a pretrained one needs no modules_to_save.
# alpha = r: after step K everything moves (1 + λ) times as far (docs/delta-lora.md, Choosing λ, K, α).
adapter = LoraConfig(r=4, lora_alpha=4, target_modules="all-linear", modules_to_save=["lm_head"])
model = get_peft_model(base, adapter)
delta = DeltaLora(model, update_ratio=2.0, start_steps=50)  # one line here …
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
losses = []
for step in range(1, 201):
    starts = torch.randint(len(text) - 32, (8, 1))
    batch = text[starts + torch.arange(32)]
    loss = model(input_ids=batch, labels=batch).loss
    loss.backward()
    optimizer.step()
    delta.step()  # … and one after every optimizer step
    optimizer.zero_grad()
    losses.append(loss.item())
    if step % 50 == 0:
        print(f"step {step}: mean loss of the last 20 steps {sum(losses[-20:]) / 20:.3f}")

delta.export("outputs/any-model/adapter")  # rank 2r = 8, for stock PEFT over the untouched base
stock = PeftModel.from_pretrained(
    AutoModelForCausalLM.from_pretrained("outputs/any-model/base"), "outputs/any-model/adapter"
)
print("largest difference of logits:", (stock(batch).logits - model(batch).logits).abs().max().item())
