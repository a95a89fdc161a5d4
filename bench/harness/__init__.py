"""The parts of bench/dispatch: one module per idea, see bench/README.md."""
