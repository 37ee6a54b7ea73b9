"""Views of data sets: photos, pasted things and drawn families, and the plan of a cache."""
