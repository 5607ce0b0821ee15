"""What a run costs: time, power, memory, utilisation, over models, batches and devices."""
