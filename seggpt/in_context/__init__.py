"""The in-context model: examples and a query on a frozen encoder, matched and painted."""
