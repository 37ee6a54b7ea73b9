"""The work of each verb, imported after its arguments are checked."""
