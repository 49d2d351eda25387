"""Steps that train: fine-tuning and distillation."""
