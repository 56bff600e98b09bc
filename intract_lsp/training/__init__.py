"""Fine-tuning on the open project: data, training, evaluation, the gate, adapters."""
