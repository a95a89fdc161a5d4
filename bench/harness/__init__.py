"""The parts of the benches: one module per idea, see bench/README.md."""
