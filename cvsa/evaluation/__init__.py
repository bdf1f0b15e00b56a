"""What a trained backbone is worth: fine-tuning, probes."""
