"""Points, boxes and earlier masks: checks, predictions, and corrections of a result."""
